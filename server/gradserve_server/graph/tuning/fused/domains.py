"""Names of our operators' domains, and what is said of values that lie in memory otherwise than their shapes tell."""

import onnx_ir as ir

DOMAIN = "gradserve"
"""Operators of our library (csrc/ort)."""

VERSION = 1
"""Of that domain."""

BLOCKED = "gradserve.blocked"
"""Standard operators on tensors whose channels lie in blocks, where the other operand has one number for each channel or
position: what they mean is right, where the numbers lie is not what onnxruntime takes them to be. They live between the
layout pass and the fusion, which turns every one of them into a program. Attribute `block`: channels of a block."""

_MARK = "gradserve.blocked"
_PACKED = "gradserve.packed"


def mark_blocked(value: ir.Value) -> None:
    """Says that the value's channels lie in blocks: its shape looks like that of any other image."""
    value.meta[_MARK] = True


def is_blocked(value: ir.Value) -> bool:
    """Whether it was said so."""
    return _MARK in value.meta


def mark_packed(value: ir.Value, *, packed: bool = True) -> None:
    """Says that the value is a mask in bits, which only programs write and read (`packed`)."""
    value.meta[_PACKED] = packed


def is_packed(value: ir.Value) -> bool:
    """Whether it was said so."""
    return bool(value.meta.get(_PACKED, False))
