"""Small models for the conversion of opsets: one row for each operator, spelling and combination that it must tell apart."""

from support.opset_cases import layers, shapes, values
from support.opset_cases.case import Case
from support.opset_cases.lowered import LOWERED

__all__ = ["LOWERED", "RAISED", "Case"]

RAISED: tuple[Case, ...] = (*values.CASES, *layers.CASES, *shapes.CASES)
"""Of opsets 7 to 17; onnxruntime runs them before and after."""
