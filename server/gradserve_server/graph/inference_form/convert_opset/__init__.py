"""Brings a model to an opset that the gradient rules and the installed runtime know: the same values by the same names.

Rules exist only for the spelling in force at opset 18 and later, so older models are *raised* (`raising`, with what each
operator needs in `adapters`). A runtime stops at some opset, so newer models are *lowered* to that (`lowering`).

onnx's own version converter is not used. It serializes the model, weights included; and of our cases between opset 7 and 18
it changes the results of Hardmax, Upsample and Resize-10, makes an invalid graph of Pad in float64, and stops at
BatchNormalization with `spatial`. onnxscript's starts at opset 18.
"""

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass

from gradserve_server.graph.inference_form.convert_opset.lowering import lower
from gradserve_server.graph.inference_form.convert_opset.raising import raise_
from gradserve_server.graph.inference_form.convert_opset.writer import CannotConvert
from gradserve_server.graph.values import DEFAULT_DOMAINS, opset_of

__all__ = ["MIN_OPSET", "CannotConvert", "convert_opset"]

MIN_OPSET = 7
"""The oldest that can be raised."""

FIRST_WITH_FREE_INITIALIZERS = 4
"""The file format from which a caller may override an initializer that is also an input."""


def convert_opset(model: ir.Model, *, oldest: int = 18, newest: int | None = None) -> list[str]:
    """Raises a model that is older than `oldest`, or lowers one that is newer than `newest`, in place.

    All tensors keep their names, and the weights stay the objects they are. What is new has no inferred type or shape yet.

    Args:
        model: Without functions of its own (they are inlined). Best with inferred shapes: without them Softmax is written in
            more nodes than it needs, and lowering may have to refuse.
        oldest: 18 or newer.
        newest: What the runtime loads; None for no limit.

    Returns:
        What was done, in words; nothing where nothing had to be done.

    Raises:
        CannotConvert: The text names the node and the reason. The model is as it was.
    """
    opset = opset_of(model)
    if opset < oldest:
        target, convert = oldest, raise_
    elif newest is not None and opset > newest:
        target, convert = newest, lower
    else:
        return []
    _check(model, opset)
    # First on a copy (of the graph, not of the weights), so that a refusal in the middle leaves nothing behind.
    convert(model.clone(), target)
    convert(model, target)
    for name in DEFAULT_DOMAINS:
        model.opset_imports.pop(name, None)
    model.opset_imports[""] = target
    _set_ir_version(model, onnx.helper.OP_SET_ID_VERSION_MAP["ai.onnx", target], raised=target > opset)
    return [f"converted opset {opset} to {target}"]


def _check(model: ir.Model, opset: int) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        msg = f"expected an opset from {MIN_OPSET} to {newest}, the newest that onnx {onnx.__version__} defines, got {opset}"
        raise CannotConvert(msg)
    if model.functions:
        named = ", ".join(f"'{function.name}'" for function in model.functions.values())
        msg = f"expected a model whose functions are inlined, got {named}"
        raise CannotConvert(msg)


def _set_ir_version(model: ir.Model, version: int, *, raised: bool) -> None:
    """Sets the file format that belongs to the opset."""
    if raised:
        if model.ir_version < FIRST_WITH_FREE_INITIALIZERS:
            # There every initializer is an input, and a constant all the same. It must stay one.
            RemoveInitializersFromInputsPass()(model)
        model.ir_version = max(model.ir_version, version)
    else:
        model.ir_version = min(model.ir_version, version)
