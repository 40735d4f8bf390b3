"""Chains of operators on numbers one by one, and reductions of rows, in one pass over memory.

A gradient is half masks, slopes and sums, each of which onnxruntime reads from memory and writes to it. Here neighbours
become one operator of ours, `gradserve.Fused`, which holds a small program (csrc/kernels/fused) and runs it over parts of
the numbers that fit the cache. What a backward group reads of the forward pass is computed again, where that is fewer reads.

1. `packed`: masks that are kept in bits.
2. `groups`: which nodes run together.
3. `recomputed`: what a group computes itself instead of reading it.
4. `program`: the text of a group's program.

Results differ from the single operators' by rounding: transcendental functions are our own, within 3 ulp.
"""

from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.tuning.fused.domains import BLOCKED, DOMAIN, VERSION, is_packed
from gradserve_server.graph.tuning.fused.groups import groups_of
from gradserve_server.graph.tuning.fused.packed import pack_masks
from gradserve_server.graph.tuning.fused.program import FEWEST_LINES, Writer
from gradserve_server.graph.tuning.fused.recomputed import exports, recompute
from gradserve_server.graph.tuning.fused.table import REDUCTIONS, TABLE
from gradserve_server.graph.values import unused_name

__all__ = ["BLOCKED", "DOMAIN", "REDUCTIONS", "TABLE", "fuse"]


def fuse(model: ir.Model) -> None:
    """Fuses what can be fused in the main graph, in place.

    Args:
        model: With shapes inferred. Nodes of the domain `BLOCKED` are replaced in any case: only our operator runs them.

    Raises:
        ValueError: A node of that domain cannot be in a program.
    """
    pack_masks(model.graph)
    groups = groups_of(model.graph)
    recompute(groups)
    names = {value.name or "" for node in model.graph.all_nodes() for value in node.outputs}
    exported = exports(model.graph, groups)
    # All texts before the first rewrite: they are read off the nodes.
    written = [(group, results, Writer(group.fusion, results).program()) for group, results in exported.items() if results]
    now: dict[ir.Value, ir.Value] = {}
    for group, results, program in written:
        fusion = group.fusion
        packs = any(is_packed(value) for value in (*fusion.inputs, *results))
        if len(program.splitlines()) < FEWEST_LINES and fusion.block == 1 and not packs:
            continue
        attributes: dict[str, Any] = {
            "program": program,
            "axis": fusion.axis,
            "lanes": fusion.lanes,
            "block": fusion.block,
            "narrow": [int(value in fusion.narrow) for value in results],
            "packed_inputs": [int(is_packed(value)) for value in fusion.inputs],
            "packed_outputs": [int(is_packed(value)) for value in results],
        }
        name = unused_name(f"{results[0].name}/fused", names)
        inputs = [now.get(value, value) for value in fusion.inputs]
        node = ir.node("Fused", inputs, attributes, domain=DOMAIN, num_outputs=len(results), name=name)
        model.graph.insert_after(group.nodes[-1], node)
        for old, new in zip(results, node.outputs, strict=True):
            new.type, new.shape = old.type, ir.Shape([None]) if is_packed(old) else old.shape
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            old.name, new.name = unused_name(f"{old.name}/unfused", names), old.name
            names.add(old.name)
            now[old] = new
    RemoveUnusedNodesPass()(model)
    left = [node.op_type for node in model.graph if node.domain == BLOCKED]
    if left:
        msg = f"{', '.join(left)}: on blocked tensors, and in no program"
        raise ValueError(msg)
    model.graph.opset_imports[DOMAIN] = VERSION
