"""A case: one operator, at one combination of attributes, in ONNX's text form and as the same function in torch."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.parser
from support.runtime import TOO_OLD

FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
_NAMES = {FLOAT: "float", DOUBLE: "double"}

Drawn = dict[str, np.ndarray]


@dataclass(frozen=True)
class Draw:
    """How a float input is drawn: so that no kink lies within a difference step.

    normal: from the normal distribution, at least 0.05 away from 0. positive: uniform in [0.5, 1.5]. unit: uniform in
    [-0.9, 0.9]. distinct: a permutation of well separated values in [-2, 2], for maxima and sorting. grid: odd
    multiples of 1/24 in [-2, 2], which lie between the values and the borders of images of 2, 3 and 4 pixels.
    """

    shape: tuple[int, ...]
    how: str = "normal"

    def values(self, random: np.random.Generator) -> np.ndarray:
        """Float64."""
        size = int(np.prod(self.shape))
        normal = random.normal(size=size)
        drawn = {
            "normal": np.where(np.abs(normal) < 0.05, 0.05 + np.abs(normal), normal),
            "positive": random.uniform(0.5, 1.5, size),
            "unit": random.uniform(-0.9, 0.9, size),
            "distinct": random.permutation(size) / max(size, 1) * 4 - 2,
            "grid": (random.integers(-22, 22, size) + 0.5) / 12,
        }[self.how]
        return drawn.reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Case:
    """One operator at one combination of attributes."""

    op: str
    body: str
    """ONNX text; T stands for the float type, TYPE for its number (`Cast<to = TYPE>`). Float inputs have the names of
    `inputs`, others those of `others`; the outputs are `outputs`."""
    inputs: Mapping[str, Draw | tuple[int, ...]]
    """Float inputs, all differentiated; a shape alone draws from the normal distribution."""
    torch: Callable[..., Any]
    """The same function of the float inputs (in their order) on torch tensors: the output, or a tuple of them."""
    opsets: tuple[int, ...] = (18, 21)
    """One for each version of the operator in the table; the runtime skips what it cannot load."""
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Integer or bool inputs."""
    fixed: tuple[str, ...] = ()
    """Those of `others` whose sizes the graph always knows: shapes, axes, pads, as long as there are axes."""
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Initializers. Float64 ones take the float type."""
    outputs: tuple[str, ...] = ("Y",)
    """Float outputs that have cotangents."""
    domain: str = ""
    dynamic: tuple[str, ...] = ("none", "batch", "all")
    """How much of the inputs' shapes the graph knows: everything, all but axis 0 of each input, or only the ranks."""
    evaluator: bool = True
    """Whether onnx's reference evaluator computes the forward function rightly in float64."""
    portable_evaluator: bool = True
    """Whether it also runs the gradient graph rightly."""
    checker: bool = True
    """Whether onnx's checker takes the forward graph."""
    straight_through: bool = False
    """Quantizers pass derivatives as if they rounded nothing; no difference quotient shows that."""
    name: str = ""
    skip: str = ""
    """Why the installed onnxruntime cannot run it; empty where it can."""
    too_old: str = ""
    """Why the training wheel's onnxruntime cannot."""

    @property
    def skipped(self) -> str:
        """Why it is skipped here; empty where it is not."""
        return self.skip or (TOO_OLD and self.too_old)

    @property
    def id(self) -> str:
        """What pytest calls it."""
        return f"{self.op}-{self.name}" if self.name else self.op

    def draw(self, seed: int = 0) -> Drawn:
        """Float inputs, float64."""
        random = np.random.default_rng([seed, *map(ord, self.op)])
        return {name: (draw if isinstance(draw, Draw) else Draw(draw)).values(random) for name, draw in self.inputs.items()}

    def model(self, opset: int, *, dynamic: str = "none", dtype: int = FLOAT) -> onnx.ModelProto:
        """As a file."""
        text = self.body.replace("= TYPE", f"= {dtype}")
        text = re.sub(r"\bT(\[[\w, ]*\])?(?= (\w+ ?)?[{,)])", lambda m: f"{_NAMES[dtype]}{m[1] or ''}", text)
        domains = f'"" : {opset}' + (f', "{self.domain}" : 1' if self.domain else "")
        model = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{domains}]> g () => () {{ {text} }}")
        shapes = {name: draw.shape if isinstance(draw, Draw) else draw for name, draw in self.inputs.items()}
        for name, shape in shapes.items():
            declared = _declared(name, shape, dynamic)
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, declared))
        for name, array in self.others.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            declared = _declared(name, array.shape, "none" if name in self.fixed else dynamic)
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, declared))
        for name, array in self.constants.items():
            typed = array.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype)) if array.dtype == np.float64 else array
            model.graph.initializer.append(onnx.numpy_helper.from_array(typed, name))
        for name in self.outputs:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, dtype, None))
        return model


def _declared(name: str, shape: tuple[int, ...], dynamic: str) -> list[int | str]:
    if dynamic == "all":
        return [f"{name}_{axis}" for axis in range(len(shape))]
    # A size of 1 may be meant to broadcast. One symbol says one size.
    return [f"N{size}" if axis == 0 and size != 1 and dynamic == "batch" else size for axis, size in enumerate(shape)]
