"""A network as a file, and how much there is to compute in it."""

import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from .suite import Subject

OPSET = 18


def export(subject: Subject, folder: Path) -> Path:
    """Writes the network as ONNX, as torch exports it, with a symbolic batch size."""
    from zoo.export import silence

    path = folder / "model.onnx"
    with silence(), torch.no_grad():
        torch.onnx.export(
            subject.network(),
            (subject.sample(2),),
            str(path),
            input_names=[subject.input],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim.AUTO},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


def gradient_flops(subject: Subject) -> float:
    """Floating-point operations of one sample's forward and input gradient: products of convolutions and matrices."""
    network, x = subject.network(), subject.sample(1).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        network(x)[:, 0].sum().backward()
    return float(counter.get_total_flops())


def matrix_multiply_rate(threads: int, size: int = 2048) -> float:
    """Floating-point operations per second of torch.mm, the median of some."""
    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    rates = []
    for _ in range(15):
        started = time.perf_counter()
        torch.mm(a, b)
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return statistics.median(rates)
