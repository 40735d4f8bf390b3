"""Exports a probed network to ONNX by either of torch's exporters, silently."""

import contextlib
import enum
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir
import torch
from torch import Tensor

from .probe import Probed


class Exporter(enum.StrEnum):
    """Torch's two exporters: the old one traces TorchScript, the new one decomposes a torch.export program."""

    TORCHSCRIPT = "torchscript"
    DYNAMO = "dynamo"


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path: Where it is. Its outputs are named logits, middle (and embedding); its inputs as the module's.
        opset: The version of the standard operators in it.
        batch_is_symbolic: Whether every input's axis 0 is symbolic.
        operators: The types of its nodes, "domain::Type" outside the standard domain; subgraphs and functions counted.
    """

    path: Path
    opset: int
    batch_is_symbolic: bool
    operators: frozenset[str]


def export(
    module: Probed,
    inputs: dict[str, Tensor],
    path: Path,
    exporter: Exporter,
    opset: int,
    *,
    constant_folding: bool = True,
    dynamic_batch: bool = True,
) -> Exported:
    """Exports to one file, with the batch axis dynamic.

    Args:
        module: The network.
        inputs: Its inputs by name, a batch of 2 or more.
        path: The file to write.
        exporter: Which of torch's exporters.
        opset: The version of the standard operators: 9 to 20 for TorchScript, 18 or more for dynamo.
        constant_folding: Whether the exporter folds constants and optimizes (BatchNorm into convolutions, for one).
        dynamic_batch: False leaves the batch size fixed at that of the inputs.

    Raises:
        ValueError: The file does not have `middle` or `embedding` as a value that later nodes consume.
    """
    arguments = tuple(inputs.values())
    names = list(inputs)
    with silence(), torch.no_grad():
        if exporter is Exporter.TORCHSCRIPT:
            every = [*names, *module.output_names]
            torch.onnx.export(
                module,
                arguments,
                str(path),
                dynamo=False,
                opset_version=opset,
                do_constant_folding=constant_folding,
                input_names=names,
                output_names=list(module.output_names),
                dynamic_axes={name: {0: "batch"} for name in every} if dynamic_batch else None,
            )
        else:
            batch = torch.export.Dim.AUTO
            torch.onnx.export(
                module,
                arguments,
                str(path),
                dynamo=True,
                opset_version=opset,
                optimize=constant_folding,
                input_names=names,
                output_names=list(module.output_names),
                dynamic_shapes=(tuple({0: batch} for _ in names),) if dynamic_batch else None,
                external_data=False,
                verbose=False,
            )
    return inspect(path)


def inspect(path: Path) -> Exported:
    """Reads back what an exported file has become."""
    model = onnx_ir.load(path)
    for output in model.graph.outputs[1:]:
        if not output.uses():
            message = f"{path.name}: no node consumes {output.name}: it is a copy of what the network goes on with"
            raise ValueError(message)
    nodes = [node for graph in (model.graph, *model.functions.values()) for node in graph.all_nodes()]
    return Exported(
        path=path,
        opset=model.opset_imports[""],
        batch_is_symbolic=all(
            isinstance(value.shape[0], onnx_ir.SymbolicDim) for value in model.graph.inputs if value.shape
        ),
        operators=frozenset(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in nodes),
    )


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps the exporters' prints, warnings and logs to themselves; those of torch's C++ too, so the descriptors turn."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            yield
    finally:
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        logging.disable(disabled)
