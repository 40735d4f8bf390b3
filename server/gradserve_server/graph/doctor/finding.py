"""A finding is a check's code, where, and what was seen there; the rest stands in the table."""

import onnx_ir as ir

from gradserve.diagnosis import Finding
from gradserve_server.graph.doctor.table import CHECKS


def finding(code: str, where: ir.Node | str = "", detail: str = "") -> Finding:
    """A finding of a check.

    Args:
        code: Of the check.
        where: A node, or the name of an input or output; empty for the whole model.
        detail: What was seen.
    """
    check = CHECKS[code]
    return Finding(
        code, check.severity, where if isinstance(where, str) else label(where), check.effect, detail, check.repair
    )


def label(node: ir.Node) -> str:
    """How people find a node: its name, or else what it makes."""
    return node.name or next((value.name for value in node.outputs if value.name), "")
