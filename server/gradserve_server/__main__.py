"""`python -m gradserve_server REPOSITORY`: the same as `gradserve serve`."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields
from types import FrameType
from typing import Any

from gradserve.errors import GradserveError
from gradserve_server.config import EngineConfig, ServerConfig
from gradserve_server.engine import Engine
from gradserve_server.graph.derivatives import Backend
from gradserve_server.rpc.app import Server
from gradserve_server.runtime.device import Device

_MIB = 1024 * 1024
_METRICS_PORT = 8002  # Triton's
_LEVELS = ("debug", "info", "warning", "error")

_EPILOG = """\
REPOSITORY is a folder in Triton's layout, <repository>/<model>/[config.pbtxt]/<version>/model.onnx, the folder of one such
model, or a single .onnx file, which is then a model named after it.

Once every model is loaded, the last line on standard output is `listening on HOST:PORT`. SIGTERM or Ctrl-C lets the running
calls finish, for as long as --drain-seconds says, and ends with exit code 0; a second one ends at once.

examples:
  %(prog)s models
  %(prog)s resnet50.onnx --port 9000
  %(prog)s models --host 0.0.0.0 --threads 4 --log-level info
"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m gradserve_server") -> int:
    """Serves until it is told to stop.

    Args:
        arguments: Of the command line; by default this process's own.
        prog: What the user typed, for the help.

    Returns:
        The exit code: 0, or 1 after an error, which is on standard error.
    """
    options = _parser(prog).parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        serve(options.repository, _config(EngineConfig, options), _config(ServerConfig, options))
    except (GradserveError, OSError) as error:
        sys.stderr.write(f"gradserve: error: {error}\n")
        return 1
    except KeyboardInterrupt:  # while the models were loading
        return 130
    return 0


def serve(repository: str, engine_config: EngineConfig, server_config: ServerConfig) -> None:
    """Loads the models of a repository and serves them until SIGTERM or SIGINT.

    Raises:
        GradserveError: A model that cannot be served, or none.
        OSError: The address cannot be bound.
    """
    stop = threading.Event()

    def stop_gently(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    with Engine(repository, config=engine_config) as engine:
        with Server(engine, server_config) as server:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, stop_gently)
            metrics = [f"metrics on http://{server.metrics_address}/metrics"] if server.metrics_address else []
            _say(*_models(engine), *metrics, f"listening on {server.address}")
            stop.wait()
            _say(f"stopping: running calls have {server_config.drain_seconds:g} s to finish")
        _say("stopped")


def _parser(prog: str) -> argparse.ArgumentParser:
    engine, server = EngineConfig(), ServerConfig()
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve the models of a repository over gRPC: predictions, gradients and ascents.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repository", metavar="REPOSITORY", help="folder of models, folder of one model, or .onnx file")
    option = parser.add_argument
    option("--host", default=server.host, metavar="ADDRESS", help="address to bind (default: %(default)s)")
    option("--port", type=_whole, default=server.port, help="port to bind; 0 takes a free one (default: %(default)s)")
    option(
        "--metrics-host", default=server.metrics_host, metavar="ADDRESS", help="address for metrics (default: %(default)s)"
    )
    metrics = parser.add_mutually_exclusive_group()
    metrics.add_argument(
        "--metrics-port",
        type=_whole,
        default=_METRICS_PORT,
        metavar="PORT",
        help="port for metrics, http://ADDRESS:PORT/metrics; 0 takes a free one (default: %(default)s)",
    )
    metrics.add_argument("--no-metrics", dest="metrics_port", action="store_const", const=None, help="serve no metrics")
    option(
        "--threads",
        type=_whole,
        default=engine.threads,
        metavar="N",
        help="threads that share one run of a model (default: the cores of this process, here %(default)s)",
    )
    option(
        "--device",
        choices=[str(device) for device in Device],
        default=engine.device,
        help="where models run; cuda needs gradserve-server[gpu] (default: %(default)s)",
    )
    option(
        "--backend",
        choices=[str(backend) for backend in Backend],
        default=engine.backend,
        help="who makes the gradients: training where it can and else portable, or only one (default: %(default)s)",
    )
    option(
        "--straight-through",
        action="store_true",
        help="differentiate quantized models as if quantization rounded nothing (default: such gradients are refused)",
    )
    option(
        "--max-batch",
        type=_whole,
        default=engine.max_batch,
        metavar="N",
        help="samples of different callers that run as one batch; 1: each runs alone (default: %(default)s)",
    )
    option(
        "--max-queue",
        type=_whole,
        default=engine.max_queue,
        metavar="N",
        help="runs that wait for the device at a time; one more is refused (default: %(default)s)",
    )
    option(
        "--max-message-mib",
        dest="max_message_bytes",
        type=lambda text: _whole(text) * _MIB,
        default=server.max_message_bytes,
        metavar="MIB",
        help=f"largest message either way, in MiB (default: {server.max_message_bytes // _MIB})",
    )
    option(
        "--max-ascents",
        type=_whole,
        default=server.max_ascents,
        metavar="N",
        help="ascents at a time; one more is refused (default: %(default)s)",
    )
    option(
        "--max-streams",
        type=_whole,
        default=server.max_streams,
        metavar="N",
        help="streams of predictions open at a time; one more is refused (default: %(default)s)",
    )
    option(
        "--max-calls",
        type=_whole,
        default=server.max_calls,
        metavar="N",
        help="other calls at a time; more wait (default: %(default)s)",
    )
    option(
        "--drain-seconds",
        type=float,
        default=server.drain_seconds,
        metavar="S",
        help="seconds that running calls have to finish after SIGTERM (default: %(default)g)",
    )
    option("--log-level", choices=_LEVELS, default="warning", help="how much to log (default: %(default)s)")
    return parser


def _config(cls: type[Any], options: argparse.Namespace) -> Any:
    given = vars(options)
    return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})


def _whole(text: str) -> int:
    if not text.isdecimal():
        msg = f"expected a whole number of 0 or more, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _models(engine: Engine) -> list[str]:
    """A line for each model."""
    width = max(map(len, engine.models))
    lines = []
    for name in engine.models:
        description = engine.inspect(name)
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
