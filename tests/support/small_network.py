"""The small network that the gallery's models are: healthy, unless something in it is replaced."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from support.onnx_models import build, random

CHANNELS = 8
X = "float[N,3,8,8] x"
DESCRIBED = {"gradserve.input.x.mean": "0.5", "gradserve.input.x.std": "0.25"}


@dataclass
class Network:
    """The healthy network, changed: Conv, Relu, something, pool, Gemm."""

    something: str = "s = Identity(r)"
    lead: str = "i = Identity(x)"
    tail: str = "y = Identity(l)"
    inputs: str = X
    outputs: str = "float[N,4] y"
    opset: int = 17
    ir_version: int = 8
    metadata: Mapping[str, str] = field(default_factory=lambda: DESCRIBED)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    def make(self) -> onnx.ModelProto:
        gemm = "Gemm<broadcast=1, transB=1>" if self.opset < 7 else "Gemm<transB=1>"
        body = f"""
            {self.lead}
            c = Conv<pads=[1, 1, 1, 1]>(i, w, b)
            r = Relu(c)
            {self.something}
            p = GlobalAveragePool(s)
            f = Flatten(p)
            l = {gemm}(f, v, u)
            {self.tail}
        """
        weights = {
            "w": random(CHANNELS, 3, 3, 3) / np.float32(5),
            "b": random(CHANNELS, seed=1) / np.float32(5),
            "v": random(4, CHANNELS, seed=2),
            "u": random(4, seed=3),
        } | dict(self.weights)
        model = build(
            body, inputs=self.inputs, outputs=self.outputs, opset=self.opset, ir_version=self.ir_version, weights=weights
        )
        onnx.helper.set_model_props(model, dict(self.metadata))
        if self.ir_version < 4:  # there, every initializer is an input too
            for tensor in model.graph.initializer:
                model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        return model


def healthy(opset: int = 17) -> onnx.ModelProto:
    """Nothing wrong with it."""
    return Network(opset=opset).make()


def pictures(count: int = 16, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Data that the description allows."""
    return {"x": (np.random.default_rng(5).uniform(-2, 2, (count, 3, 8, 8)) * scale).astype(np.float32)}
