"""What onnxruntime-training's gradient builder does rightly, operator by operator: the verified list.

The builder's own table is keyed by operator name only and stores some derivatives that it lacks as derivatives that do not
exist (the exponent of Pow), which would be a silent zero. So nothing reaches it that does not stand here, and all that
stands here is compared with float64 finite differences (`tests/unit/graph/test_training_ops.py`) at each opset in
`OPSETS_VERIFIED`. What is proven zero stands in the table that both backends share (`rules`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter
from gradserve_server.graph.autodiff.judge import flows
from gradserve_server.graph.autodiff.site import Site
from gradserve_server.graph.values import DEFAULT_DOMAINS, FLOATS, attribute, constant, describe, shape_of

OPSETS_VERIFIED = range(18, 22)
"""Older models are converted to 18 when they are loaded; 21 is the last that the wheel knows."""

Restriction = Callable[[ir.Node], str | None]
"""Says in words why the builder would get this node wrong, or None."""


@dataclass(frozen=True)
class Verified:
    """An operator that the builder differentiates rightly."""

    differentiable: tuple[int, ...] | None = None
    """Inputs with a derivative; None means all."""
    restriction: Restriction | None = None


def _no_automatic_padding(node: ir.Node) -> str | None:
    padding = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    # With SAME_* the builder's backward operators pad otherwise than the forward one: a wrong gradient, without an error.
    return None if padding in ("NOTSET", "") else f"auto_pad={padding}"


def _average_pool(node: ir.Node) -> str | None:
    if (problem := _no_automatic_padding(node)) is not None:
        return problem
    if attribute(node, "ceil_mode", 0):
        return "ceil_mode=1"
    if any(dilation != 1 for dilation in (node.attributes["dilations"].as_ints() if "dilations" in node.attributes else ())):
        return "dilations"
    # The backward operator of the wheel takes a symbolic batch for a batch of 0; the lowering needs all other sizes.
    return None if _sizes_known(node) else "sizes not known before the run"


def _max_pool(node: ir.Node) -> str | None:
    if (problem := _no_automatic_padding(node)) is not None:
        return problem
    if attribute(node, "storage_order", 0):
        return "storage_order=1"
    # With any size but the batch unknown, the backward operator reads outside its memory.
    return None if _sizes_known(node) else "sizes not known before the run"


def _sizes_known(node: ir.Node) -> bool:
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    return shape is not None and all(isinstance(size, int) for size in shape[1:])


def _rising(node: ir.Node) -> str | None:
    # The builder tells the sides apart by the sign of the output.
    return None if attribute(node, "alpha", 0.01) >= 0 else "alpha below 0"


def _constant_exponent(node: ir.Node) -> str | None:
    exponent = constant(node.inputs[1])
    if exponent is None or exponent.size != 1 or exponent.dtype.kind != "f":
        return "exponent other than one constant float"
    return None


def _matrices(node: ir.Node) -> str | None:
    shapes = [shape_of(value) if value is not None else None for value in node.inputs]
    return None if all(shape is not None and len(shape) > 1 for shape in shapes) else "a vector, or a rank not known"


def _constant_scale(node: ir.Node) -> str | None:
    # The builder wants a bias; `ort_training` supplies one of zeros, for which it must know the scale.
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    return (
        None if has_bias or constant(node.inputs[1]) is not None else "without a bias, and with a scale that is no constant"
    )


def _constant_padding(node: ir.Node) -> str | None:
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    if mode != "constant":
        return f"mode={mode}"
    return "axes" if len(node.inputs) > 3 and node.inputs[3] is not None else None


def _forward_steps(node: ir.Node) -> str | None:
    if len(node.inputs) < 5 or node.inputs[4] is None:
        return None
    steps = constant(node.inputs[4])
    return None if steps is not None and np.all(np.asarray(steps, np.int64) > 0) else "steps that are not constants above 0"


def _no_broadcast(node: ir.Node) -> str | None:
    # The builder does not undo the broadcast of Where's branches.
    out = shape_of(node.outputs[0])
    same = out is not None and all(value is not None and shape_of(value) == out for value in node.inputs[1:])
    return None if same else "broadcast, or shapes not known"


def _no_approximation(node: ir.Node) -> str | None:
    # The builder differentiates the exact Gelu, whatever the attribute says.
    kind = node.attributes["approximate"].as_string() if "approximate" in node.attributes else "none"
    return None if kind == "none" else f"approximate={kind}"


def _no_zero_in_shape(node: ir.Node) -> str | None:
    # The builder copies allowzero to the backward Reshape, whose shape has a 0 that means "as it was": a batch of 0 comes
    # out. `ort_training` drops the attribute where it says nothing, which is where this lets it pass.
    if not attribute(node, "allowzero", 0):
        return None
    shape = constant(node.inputs[1])
    return None if shape is not None and np.all(shape != 0) else "allowzero=1 with a shape that is not constant or has a 0"


def _to_float(node: ir.Node) -> str | None:
    return None if node.outputs[0].dtype in FLOATS else "to an integer type"


VERIFIED: dict[str, Verified] = {
    # ---- element-wise
    **{
        op: Verified()
        for op in [
            "Abs",
            "Cos",
            "Erf",
            "Exp",
            "Identity",
            "Log",
            "Neg",
            "Reciprocal",
            "Relu",
            "Sigmoid",
            "Sin",
            "Sqrt",
            "Tanh",
            "Add",
            "Div",
            "Max",
            "Min",
            "Mul",
            "Sub",
        ]
    },
    "Gelu": Verified(restriction=_no_approximation),
    "LeakyRelu": Verified(restriction=_rising),
    "Cast": Verified(restriction=_to_float),
    "Clip": Verified((0,)),
    "Pow": Verified((0,), restriction=_constant_exponent),
    "Where": Verified((1, 2), restriction=_no_broadcast),
    # ---- linear
    "Conv": Verified(restriction=_no_automatic_padding),
    "Gemm": Verified(),
    "MatMul": Verified(restriction=_matrices),
    # ---- pooling
    "AveragePool": Verified(restriction=_average_pool),
    "GlobalAveragePool": Verified(),
    "MaxPool": Verified(restriction=_max_pool),
    # ---- normalization
    "LayerNormalization": Verified(restriction=_constant_scale),
    "LogSoftmax": Verified(),
    "Softmax": Verified(),
    # ---- reduction
    "ReduceL2": Verified((0,)),
    "ReduceLogSumExp": Verified((0,)),
    "ReduceMean": Verified((0,)),
    "ReduceSum": Verified((0,)),
    # ---- shape
    "Concat": Verified(),
    "Expand": Verified((0,)),
    "Flatten": Verified(),
    "Gather": Verified((0,)),
    "Pad": Verified((0,), restriction=_constant_padding),
    "Reshape": Verified((0,), restriction=_no_zero_in_shape),
    "Slice": Verified((0,), restriction=_forward_steps),
    "Split": Verified((0,)),
    "Squeeze": Verified((0,)),
    "Tile": Verified((0,)),
    "Transpose": Verified(),
    "Unsqueeze": Verified((0,)),
}


class TrainingJudge:
    """Of onnxruntime-training's builder."""

    backend = "training"

    def __init__(self, model: ir.Model, opset: int) -> None:
        self._opset = opset
        self._emitter = Emitter(model.graph, opset, "")  # emits nothing: a Site wants one

    def flows(self, node: ir.Node, live: Sequence[int]) -> list[int]:
        """See `judge.Judge`."""
        return flows(Site(self._emitter, node), live)

    def problems(self, node: ir.Node, live: Sequence[int]) -> list[str]:
        """See `judge.Judge`."""
        name = describe(node, self._opset)
        rule = VERIFIED.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
        if rule is None:
            return [f"{name}: not verified"]
        if self._opset not in OPSETS_VERIFIED:
            return [f"{name}: verified for opsets {OPSETS_VERIFIED.start} to {OPSETS_VERIFIED.stop - 1}"]
        problems = []
        if rule.differentiable is not None:
            problems += [f"{name} input {i}" for i in live if i not in rule.differentiable]
        if rule.restriction is not None and (reason := rule.restriction(node)) is not None:
            problems.append(f"{name}: {reason}")
        if any(node.inputs[i].dtype not in (ir.DataType.FLOAT, None) for i in live):  # type: ignore[union-attr]
            problems.append(f"{name}: verified for float32 only")
        return problems
