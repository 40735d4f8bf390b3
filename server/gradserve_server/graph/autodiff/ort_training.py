"""The backward graph, built by onnxruntime-training's `GradientGraphBuilder`.

The builder differentiates a scalar loss. We give it  loss = sum over targets t of <t, cotangent_t>  with the cotangents as
graph inputs, so that the gradient it builds is the vector-Jacobian product, whatever the objective. Then the loss goes, and
each cotangent flows straight into the backward graph.

This is the one place under `graph/` that imports onnxruntime: for its builder, not to run anything.
"""

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

from gradserve.errors import BackendMissing, UnsupportedGradient
from gradserve_server.graph.autodiff.judge import floats
from gradserve_server.graph.autodiff.lowering import lower
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.training_ops import TrainingJudge
from gradserve_server.graph.contrib_shapes import infer_unknown
from gradserve_server.graph.inference_form.drop_identities import drop_identities
from gradserve_server.graph.reduce import sum_all
from gradserve_server.graph.values import constant, is_float, is_op, opset_of
from gradserve_server.graph.weights import large_constants, put_back, serialize_without

_log = logging.getLogger(__name__)

_LOSS = "gradserve/loss"


def available() -> bool:
    """Whether the installed onnxruntime is the training wheel."""
    try:
        from onnxruntime.capi._pybind_state import GradientGraphBuilder  # noqa: F401
    except ImportError:
        return False
    return True


def build_vjp(forward: ir.Model, wrt: Sequence[str]) -> ir.Model:
    """Appends the vector-Jacobian product to a model.

    Args:
        forward: In inference form, cut at its targets: its outputs are the targets. Not changed. Every node on the path is
            one that `training_ops` lists.
        wrt: Names of the inputs to differentiate with respect to.

    Returns:
        The model with one more input for each target (`cotangent_name`) and one more output for each input
        (`gradient_name`).

    Raises:
        BackendMissing: The installed onnxruntime is not the training wheel.
        UnsupportedGradient: The builder refuses the graph all the same.
    """
    try:
        from onnxruntime import SessionOptions
        from onnxruntime.capi._pybind_state import GradientGraphBuilder
    except ImportError as error:
        msg = "gradients: expected the wheel onnxruntime-training; install gradserve-server[training]"
        raise BackendMissing(msg) from error
    targets = [value.name or "" for value in forward.graph.outputs]
    options = SessionOptions()
    options.log_severity_level = 4
    weights = large_constants(forward)
    try:
        # Large weights go around the builder: it looks at small constants only (a shape, an axis).
        builder = GradientGraphBuilder(serialize_without(_with_loss(forward), weights), {_LOSS}, set(wrt), _LOSS, options)
        builder.build()
        model = ir.from_proto(onnx.ModelProto.FromString(builder.get_model()))
        put_back(model, weights)
    except RuntimeError as error:  # what pybind makes of the builder's own exceptions
        _log.warning("the gradient builder refused a graph: %s", error)
        msg = f"onnxruntime-training refused the gradient of {', '.join(targets)} with respect to {', '.join(wrt)}"
        raise UnsupportedGradient(msg) from error
    lower(model, forward)
    return _without_loss(model, targets, wrt)


def _with_loss(forward: ir.Model) -> ir.Model:
    read = {value.name or "" for value in _sources(forward)}
    model = forward.clone()
    graph = model.graph
    _sidestep_builder_defects(graph)
    terms: list[ir.Value] = []
    for target in list(graph.outputs):
        # Of the target's own shape, so that the builder sees no broadcast to undo.
        cotangent = ir.Value(name=cotangent_name(target.name or ""), type=target.type, shape=target.shape)
        graph.inputs.append(cotangent)
        product = _append(graph, "Mul", [target, cotangent], _product(target.name or ""), like=target)
        total = sum_all(product, f"{product.name}/sum")
        graph.append(total)
        terms.append(total.outputs[0])
    terms += _unread_split_outputs(graph, read)
    loss, *rest = terms
    for number, other in enumerate(rest):
        loss = _append(graph, "Add", [loss, other], f"{_LOSS}/{number}", like=other)
    loss.name = _LOSS
    graph.outputs.append(loss)
    return model


