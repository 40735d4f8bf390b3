"""Names of our operators' domains."""

DOMAIN = "gradserve"
"""Operators of our library (csrc/ort)."""

BLOCKED = "gradserve.blocked"
"""Standard operators on tensors whose channels lie in blocks, where the other operand has one number for each channel or
position: what they mean is right, where the numbers lie is not what onnxruntime takes them to be. They live between the
layout pass and the fusion, which turns every one of them into a program. Attribute `block`: channels of a block."""
