"""Identity goes (y = x), and with it what `switch_mode` made of Dropout. Names of what went still find their value."""

import onnx_ir as ir

from gradserve_server.graph.values import is_op


def drop_identities(model: ir.Model, same: dict[str, str]) -> list[str]:
    """Removes Identity nodes of the main graph, in place.

    An Identity stays between a graph input or an initializer and a graph output, because both names are promised.

    Args:
        model: Changed in place.
        same: Gets removed name -> name of the same value.

    Returns:
        What was removed, in words.
    """
    graph = model.graph
    removed = 0
    for node in list(graph):
        if not is_op(node, "Identity") or node.inputs[0] is None:
            continue
        x, y = node.inputs[0], node.outputs[0]
        if y.is_graph_output() and (x.is_graph_input() or x.is_initializer() or x.is_graph_output()):
            continue
        gone, kept = (x, y) if y.is_graph_output() else (y, x)
        gone_name, kept_name = gone.name or "", kept.name or ""
        ir.convenience.replace_all_uses_with(y, x, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        x.name = kept_name
        same[gone_name] = kept_name
        removed += 1
    # A chain of Identities leaves names that point at names that went later.
    for name, survivor in same.items():
        while survivor in same:
            survivor = same[survivor]  # noqa: PLW2901
        same[name] = survivor
    return [f"dropped {removed} Identity and Dropout nodes"] if removed else []
