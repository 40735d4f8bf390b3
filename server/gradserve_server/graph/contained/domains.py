"""Which operators a file may use: those that onnxruntime computes by itself, from nothing but their inputs."""

import onnx_ir as ir

from gradserve_server.graph.contained.files import Refused
from gradserve_server.graph.values import DEFAULT_DOMAINS, describe, opset_of

RESERVED_DOMAIN = "gradserve"
"""Of the operators that tuning puts into graphs (`tuning.fused.domains`): no file brings them along."""

DOMAINS = frozenset(
    {
        *DEFAULT_DOMAINS,
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
"""onnx's and onnxruntime's own. Any other is of a library of custom operators, and none is ever loaded."""

EXPECTED = "operators of ONNX or onnxruntime that only compute"

REFUSED = {
    ("com.microsoft", "EPContext"): "names a file, or is code, for a device",
    ("com.microsoft", "Snpe"): "is code for a device",
    ("com.microsoft", "PythonOp"): "calls Python by name",
    ("com.microsoft", "PythonOpGrad"): "calls Python by name",
    ("com.microsoft", "TritonOp"): "is compiled when it runs",
}
"""Operators of onnxruntime that do more than compute, with what that is."""


def check_operators(model: ir.Model) -> None:
    """Checks every node.

    Args:
        model: Without functions.

    Raises:
        Refused: An operator is none of those that a file may use.
    """
    # A declaration says nothing: onnxruntime writes those of all domains that it knows into the files that it optimizes.
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain.split(".")[0] == RESERVED_DOMAIN:
            msg = f"domain '{node.domain}', which is for the server's own"
            raise Refused(msg, EXPECTED)
        if node.domain not in DOMAINS:
            msg = f"{describe(node, opset_of(model, node.domain))}: custom operators are off"
            raise Refused(msg, EXPECTED)
        if reason := REFUSED.get((node.domain, node.op_type)):
            msg = f"{describe(node, opset_of(model, node.domain))}, which {reason}"
            raise Refused(msg, EXPECTED)
