"""Names of our operators' domains, and what lies in blocks between the layout pass and the fusion."""

import onnx_ir as ir

DOMAIN = "gradserve"
"""Operators of our library (csrc/ort)."""

BLOCKED = "gradserve.blocked"
"""Standard operators on tensors whose channels lie in blocks, where the other operand has one number for each channel or
position: what they mean is right, where the numbers lie is not what onnxruntime takes them to be. They live between the
layout pass and the fusion, which turns every one of them into a program. Attribute `block`: channels of a block."""

_MARK = "gradserve.blocked"


def mark_blocked(value: ir.Value) -> None:
    """Says that the value's channels lie in blocks: its shape looks like that of any other image."""
    value.meta[_MARK] = True


def is_blocked(value: ir.Value) -> bool:
    """Whether it was said so."""
    return _MARK in value.meta
