"""BatchNormalization goes: into the linear operator before it, or else into one Mul and one Add.

    y = (x - mean) / sqrt(variance + epsilon) * gain + offset        ONNX BatchNormalization, inference form
      = x * scale + shift,   scale = gain / sqrt(variance + epsilon),   shift = offset - mean * scale

and for x = Conv(u, W) + b:   y = Conv(u, W * scale) + (b * scale + shift), scale along W's output channels:

| operator | output channels of W |
|---|---|
| Conv | axis 0 |
| ConvTranspose | axis 1 of each of `group` blocks of axis 0 |
| Gemm | axis 1, or 0 with `transB`; alpha stays, beta is taken into the bias |

Everything is computed in float64 and rounded once. A weight that another node shares is copied, not changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve_server.graph.values import attribute, constant, describe, is_op, opset_of, supersede, unused_name

EPSILON = float(np.float32(1e-5))
"""The default that ONNX gives; attributes are float32."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Affine:
    """y = x * scale + shift, channel by channel."""

    scale: Float64
    shift: Float64


def fold_batchnorm(model: ir.Model, folded: dict[str, str]) -> list[str]:
    """Removes every BatchNormalization whose parameters are constants, in place.

    Args:
        model: In inference form otherwise, with inferred shapes; changed in place.
        folded: Gets, for each tensor that no longer exists, the tensor that took its place.

    Returns:
        What was done, in words.
    """
    opset = opset_of(model)
    done: list[str] = []
    for node in list(model.graph):
        if not is_op(node, "BatchNormalization"):
            continue
        affine, before = _affine(node), _before(node)
        if affine is None:
            done.append(f"kept {describe(node, opset)}, whose parameters are not constants")
        elif before is not None and _foldable(before, affine):
            folded[before.outputs[0].name or ""] = node.outputs[0].name or ""
            done.append(f"folded {describe(node, opset)} into {describe(before, opset)}")
            _fold(model.graph, before, node, affine)
        elif node.inputs[0] is not None and node.inputs[0].shape is not None:
            done.append(f"rewrote {describe(node, opset)} as Mul and Add")
            _rewrite(model.graph, node, affine)
        else:
            done.append(f"kept {describe(node, opset)}, whose input has no known rank")
    # Two in a row after one operator: the second takes away the name that the first left.
    for name, nearest in folded.items():
        folded[name] = folded.get(nearest, nearest)
    return done


def is_foldable(node: ir.Node) -> bool:
    """Whether a BatchNormalization can go into the operator before it."""
    affine, before = _affine(node), _before(node)
    return affine is not None and before is not None and _foldable(before, affine)


def _before(node: ir.Node) -> ir.Node | None:
    return node.inputs[0].producer() if node.inputs[0] is not None else None


def _affine(node: ir.Node) -> _Affine | None:
    parameters = [constant(value) for value in node.inputs[1:5]]
    if any(parameter is None for parameter in parameters):
        return None
    gain, offset, mean, variance = (np.asarray(parameter, np.float64) for parameter in parameters)
    with np.errstate(invalid="ignore", divide="ignore"):  # of a negative variance comes NaN, as it does unfolded
        scale = gain / np.sqrt(variance + attribute(node, "epsilon", EPSILON))
    return _Affine(scale, offset - mean * scale)


# ---- into the operator before ----------------------------------------------------------------------------------------


def _scale_conv(node: ir.Node, weight: Float64, scale: Float64) -> Float64:  # noqa: ARG001
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))


def _scale_conv_transpose(node: ir.Node, weight: Float64, scale: Float64) -> Float64:
    groups = int(attribute(node, "group", 1))
    blocks = weight.reshape(groups, -1, *weight.shape[1:])
    return (blocks * scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)


def _scale_gemm(node: ir.Node, weight: Float64, scale: Float64) -> Float64:
    return weight * (scale[:, None] if attribute(node, "transB", 0) else scale)


_SCALE_WEIGHT: dict[str, Callable[[ir.Node, Float64, Float64], Float64]] = {
    "Conv": _scale_conv,
    "ConvTranspose": _scale_conv_transpose,
    "Gemm": _scale_gemm,
}


def _foldable(node: ir.Node, affine: _Affine) -> bool:
    """Whether the node's only reader is the BatchNormalization, and its weight and bias are constants."""
    out = node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return (
        is_op(node, *_SCALE_WEIGHT)
        and affine.scale.ndim == 1
        and len(out.uses()) == 1
        and not out.is_graph_output()
        and constant(node.inputs[1]) is not None
        and (bias is None or constant(bias) is not None)
    )


def _fold(graph: ir.Graph, before: ir.Node, node: ir.Node, affine: _Affine) -> None:
    weight_value, bias_value = before.inputs[1], before.inputs[2] if len(before.inputs) > 2 else None
    weight = constant(weight_value)
    assert weight is not None
    bias: Any = 0.0 if bias_value is None else np.asarray(constant(bias_value), np.float64)
    beta = attribute(before, "beta", 1.0) if before.op_type == "Gemm" else 1.0
    new_weight = _SCALE_WEIGHT[before.op_type](before, np.asarray(weight, np.float64), affine.scale)
    new_bias = beta * bias * affine.scale + affine.shift
    if len(before.inputs) < 3:
        before.resize_inputs(3)
    before.replace_input_with(1, _initializer(graph, f"{node.outputs[0].name}/weight", new_weight, weight.dtype))
    before.replace_input_with(2, _initializer(graph, f"{node.outputs[0].name}/bias", new_bias, weight.dtype))
    before.attributes.pop("beta", None)
    supersede(node.outputs[0], before.outputs[0])
    graph.remove(node, safe=True)


# ---- into Mul and Add ------------------------------------------------------------------------------------------------


def _rewrite(graph: ir.Graph, node: ir.Node, affine: _Affine) -> None:
    x, out = node.inputs[0], node.outputs[0]
    assert x is not None
    assert x.shape is not None
    # From opset 15 the parameters may be of another float type than the data.
    dtype = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)
    # [C] stands along axis 1; opset 7's spatial=0 gives [C, H, W], which stands as it is.
    trailing = [1] * (len(x.shape) - 1 - affine.scale.ndim)
    scale, shift = (
        _initializer(graph, f"{out.name}/{name}", value.reshape(*value.shape, *trailing), dtype)
        for name, value in (("scale", affine.scale), ("shift", affine.shift))
    )
    multiply = ir.node("Mul", [x, scale], name=f"{node.name or out.name}/Mul")
    add = ir.node("Add", [multiply.outputs[0], shift], name=f"{node.name or out.name}/Add")
    multiply.outputs[0].name = unused_name(f"{out.name}/scaled", {v.name or "" for n in graph for v in n.outputs})
    multiply.outputs[0].type, multiply.outputs[0].shape = out.type, out.shape
    graph.insert_before(node, [multiply, add])
    supersede(out, add.outputs[0])
    graph.remove(node, safe=True)


def _initializer(graph: ir.Graph, name: str, array: Float64, dtype: np.dtype[Any]) -> ir.Value:
    name = unused_name(name, graph.initializers)
    tensor = ir.tensor(array.astype(dtype), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value
