"""Raises a model: every node takes each step, from its opset to the next, that changed the spelling of its operator."""

from functools import cache

import onnx
import onnx_ir as ir

from gradserve_server.graph.autodiff.rules import RUNTIME_ONLY
from gradserve_server.graph.inference_form.convert_opset.adapters import ADAPTERS
from gradserve_server.graph.inference_form.convert_opset.writer import Writer, default_of
from gradserve_server.graph.values import DEFAULT_DOMAINS

NEVER_CHANGED = RUNTIME_ONLY | {"LayerNormalization"}
"""What onnxruntime's optimizer writes into the default domain, in any opset; LayerNormalization as opset 17 then took it."""


def raise_(model: ir.Model, target: int) -> None:
    """Raises all nodes, in place; the import is left to the caller.

    Raises:
        CannotConvert: A node cannot be raised. The model is then half converted.
    """
    writer = Writer(model)
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.domain in DEFAULT_DOMAINS:
            _raise_node(node, target, writer)


def _raise_node(node: ir.Node, target: int, writer: Writer) -> None:
    if not onnx.defs.has(node.op_type, writer.opset, ""):
        if node.op_type not in NEVER_CHANGED:
            writer.refuse(node, f"expected an operator of opset {writer.opset}, got one that onnx does not define there")
        return
    for version in range(writer.opset + 1, target + 1):
        adapter = ADAPTERS.get((node.op_type, version))
        if adapter is not None:
            adapter(node, writer)
        elif reason := breaks(node.op_type, version):
            writer.refuse(node, f"expected an operator that can be raised to opset {target}, got one that {reason}")


@cache
def breaks(op_type: str, version: int) -> str | None:
    """How an opset changed an operator so that a node of the opset before may mean something else; None where it did not."""
    if not onnx.defs.has(op_type, version - 1, ""):
        return None
    old, new = (onnx.defs.get_schema(op_type, number, "") for number in (version - 1, version))
    if new.since_version != version:
        return None
    if new.deprecated or old.deprecated:
        return f"opset {version} {'took away' if new.deprecated else 'gave another meaning'}"
    changed = {name for name in old.attributes if name not in new.attributes}
    changed |= {name for name, kind in new.attributes.items() if kind.required and name not in old.attributes}
    changed |= {name for name in old.attributes.keys() - changed if default_of(old, name) != default_of(new, name)}
    if new.min_input > old.min_input or new.max_input < old.max_input or new.max_output < old.max_output:
        changed.add("number of inputs or outputs")
    return f"opset {version} gave another {' and '.join(sorted(changed))}" if changed else None
