"""The parser, and what becomes of an error: exit codes and one line each."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import gradserve
from gradserve.cli import backend, console
from gradserve.cli.commands import (
    ascend,
    doctor,
    dream,
    export,
    gradient,
    gradient_graph,
    grid,
    infer,
    inspect,
    models,
    ready,
)
from gradserve.errors import GradserveError, ServerUnavailable

FAILED, UNAVAILABLE, INTERRUPTED, NOBODY_READS = 1, 3, 130, 141

_EPILOG = """\
MODEL is an .onnx file or a model's folder, run in this process, or a name on a server. Results go to standard output,
progress and messages to standard error.

exit codes: 0 done, 1 the request or the model is at fault (doctor: an error was found), 2 wrong usage, 3 no server answers,
130 interrupted

examples:
  gradserve inspect models/digits --layers
  gradserve ascend models/digits --objective 'logits:7' -o seven.png
  gradserve serve models

`gradserve COMMAND --help` explains each.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: By default this process's own.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["serve"]:  # its options are the server's
            return backend.serve(arguments[1:])
        options = _parser().parse_args(arguments)
        code: int = options.run(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # as in `gradserve inspect ... | head`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 the interpreter flushes it on its way out
        return NOBODY_READS
    except ServerUnavailable as error:
        console.fail(str(error))
        return UNAVAILABLE
    except (GradserveError, OSError) as error:
        console.fail(str(error))
        return FAILED
    except KeyboardInterrupt:
        console.note("interrupted")
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradserve",
        description="Predictions, input gradients and gradient ascents of any ONNX model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gradserve {gradserve.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("serve", help="serve the models of a repository over gRPC")
    for command in (inspect, doctor, infer, gradient, gradient_graph, ascend, grid, dream, export, models, ready):
        command.add(commands)
    return parser
