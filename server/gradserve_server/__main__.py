"""`python -m gradserve_server REPOSITORY`: the same as `gradserve serve`."""

import argparse
import sys
from collections.abc import Sequence

from gradserve.errors import GradserveError
from gradserve_server.config import EngineConfig, LogConfig, ServerConfig
from gradserve_server.engine import Engine
from gradserve_server.rpc import logs
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.listening import check_exposure
from gradserve_server.runtime.freed_memory import keep_freed_memory
from gradserve_server.settings import SettingsError, add_flags, from_flags, parse
from gradserve_server.stopping import StoppedLoading, stop_signals

_EPILOG = """\
REPOSITORY is a folder in Triton's layout, <repository>/<model>/[config.pbtxt]/<version>/model.onnx, the folder of one such
model, or a single .onnx file, which is then a model named after it.

Once every model is loaded, the last line on standard output is `listening on HOST:PORT`. SIGTERM or Ctrl-C lets the running
calls finish, for as long as --drain-seconds says, ends ascents that need longer with a checkpoint, and exits with 0. A
second one ends at once.

examples:
  %(prog)s models
  %(prog)s resnet50.onnx --port 9000
  %(prog)s models --host 0.0.0.0 --tls-certificate server.pem --tls-key server.key --tokens-file tokens
  %(prog)s models --config server.toml
"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m gradserve_server") -> int:
    """Serves until it is told to stop.

    Args:
        arguments: Of the command line; by default this process's own.
        prog: What the user typed, for the help.

    Returns:
        The exit code: 0; 1 after an error, which is on standard error; 130 after Ctrl-C while the models were loading.
    """
    try:
        options = parse(_parser(prog), sys.argv[1:] if arguments is None else arguments)
        logs.configure(from_flags(LogConfig, options))
        serve(options.repository, from_flags(EngineConfig, options), from_flags(ServerConfig, options))
    except (GradserveError, SettingsError, OSError) as error:
        sys.stderr.write(f"gradserve: error: {error}\n")
        return 1
    except StoppedLoading as stopped:
        return stopped.exit_code
    return 0


def serve(repository: str, engine_config: EngineConfig, server_config: ServerConfig) -> None:
    """Loads the models of a repository and serves them until SIGTERM or SIGINT.

    Raises:
        GradserveError: A model that cannot be served, or none.
        SettingsError: Settings that cannot be used, or would let others in by accident.
        OSError: The address cannot be bound.
    """
    check_exposure(server_config)  # before the models load, which may take minutes
    keep_freed_memory()
    with stop_signals() as signals, Engine(repository, config=engine_config) as engine:
        signals.finish_first()
        with Server(engine, server_config) as server:
            metrics = [f"metrics on http://{server.metrics_address}/metrics"] if server.metrics_address else []
            _say(*_models(engine), *metrics, f"listening on {server.address}")
            signals.wait()
            _say(f"stopping: running calls have {server_config.drain_seconds:g} s to finish")
        _say("stopped")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve the models of a repository over gRPC: predictions, gradients and ascents.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repository", metavar="REPOSITORY", help="folder of models, folder of one model, or .onnx file")
    add_flags(parser, EngineConfig, ServerConfig, LogConfig)
    return parser


def _models(engine: Engine) -> list[str]:
    """A line for each model."""
    latest = {model.name: model.description for model in engine.versions}
    width = max(map(len, latest), default=0)
    lines = []
    for name, description in latest.items():
        inputs, outputs = (
            ", ".join(f"{t.name} {t.dtype} [{','.join('?' if d is None else str(d) for d in t.shape)}]" for t in side)
            for side in (description.inputs, description.outputs)
        )
        lines.append(f"{name:{width}}  version {description.version}  {inputs} -> {outputs}")
    return lines


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
