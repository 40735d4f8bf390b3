"""`gradserve ready`: is a server, or a model on it, ready? For scripts, and for the health check of a container."""

import argparse
import time

from gradserve import Client
from gradserve.cli import console, server
from gradserve.errors import CallError, GradserveError, ModelNotFound, ServerUnavailable

_PAUSE = 0.5
"""Seconds between two questions."""

_EPILOG = """\
Asks the standard health service (grpc.health.v1). Exit code 0: ready; 1: it answers that it is not; 3: nobody answers.

examples:
  gradserve ready
  gradserve ready digits --server localhost:8001 --wait 60
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "ready",
        help="ask whether a server is ready",
        description="Ask whether a server is ready.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)
    option = parser.add_argument
    option("model", nargs="?", default="", metavar="MODEL[/VERSION]", help="one of its models (default: the whole server)")
    option("--wait", type=float, default=0.0, metavar="SECONDS", help="wait for it so long (default: %(default)g)")
    option("--timeout", type=float, default=5.0, metavar="SECONDS", help="for each answer (default: %(default)g)")
    server.add_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    until = time.monotonic() + arguments.wait
    with server.connect(arguments, timeout=arguments.timeout) as client:
        while True:
            problem = _problem(client, arguments)
            if problem is None:
                break
            if time.monotonic() >= until:
                raise problem
            time.sleep(_PAUSE)
    console.note(f"{arguments.model or 'the server'} at {server.address(arguments)} is ready")


def _problem(client: Client, arguments: argparse.Namespace) -> GradserveError | None:
    try:
        if client.is_ready(arguments.model):
            return None
    except ModelNotFound:
        return ModelNotFound(f"the server at {server.address(arguments)} has no model '{arguments.model}'")
    except CallError as error:
        return ServerUnavailable(f"no server answers at {server.address(arguments)}: {error}")
    return GradserveError(f"{arguments.model or 'the server'} at {server.address(arguments)} is not ready")
