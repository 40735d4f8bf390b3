"""What goes in and comes out: normalization, layout, channel order, batch, the last operator."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from gradserve.diagnosis import Finding
from gradserve_server.graph.doctor.batch import has_no_batch
from gradserve_server.graph.doctor.finding import finding
from gradserve_server.graph.doctor.subject import Subject
from gradserve_server.graph.values import constant, is_float, is_op, shape_of

SQUASHES = ("LogSoftmax", "Sigmoid", "Softmax")
PASSES_ON = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that a last activation may stand before."""
ARITHMETIC = ("Add", "BatchNormalization", "Div", "Mul", "Sub")
LEADING = (*ARITHMETIC, "Cast", "Gather", "Identity", "Slice", "Transpose")
"""What may stand between an input and the first layer."""
COLOURS = (1, 3)
TO_NCHW = [0, 3, 1, 2]
REVERSED = [2, 1, 0]
CAFFE_MEANS = (103.939, 116.779, 123.68)
"""Of ImageNet in the order B, G, R, as Caffe's models subtract them."""


def interface(subject: Subject) -> Iterator[Finding]:
    """Findings about inputs and outputs."""
    for output in subject.model.graph.outputs:
        if (node := last_activation(output)) is not None:
            before = node.inputs[0]
            yield finding("softmax-at-end", node, f"{node.op_type}; the layer before is '{before.name if before else ''}'")
    for value in subject.model.graph.inputs:
        if is_float(value):
            yield from _input(subject, value)
    inputs = subject.model.graph.inputs
    fixed = [value for value in inputs if _has_fixed_batch(value)]
    others_are_open = len(fixed) < sum(len(shape_of(value) or ()) > 1 for value in inputs)
    if fixed and not others_are_open and not has_no_batch(subject.model.graph):
        yield finding("batch-fixed", fixed[0].name or "", ", ".join(f"'{v.name}' {_spell(v)}" for v in fixed))


def last_activation(output: ir.Value) -> ir.Node | None:
    """The Softmax, LogSoftmax or Sigmoid that makes an output, if one does."""
    node = output.producer()
    while node is not None and is_op(node, *PASSES_ON) and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and is_op(node, *SQUASHES) and node.inputs[0] is not None else None


def _has_fixed_batch(value: ir.Value) -> bool:
    shape = shape_of(value)
    return shape is not None and len(shape) > 1 and isinstance(shape[0], int)


def _spell(value: ir.Value) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in shape_of(value) or ())}]"


# ---- pictures --------------------------------------------------------------------------------------------------------


@dataclass
class _Lead:
    """What happens to an input before the first layer."""

    arithmetic: list[str] = field(default_factory=list)
    transposed: bool = False
    reversed: str = ""
    """How one sees that channels are turned around."""


def _input(subject: Subject, value: ir.Value) -> Iterator[Finding]:
    name, lead, image = value.name or "", _lead(value), subject.images.get(value.name or "")
    shape = shape_of(value) or ()
    looks = _looks(shape, transposed=lead.transposed)
    if lead.arithmetic:
        yield finding("normalization-in-graph", name, ", ".join(lead.arithmetic))
    if image is not None:
        if looks and looks != image.layout:
            yield finding("layout-contradicts-description", name, f"described as {image.layout}, sizes {_spell(value)}")
        return
    if looks == "NHWC":
        yield finding("layout-nhwc", name, f"{_spell(value)}{', a Transpose follows' if lead.transposed else ''}")
    if lead.reversed:
        yield finding("channel-order-reversed", name, lead.reversed)
    if looks and not lead.arithmetic:
        yield finding("normalization-undescribed", name, _spell(value))


def _looks(shape: tuple[int | str | None, ...], *, transposed: bool) -> str:
    """Which layout a picture's sizes have; empty for no picture, or one that could have either."""
    if len(shape) != 4:
        return ""
    first, last = shape[1] in COLOURS, shape[3] in COLOURS
    if first == last:
        return "NHWC" if transposed and last else ""
    return "NCHW" if first else "NHWC"


def _lead(value: ir.Value) -> _Lead:
    lead = _Lead()
    while len(users := value.consumers()) == 1 and is_op(node := users[0], *LEADING):
        others = [constant(other) for other in node.inputs if other is not None and other is not value]
        if any(other is None for other in others) or list(node.inputs).count(value) > 1 or node.outputs[0].is_graph_output():
            break  # something else, such as a square; or a whole model of a line
        if node.op_type in ARITHMETIC:
            lead.arithmetic.append(node.op_type)
            if any(_is_caffe(other) for other in others if other is not None):
                lead.reversed = "subtracts Caffe's means, blue first"
        if (
            node.op_type == "Transpose"
            and list(node.attributes["perm"].as_ints() if "perm" in node.attributes else ()) == TO_NCHW
        ):
            lead.transposed = True
        if _reverses(node):
            lead.reversed = f"{node.op_type} turns the channels around"
        value = node.outputs[0]
    return lead


def _is_caffe(array: np.ndarray) -> bool:
    return array.size == len(CAFFE_MEANS) and np.allclose(np.abs(array.astype(np.float64)).ravel(), CAFFE_MEANS, atol=0.5)


def _reverses(node: ir.Node) -> bool:
    if is_op(node, "Gather"):
        indices = constant(node.inputs[1])
        return indices is not None and indices.ravel().tolist() == REVERSED
    steps = constant(node.inputs[4]) if is_op(node, "Slice") and len(node.inputs) > 4 else None
    return steps is not None and -1 in steps.ravel().tolist()
