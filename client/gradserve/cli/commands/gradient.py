"""`gradserve gradient`: what an input would have to change for an objective to grow."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import GradientResult, ModelDescription, TensorDescription, images
from gradserve.cli import console, inputs, options, targets
from gradserve.cli.backend import open_model
from gradserve.errors import InvalidTensor

_EPILOG = f"""\
{options.OBJECTIVES}
{options.PICTURES}
A gradient as .png: each picture beside its gradient, where white is 0. For one channel red is "brighter raises the
objective" and blue "brighter lowers it"; for several, purple is the largest magnitude among them.

examples:
  gradserve gradient models/digits --objective logits:7 --image seven.png -o why_seven.png
  gradserve gradient digits --server localhost:8001 --objective 'relu3:4^2' --image *.png -o relu3.npz
  gradserve gradient model.onnx --objective y:0 --input x=batch.npy --json
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = options.add_command(
        commands,
        "gradient",
        _run,
        purpose="differentiate an objective with respect to the input, for each sample",
        epilog=_EPILOG,
        required="--objective LAYER[:INDEX] ",
    )
    parser.add_argument("--objective", required=True, metavar="LAYER[:INDEX]", help="what to differentiate; see below")
    options.add_inputs(parser)
    parser.add_argument(
        "--wrt",
        metavar="NAME",
        help="the input to differentiate with respect to (default: every float input the objective depends on)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=options.output_file(".png", ".npz"),
        metavar="FILE",
        help="write the gradient: .png to look at; .npz with `values` [N] and `gradients.NAME` for each input",
    )
    options.add_json(parser)
    options.add_describe(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        version = arguments.model_version
        description = verbs.inspect(name, version=version)
        given = inputs.read(description, arguments.image, arguments.input)
        (objective,) = targets.parse(verbs, name, version, [arguments.objective])
        wrt = [arguments.wrt] if arguments.wrt else []
        result = verbs.gradient(name, given.arrays, objective, wrt=wrt, version=version)
    if arguments.output:
        _write(arguments.output, description, given, result)
    samples = [
        {
            "source": source,
            "value": value,
            "gradient_norms": {name: _norm(gradient[index]) for name, gradient in result.gradients.items()},
        }
        for index, (source, value) in enumerate(zip(_sources(given, result), result.values, strict=True))
    ]
    if arguments.json:
        console.print_json(
            {"model": name, "version": description.version, "objective": arguments.objective, "samples": samples}
        )
    else:
        norms = [f"gradient norm of {name}" for name in result.gradients]
        rows = [(sample["source"], sample["value"], *sample["gradient_norms"].values()) for sample in samples]
        title = f"{arguments.objective} of {description.name} version {description.version}"
        console.show(console.table(title, ["sample", "value", *norms], rows, right=["value", *norms]))
    if arguments.output:
        console.note(f"wrote {arguments.output}")


def _write(path: Path, description: ModelDescription, given: inputs.Inputs, result: GradientResult) -> None:
    if path.suffix.lower() == ".npz":
        arrays = {f"gradients.{name}": gradient for name, gradient in result.gradients.items()}
        np.savez(path, allow_pickle=False, values=result.values, **arrays)
        return
    tensor = _shown(description, result)
    if tensor.image is None:
        console.note(f"input '{tensor.name}' has no described range: pictures are stretched from smallest to largest value")
    tiles = [
        tile
        for source, sample, gradient, value in zip(
            _sources(given, result),
            given.arrays[tensor.name],
            result.gradients[tensor.name],
            result.values,
            strict=True,
        )
        for tile in _tiles(Path(source).name, tensor, sample, gradient, float(value))
    ]
    images.contact_sheet(tiles, columns=2 * math.ceil(math.sqrt(len(tiles) / 4))).save(path)


def _tiles(
    source: str, tensor: TensorDescription, sample: npt.NDArray[Any], gradient: npt.NDArray[Any], value: float
) -> list[tuple[images.Picture, str]]:
    """A sample, and beside it its gradient."""
    pixels = sample if tensor.image is None else tensor.image.denormalize(sample)
    scale = images.gradient_scale(gradient)
    signed = images.is_signed(gradient, tensor.image)
    return [
        (images.enlarge(images.to_picture(pixels, tensor.image)), f"{source}\n{console.number(value)}"),
        (
            images.enlarge(images.gradient_picture(gradient, tensor.image, scale=scale)),
            f"gradient\n±{console.number(scale)}" if signed else f"|gradient|\nup to {console.number(scale)}",
        ),
    ]


def _shown(description: ModelDescription, result: GradientResult) -> TensorDescription:
    """The input whose gradient is a picture."""
    tensors = [description.input(name) for name in result.gradients]
    pictures = [tensor for tensor in tensors if images.is_picture(result.gradients[tensor.name].shape[1:], tensor.image)]
    if len(pictures) == 1:
        return pictures[0]
    got = ", ".join(f"'{tensor.name}' {console.shape(tensor.shape)}" for tensor in tensors)
    expected = "one input of pictures with 1 or 3 channels" + ("; choose by --wrt" if pictures else "; write .npz")
    msg = f"-o: expected {expected}, got {got}"
    raise InvalidTensor(msg)


def _sources(given: inputs.Inputs, result: GradientResult) -> list[str]:
    samples = len(result.values)
    return given.sources if len(given.sources) == samples else [f"[{index}]" for index in range(samples)]


def _norm(gradient: npt.NDArray[Any]) -> float:
    return float(np.linalg.norm(gradient.astype(np.float64)))
