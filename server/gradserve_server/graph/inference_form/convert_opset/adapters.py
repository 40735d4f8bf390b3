"""What it takes to raise each operator that changed its spelling between opset 7 and 18.

A row is (operator, the opset that changed it) and a function that writes the node anew, for opset 18. An operator that only
gained element types, or attributes whose defaults mean what was meant before, has no row: its nodes stay as they are.

| operator | opset | before | after |
|---|---|---|---|
| Slice, TopK, Pad, Clip, Dropout, Squeeze, Unsqueeze, Split, Reduce* | 10-18 | attributes | inputs |
| Clip | 12 | a bound left out, in float16 | says infinity |
| Split | 18 | as many equal parts as outputs | says how many |
| Softmax, LogSoftmax, Hardmax | 13 | of the input made a matrix before `axis` | along one axis |
| Upsample | 9, 11 | | Resize, asymmetric, rounding down |
| Resize | 11 | asymmetric; nearest rounds down where it enlarges and up where it reduces | says so |
| Resize | 13 | `roi`, `scales` empty where they mean nothing; tf_half_pixel_for_nn | left out; half_pixel |
| RoiAlign | 16 | no half-pixel shift | says so |
| BatchNormalization | 9 | `spatial` = 0: statistics of each position | arithmetic |
| BatchNormalization | 14 | more outputs: training form | one output |
| Scatter | 11 | | ScatterElements |
| Scan | 9 | over batches with lengths | refused |

How Resize-10 rounds is what onnxruntime does; the standard did not say.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve_server.graph.inference_form.convert_opset.writer import Writer, used
from gradserve_server.graph.values import attribute, shape_of

Adapter = Callable[[ir.Node, Writer], None]


# ---- attributes become inputs ----------------------------------------------------------------------------------------


def _moved(*names: str, empty_is_absent: bool = False) -> Adapter:
    """Makes attributes the node's inputs, in this order, after the first.

    Integers become an int64 vector, floats a float32 vector; one float becomes a scalar of the first input's element type.
    """

    def adapter(node: ir.Node, writer: Writer) -> None:
        values: list[ir.Value | None] = []
        for name in names:
            moved = node.attributes.pop(name, None)
            if moved is None or (empty_is_absent and not moved.value):
                values.append(None)
            else:
                values.append(_as_input(node, moved, writer))
        while values and values[-1] is None:
            values.pop()
        node.resize_inputs(1 + len(values))
        for index, value in enumerate(values, start=1):
            node.replace_input_with(index, value)

    return adapter


def _as_input(node: ir.Node, moved: ir.Attr, writer: Writer) -> ir.Value:
    match moved.type:
        case ir.AttributeType.FLOAT:
            return writer.scalar_like(node, moved.name, moved.as_float())
        case ir.AttributeType.FLOATS:
            return writer.constant(node, moved.name, np.array(moved.as_floats(), np.float32))
        case ir.AttributeType.INT:
            return writer.constant(node, moved.name, np.array([moved.as_int()], np.int64))
        case _:
            return writer.constant(node, moved.name, np.array(moved.as_ints(), np.int64))


# ---- softmax ---------------------------------------------------------------------------------------------------------


def _coerced(node: ir.Node, writer: Writer) -> None:
    """Over all axes from `axis` on at once; over `axis` alone where those after it have size 1."""
    x, axis = node.inputs[0], int(attribute(node, "axis", 1))
    shape = shape_of(x) if x is not None else None
    if shape is not None and -len(shape) <= axis < len(shape):
        axis %= len(shape)
        if all(size == 1 for size in shape[axis + 1 :]):
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
            return
    matrix = writer.before(node, "Flatten", x, axis=axis)
    y = writer.before(node, node.op_type, matrix, axis=-1)
    writer.replace(node, "Reshape", y, writer.before(node, "Shape", x))


# ---- resizing --------------------------------------------------------------------------------------------------------


def _not_yet(node: ir.Node, writer: Writer) -> None:
    pass


def _upsample_to_resize(node: ir.Node, writer: Writer) -> None:  # noqa: ARG001
    _asymmetric(node, node.inputs[1], "floor")


def _resize_to_11(node: ir.Node, writer: Writer) -> None:
    scales = node.inputs[1]
    if attribute_string(node, "mode", "nearest") != "nearest":
        _asymmetric(node, scales, None)
        return
    factors = _known(scales)
    if factors is not None and (np.all(factors >= 1) or np.all(factors <= 1)):
        _asymmetric(node, scales, "floor" if np.all(factors >= 1) else "ceil")
        return
    # Some axes may grow and others shrink: the ones first, then the others. A factor of 1 changes nothing.
    one = writer.constant(node, "one", np.ones(1, np.float32))
    larger, smaller = (writer.before(node, op_type, scales, one) for op_type in ("Max", "Min"))
    grown = writer.before(node, "Resize", node.inputs[0], None, larger)
    producer = grown.producer()
    assert producer is not None
    _asymmetric(producer, larger, "floor")
    node.replace_input_with(0, grown)
    _asymmetric(node, smaller, "ceil")


def _known(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The array of an initializer that no caller can override, or of a Constant node; None for anything else."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return tensor.numpy() if tensor is not None else None


def _asymmetric(node: ir.Node, scales: ir.Value | None, rounding: str | None) -> None:
    node.op_type = "Resize"
    node.resize_inputs(3)
    node.replace_input_with(1, None)
    node.replace_input_with(2, scales)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    if rounding is not None:
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", rounding)


def _resize_to_13(node: ir.Node, writer: Writer) -> None:
    coordinates = attribute_string(node, "coordinate_transformation_mode", "half_pixel")
    if coordinates != "tf_crop_and_resize":
        node.replace_input_with(1, None)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        node.replace_input_with(2, None)
    if coordinates != "tf_half_pixel_for_nn":
        return
    # x = (y + 0.5) / scale, rounded down, is (y + 0.5) / scale - 0.5, rounded to the nearest and halves up.
    rounding = attribute_string(node, "nearest_mode", "round_prefer_floor")
    if attribute_string(node, "mode", "nearest") != "nearest" or rounding != "floor":
        writer.refuse(node, f"expected tf_half_pixel_for_nn with mode nearest, rounding 'floor', got rounding '{rounding}'")
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "half_pixel")
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "round_prefer_ceil")


# ---- the others ------------------------------------------------------------------------------------------------------


def _both_bounds(node: ir.Node, writer: Writer) -> None:
    """Says the bounds that are left out, in float16: onnxruntime 1.19 takes 0 for them from opset 12 on."""
    if node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.FLOAT16:
        return
    node.resize_inputs(3)
    for index, (name, bound) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        if node.inputs[index] is None:
            node.replace_input_with(index, writer.scalar_like(node, name, bound))


def _say_number_of_parts(node: ir.Node, writer: Writer) -> None:  # noqa: ARG001
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _say_unshifted(node: ir.Node, writer: Writer) -> None:  # noqa: ARG001
    name = "coordinate_transformation_mode"
    node.attributes.setdefault(name, ir.AttrString(name, "output_half_pixel"))


def _scatter_to_elements(node: ir.Node, writer: Writer) -> None:  # noqa: ARG001
    node.op_type = "ScatterElements"


def _batchnorm_to_9(node: ir.Node, writer: Writer) -> None:
    """y = (x - mean) / sqrt(variance + epsilon) * gain + offset, where the parameters are [C, H, W]."""
    spatial = node.attributes.pop("spatial", None)
    if spatial is None or spatial.as_int():
        return
    if len([out for out in node.outputs if out.name]) > 1:
        _refuse_training(node, writer)
    x, gain, offset, mean, variance = node.inputs
    epsilon = writer.scalar_like(node, "epsilon", attribute(node, "epsilon", 1e-5))
    deviation = writer.before(node, "Sqrt", writer.before(node, "Add", variance, epsilon))
    normalized = writer.before(node, "Div", writer.before(node, "Sub", x, mean), deviation)
    writer.replace(node, "Add", writer.before(node, "Mul", normalized, gain), offset)


def _batchnorm_to_14(node: ir.Node, writer: Writer) -> None:
    if len([out for out in node.outputs if out.name]) > 1:
        _refuse_training(node, writer)
    node.resize_outputs(1)


def _refuse_training(node: ir.Node, writer: Writer) -> None:
    writer.refuse(node, "expected inference form, got training form (more than one output)")


def _dropout_to_10(node: ir.Node, writer: Writer) -> None:
    """The mask was of floats."""
    if any(used(out) for out in node.outputs[1:]):
        writer.refuse(node, "expected an unused mask output, got one that is used; opset 10 gave it another type")


def _refuse_scan_8(node: ir.Node, writer: Writer) -> None:
    writer.refuse(node, "expected a Scan of opset 9 or newer, got one over batches with lengths, which opset 9 took away")


def attribute_string(node: ir.Node, name: str, default: str) -> str:
    """A string attribute, or its default."""
    return node.attributes[name].as_string() if name in node.attributes else default


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

ADAPTERS: dict[tuple[str, int], Adapter] = {
    ("BatchNormalization", 9): _batchnorm_to_9,
    ("BatchNormalization", 14): _batchnorm_to_14,
    ("Clip", 11): _moved("min", "max"),
    ("Clip", 12): _both_bounds,
    ("Dropout", 10): _dropout_to_10,
    ("Dropout", 12): _moved("ratio"),
    ("Hardmax", 13): _coerced,
    ("LogSoftmax", 13): _coerced,
    ("Pad", 11): _moved("pads", "value"),
    **{(f"Reduce{kind}", 18): _moved("axes", empty_is_absent=True) for kind in REDUCTIONS},
    ("ReduceSum", 13): _moved("axes", empty_is_absent=True),
    ("Resize", 11): _resize_to_11,
    ("Resize", 13): _resize_to_13,
    ("RoiAlign", 16): _say_unshifted,
    ("Scan", 9): _refuse_scan_8,
    ("Scatter", 11): _scatter_to_elements,
    ("Slice", 10): _moved("starts", "ends", "axes"),
    ("Softmax", 13): _coerced,
    ("Split", 13): _moved("split"),
    ("Split", 18): _say_number_of_parts,
    ("Squeeze", 13): _moved("axes", empty_is_absent=True),
    ("TopK", 10): _moved("k"),
    ("Unsqueeze", 13): _moved("axes"),
    ("Upsample", 9): _moved("scales"),
    # Opset 10 took it away, but only Resize-11 can say that nothing is reduced.
    ("Upsample", 10): _not_yet,
    ("Upsample", 11): _upsample_to_resize,
}
