"""`gradserve doctor`: what is wrong with a model, in sentences, and a repaired copy of it."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gradserve import Treatment
from gradserve.cli import backend, console, options
from gradserve.cli.doctor import data, html, text
from gradserve.errors import InvalidParameter

_EPILOG = """\
data: an .npz with an array for each input as the model takes it, an .npy for a model of one input, or a folder of pictures
(for several image inputs: with a folder for each, by its name). Without, random numbers are made up: what depends on real
data (conflicts of statistics) is then not judged.

repairs: --fix writes a copy with what the findings ask for: training form switched, Dropout gone, a fixed batch opened, the
opset converted. These are made only when they are asked for by --repair:
  recalibrate   BatchNorm statistics are measured on --data
  fold          BatchNorm goes into the operator before it
  cut-softmax   the logits become the output
Each is reported with the largest change that it makes to an output. --describe writes how pixels become the input.

exit codes: 0 no error was found (with --fix: in the repaired copy), 1 an error was found, a repair of --repair could not be
made, or the command failed. Warnings do not count: in CI, `gradserve doctor model.onnx` is a step that fails where
predictions or gradients would be wrong.

examples:
  gradserve doctor model.onnx
  gradserve doctor model.onnx --data photos --html report.html
  gradserve doctor model.onnx --fix repaired.onnx --repair recalibrate --data train.npz
  gradserve doctor model.onnx --fix described.onnx --describe 'image.mean=0.485 0.456 0.406' 'image.std=0.229 0.224 0.225'
  gradserve doctor digits --server localhost:8001 --json | jq '.findings[].code'
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = options.add_command(
        commands, "doctor", _run, purpose="say what is wrong with a model, and write a repaired copy", epilog=_EPILOG
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="samples to run the model on; see below")
    parser.add_argument(
        "--fix", type=options.output_file(".onnx"), metavar="FILE", help="write a repaired copy (of a file, not on a server)"
    )
    parser.add_argument(
        "--repair", nargs="+", action="extend", default=[], metavar="NAME", help="with --fix: repairs to make too; see below"
    )
    parser.add_argument(
        "--describe",
        nargs="+",
        action="extend",
        default=[],
        type=_setting,
        metavar="INPUT.KEY=VALUE",
        help="range, mean, std, channels, layout of an input's pixels, as in config.pbtxt; with --fix written into the copy",
    )
    parser.add_argument(
        "--html", type=options.output_file(".html"), metavar="FILE", help="write a report with charts, in one file"
    )
    options.add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.fix and arguments.repair:
        msg = "--repair: expected --fix FILE, where the repaired copy goes"
        raise InvalidParameter(msg)
    treatment = _treat(arguments)
    repaired = arguments.fix is not None
    if arguments.json:
        document = asdict(treatment) if repaired else asdict(treatment.after)
        console.print_json(document)
    else:
        text.show(treatment.after)
        if repaired:
            text.show_repairs(treatment.repairs)
    if repaired:
        console.note(f"wrote {arguments.fix}; what is said above is of this file")
    if arguments.html:
        before = treatment.before if repaired else None
        arguments.html.write_text(html.page(treatment.after, before, treatment.repairs), encoding="utf-8")
        console.note(f"wrote {arguments.html}")
    refused = any(one.problem and one.repair in arguments.repair for one in treatment.repairs)
    return 1 if treatment.after.has_errors or refused else 0


def _treat(arguments: argparse.Namespace) -> Treatment:
    """Before and after; the same where nothing is repaired."""
    if not backend.is_local(arguments):
        return _ask(arguments)
    described = dict(arguments.describe)
    description = backend.describe(arguments.model, described) if arguments.data or described else None
    given = data.read(arguments.data, description) if arguments.data and description else None
    if arguments.fix:
        return backend.repair(arguments.model, arguments.fix, arguments.repair, given, described)
    images = {tensor.name: tensor.image for tensor in (description.inputs if description else ()) if tensor.image}
    found = backend.diagnose(arguments.model, given, images)
    return Treatment(found, (), found)


def _ask(arguments: argparse.Namespace) -> Treatment:
    if arguments.fix or arguments.describe:
        msg = f"model '{arguments.model}': expected a file here for --fix and --describe, got a name on a server"
        raise InvalidParameter(msg)
    with backend.connected(arguments) as client:
        given: dict[str, Any] | None = None
        if arguments.data:
            given = data.read(arguments.data, client.inspect(arguments.model, version=arguments.model_version))
        found = client.doctor(arguments.model, given, version=arguments.model_version)
    return Treatment(found, (), found)


def _setting(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (separator and value and "." in key):
        msg = f"expected INPUT.KEY=VALUE, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return key, value
