"""Integers are divided as NumPy divides them, also by 0 and by -1, for which onnxruntime's kernels end the process.

Their SIGFPE is the processor's: onnxruntime 1.19 checks neither for a divisor of 0 nor for the smallest number by -1, so a
request whose values lead there would take the server down. What the result is then, ONNX leaves open; here it is NumPy's:

| divisor | Div | Mod, with `fmod` or without |
|---|---|---|
| 0 | 0 | 0 |
| -1 | the negative, which of the smallest number is itself | 0 |

Both divisors become 1, by which everything can be divided, and a factor corrects the quotient:

    step = (b == 0) + 2 (b == -1)        0 for any other divisor
    a / b = a / (b + step) * (1 - step)
    a % b = a % (b + step)

This is arithmetic that all opsets have, on int32 and int64 that all kernels take; of other types the divisor goes through
int64, which holds each of them (of uint64 the bits, whose sum is the same).
"""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve_server.graph.inference_form.convert_opset.writer import Writer
from gradserve_server.graph.values import constant, describe, is_op, opset_of

Array = npt.NDArray[np.generic]

COMPUTED = frozenset({ir.DataType.INT32, ir.DataType.INT64})
"""Types of which onnxruntime has kernels for Equal, Add, Sub and Mul in every opset."""

SELECTING = frozenset(
    {"Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that make no values other than those of their first input."""


def guard_integer_division(model: ir.Model) -> list[str]:
    """Guards each integer Div and Mod, of subgraphs too, in place, unless its divisor is a constant that needs no guard.

    Args:
        model: With inferred types.

    Returns:
        What was done, in words.
    """
    writer, guarded, done = Writer(model), 0, []
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if not is_op(node, "Div", "Mod") or _is_harmless(node.inputs[1]):
            continue
        dtype = _dtype(node)
        if dtype is None:
            done.append(f"left {describe(node, opset_of(model))} unguarded, whose element type is not known")
        elif dtype.is_integer():
            _guard(writer, node, dtype)
            guarded += 1
    if guarded:
        done.append(f"guarded {guarded} integer divisions against divisors of 0 and -1")
    return done


def _guard(writer: Writer, node: ir.Node, dtype: ir.DataType) -> None:
    a, b = node.inputs
    computed = dtype if dtype in COMPUTED else ir.DataType.INT64
    wide = _cast(writer, node, b, dtype, computed)
    step = _where(writer, node, wide, 0, computed)
    if dtype.is_signed():
        minus = _where(writer, node, wide, -1, computed)
        step = writer.before(node, "Add", step, writer.before(node, "Add", minus, minus))
    divisor = _cast(writer, node, writer.before(node, "Add", wide, step), computed, dtype)
    if node.op_type == "Mod":
        node.replace_input_with(1, divisor)
        return
    quotient = _cast(writer, node, writer.before(node, "Div", a, divisor), dtype, computed)
    factor = writer.before(node, "Sub", _number(writer, node, 1, computed), step)
    if computed == dtype:
        writer.replace(node, "Mul", quotient, factor)
    else:
        writer.replace(node, "Cast", writer.before(node, "Mul", quotient, factor), to=int(dtype))


def _where(writer: Writer, node: ir.Node, value: ir.Value | None, number: int, dtype: ir.DataType) -> ir.Value:
    """1 where the value is the number, else 0."""
    equal = writer.before(node, "Equal", value, _number(writer, node, number, dtype))
    return writer.before(node, "Cast", equal, to=int(dtype))


def _number(writer: Writer, node: ir.Node, number: int, dtype: ir.DataType) -> ir.Value:
    return writer.constant(node, "divisor", np.array(number, dtype.numpy()))


def _cast(writer: Writer, node: ir.Node, value: ir.Value | None, old: ir.DataType, new: ir.DataType) -> ir.Value | None:
    return value if old == new else writer.before(node, "Cast", value, to=int(new))


def _dtype(node: ir.Node) -> ir.DataType | None:
    values = (value for value in (*node.inputs, *node.outputs) if value is not None)
    return next((value.dtype for value in values if value.dtype is not None), None)


def _is_harmless(divisor: ir.Value | None) -> bool:
    known = _constant_behind(divisor)
    return known is not None and not np.isin(known, (0, -1)).any()


def _constant_behind(value: ir.Value | None) -> Array | None:
    """A constant that holds every value that this one may have."""
    while value is not None and (node := value.producer()) is not None and is_op(node, *SELECTING):
        value = node.inputs[0]
    if value is not None and (node := value.producer()) is not None and is_op(node, "Cast"):
        known, dtype = _constant_behind(node.inputs[0]), value.dtype
        return known.astype(dtype.numpy()) if known is not None and known.dtype.kind in "iu" and dtype is not None else None
    return constant(value)
