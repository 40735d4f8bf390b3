"""A small model in the spelling of an old opset."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.parser
from support.onnx_models import random

OPSETS = range(7, 18)

X = {"x": random(2, 3, 4, 5)}
IMAGE = {"x": random(1, 2, 4, 6)}


@dataclass(frozen=True)
class Case:
    """`body` in ONNX's text form makes y (or what `outputs` names) of `inputs`."""

    op: str
    opsets: Iterable[int]
    body: str
    inputs: Mapping[str, np.ndarray] = field(default_factory=lambda: X)
    outputs: str = "float[] y"
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    symbolic: bool = False
    """Sizes of the inputs are known only in the run."""
    becomes: str = ""
    """Operators of the result, in order, where that matters."""
    checked: bool = True
    """Whether onnx's own type and shape inference can follow the model."""

    def __str__(self) -> str:
        return f"{self.op}: {self.body}"

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """What the model is run on."""
        return {name: np.asarray(array) for name, array in self.inputs.items()}

    def model(self, opset: int) -> onnx.ModelProto:
        """The model, in the file format of its time (but 4 at least, so that weights need not be inputs)."""
        inputs = ", ".join(self._declared(name, array) for name, array in self.feeds.items())
        ir_version = max(4, onnx.helper.OP_SET_ID_VERSION_MAP["ai.onnx", opset])
        header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
        # Somebody reads the first output, too.
        kind, name = re.match(r"(\w+(?:\[.*?\])?) (\w+)", self.outputs).groups()
        body, outputs = f"{self.body} again = Identity({name})", f"{self.outputs}, {kind} again"
        model = onnx.parser.parse_model(f"{header} test ({inputs}) => ({outputs}) {{ {body} }}")
        model.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for name, w in self.weights.items())
        return model

    def _declared(self, name: str, array: np.ndarray) -> str:
        kind = onnx.TensorProto.DataType.Name(onnx.helper.np_dtype_to_tensor_dtype(array.dtype)).lower()
        sizes = [f"{name}{axis}" if self.symbolic else str(size) for axis, size in enumerate(array.shape)]
        return f"{kind}[{','.join(sizes)}] {name}" if sizes else f"{kind} {name}"


def same(ops: str, first: int, body: str, inputs: Mapping[str, np.ndarray] = X, **rest: object) -> list[Case]:
    """Operators with one spelling since opset `first`; OP stands for the operator."""
    return [Case(op, range(first, 18), body.replace("OP", op), inputs, **rest) for op in ops.split()]  # type: ignore[arg-type]
