"""A network as a file, and how much there is to compute in it."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
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
    """Floating-point operations per second of a product of matrices: the median of some, by whoever is fastest here."""
    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    return max(
        statistics.median(_rates(product, 2 * size**3))
        for product in (
            lambda: torch.mm(a, b),
            lambda: a.numpy() @ b.numpy(),
            _by_onnxruntime(a.numpy(), b.numpy(), threads),
        )
    )


def _rates(product: Callable[[], object], operations: int) -> list[float]:
    rates = []
    for _ in range(15):
        started = time.perf_counter()
        product()
        rates.append(operations / (time.perf_counter() - started))
    return rates


def _by_onnxruntime(a: NDArray[np.float32], b: NDArray[np.float32], threads: int) -> Callable[[], object]:
    import onnx.parser
    import onnxruntime

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,K] a, float[K,M] b) => (float[N,M] y) { y = MatMul(a, b) }'
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a, "b": b})
