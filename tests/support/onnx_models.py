"""Small models, written in ONNX's text form."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

BATCHNORM = "BatchNormalization(h, gain, offset, mean, variance)"


def build(
    body: str,
    *,
    inputs: str = "float[N,3,4,4] x",
    outputs: str = "float[N,?,?,?] y",
    opset: int = 17,
    ir_version: int = 8,
    weights: Mapping[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A model of one graph."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
    model = onnx.parser.parse_model(f"{header} test ({inputs}) => ({outputs}) {{ {body} }}")
    for name, array in (weights or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Writes a model, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Normally distributed."""
    return np.asarray(np.random.default_rng([seed, *shape]).normal(size=shape)).astype(dtype)


def trained(*shape: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Parameters of a BatchNormalization that has seen data: every channel has another scale, shift and statistic."""
    uniform = np.random.default_rng([1, *shape]).uniform
    gain, offset = uniform(0.5, 2, shape), uniform(-1, 1, shape)
    mean, variance = uniform(-3, 3, shape), uniform(0.2, 5, shape)
    parameters = {"gain": gain, "offset": offset, "mean": mean, "variance": variance}
    return {name: array.astype(dtype) for name, array in parameters.items()}


def untrained(channels: int) -> dict[str, np.ndarray]:
    """Parameters of a BatchNormalization that has seen no data."""
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return {"gain": ones, "offset": zeros, "mean": zeros.copy(), "variance": ones.copy()}
