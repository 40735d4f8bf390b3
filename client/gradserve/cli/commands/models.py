"""`gradserve models`: which models a server has, and loading and unloading them."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict

from gradserve import Client, ModelStatus
from gradserve.cli import console, options, server
from gradserve.cli.backend import connected

_EPILOG = """\
A server loads and unloads on request if it was started with `--model-control-mode explicit`.

examples:
  gradserve models list
  gradserve models load digits --server localhost:8001
  gradserve models unload digits
  gradserve models list --json | jq '.[] | select(.state != "READY")'
"""
_MIB = 2**20

_Ask = Callable[[Client, argparse.Namespace], list[ModelStatus]]

_ACTIONS: dict[str, tuple[str, _Ask]] = {
    "list": ("show every model of the server's repository, loaded or not", lambda client, _: client.models()),
    "load": ("load a model, or load it again", lambda client, arguments: client.load(arguments.model)),
    "unload": ("unload a model; calls that run finish", lambda client, arguments: client.unload(arguments.model)),
}
"""By name: what it is for, and what it asks."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    purpose = "list, load and unload the models of a server"
    parser = commands.add_parser(
        "models",
        help=purpose,
        description=f"{purpose.capitalize()}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, (what, ask) in _ACTIONS.items():
        action = actions.add_parser(name, help=what, description=f"{what.capitalize()}.")
        action.set_defaults(run=_run, ask=ask)
        if name != "list":
            action.add_argument("model", metavar="MODEL", help="its name in the repository")
        server.add_options(action)
        options.add_json(action)


def _run(arguments: argparse.Namespace) -> None:
    with connected(arguments) as client:
        told = arguments.ask(client, arguments)
    if arguments.json:
        console.print_json([asdict(status) for status in told])
    else:
        _print(told)


def _print(told: Sequence[ModelStatus]) -> None:
    rows = [(s.name, s.version, s.state, f"{s.memory_bytes / _MIB:.1f}" if s.memory_bytes else "", s.reason) for s in told]
    console.show(console.table("", ["model", "version", "state", "MiB", "reason"], rows, right=["MiB"]))