def _sources(forward: ir.Model) -> set[ir.Value]:
    """Every value that a derivative of the outputs flows back to."""
    judge = TrainingJudge(forward, opset_of(forward))
    found = set(forward.graph.outputs)
    for node in reversed(forward.graph):
        if not found.isdisjoint(node.outputs):
            found.update(node.inputs[i] for i in judge.flows(node, floats(node.inputs)))  # type: ignore[misc]
    return found


def _unread_split_outputs(graph: ir.Graph, read: set[str]) -> list[ir.Value]:
    """0 * sum of each output of a Split that no target needs: the builder concatenates only the gradients that there are."""
    terms = []
    for node in [node for node in graph if is_op(node, "Split")]:
        for out in node.outputs:
            if out.name not in read:
                name = f"gradserve/unread/{out.name}"
                zero = _append(graph, "Mul", [out, _constant(graph, f"{name}/zero", np.float32(0))], name, like=out)
                total = sum_all(zero, f"{name}/sum")
                graph.append(total)
                terms.append(total.outputs[0])
    return terms


def _constant(graph: ir.Graph, name: str, array: npt.NDArray[np.float32] | np.float32) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(np.shape(array)), const_value=tensor)
    graph.register_initializer(value)
    return value


def _sidestep_builder_defects(graph: ir.Graph) -> None:
    for node in list(graph):
        if is_op(node, "LayerNormalization") and (len(node.inputs) < 3 or node.inputs[2] is None):
            scale = constant(node.inputs[1])
            assert scale is not None
            node.resize_inputs(3)
            name = f"gradserve/{node.outputs[0].name}/bias"
            node.replace_input_with(2, _constant(graph, name, np.zeros(scale.shape, np.float32)))
        # Its gradient needs mean and inverse deviation; undeclared, the builder asserts.
        if is_op(node, "LayerNormalization") and len(node.outputs) < 3:
            node.resize_outputs(3)
            for declared, name in zip(node.outputs[1:], ("mean", "inverse_deviation"), strict=True):
                declared.name = declared.name or f"gradserve/{node.outputs[0].name}/{name}"
        # See `training_ops._no_zero_in_shape`, which lets pass only shapes where the attribute changes nothing.
        if is_op(node, "Reshape"):
            node.attributes.pop("allowzero", None)
        # Mul(x, x) makes it define x_grad twice; through an Identity each use has its own name.
        for index, value in enumerate(node.inputs):
            if value is not None and is_float(value) and value in node.inputs[:index]:
                copy = ir.node("Identity", [value], name=f"gradserve/{node.outputs[0].name}/again_{index}")
                copy.outputs[0].name = f"gradserve/{node.outputs[0].name}/input_{index}"
                copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
                graph.insert_before(node, copy)
                node.replace_input_with(index, copy.outputs[0])


def _append(graph: ir.Graph, op: str, inputs: Sequence[ir.Value], name: str, *, like: ir.Value) -> ir.Value:
    node = ir.node(op, inputs, name=name)
    graph.append(node)
    out = node.outputs[0]
    out.name, out.type, out.shape = name, like.type, like.shape
    return out


def _without_loss(model: ir.Model, targets: Sequence[str], wrt: Sequence[str]) -> ir.Model:
    graph = model.graph
    values = ir.convenience.create_value_mapping(graph)
    for target in targets:
        # d loss / d target = ones * cotangent: the builder's Mul by ones is the cotangent itself.
        for multiply, _ in list(values[f"{_product(target)}_grad"].uses()):
            if multiply.op_type == "Mul":
                ir.convenience.replace_all_uses_with(multiply.outputs[0], values[cotangent_name(target)])
    graph.outputs[:] = [values[target] for target in targets]
    for name in wrt:
        gradient = values[f"{name}_grad"]
        gradient.name, gradient.type, gradient.shape = gradient_name(name), values[name].type, values[name].shape
        graph.outputs.append(gradient)
    drop_identities(model, {})
    RemoveUnusedNodesPass()(model)
    RemoveUnusedOpsetsPass()(model)
    infer_unknown(model)
    return model


def _product(target: str) -> str:
    return f"gradserve/product/{target}"
