"""The last activation goes, and what went into it (the logits) becomes the output."""

import onnx_ir as ir

from gradserve_server.graph.doctor.interface import last_activation
from gradserve_server.graph.repairs.cannot import CannotRepair
from gradserve_server.graph.values import describe, opset_of


def cut_softmax(model: ir.Model) -> list[str]:
    """Takes the Softmax, LogSoftmax or Sigmoid away that makes an output; the output keeps its name.

    What stands between it and the output (Reshape, Flatten, ...) stays.

    Raises:
        CannotRepair: Something else reads its result.
    """
    done = []
    for output in list(model.graph.outputs):
        node = last_activation(output)
        if node is None:
            continue
        name, squashed, before = output.name, node.outputs[0], node.inputs[0]
        assert before is not None
        what = describe(node, opset_of(model))
        if len(squashed.uses()) + squashed.is_graph_output() > 1:
            msg = f"{what}: something else reads its result"
            raise CannotRepair(msg)
        if squashed.is_graph_output():
            # By an Identity where the logits have a name of their own that something needs.
            identity = ir.node("Identity", [before], name=f"{node.name or squashed.name}/logits")
            identity.outputs[0].type, identity.outputs[0].shape = squashed.type, squashed.shape
            node.append(identity)
            ir.convenience.replace_all_uses_with(squashed, identity.outputs[0], replace_graph_outputs=True)
            identity.outputs[0].name, squashed.name = squashed.name, f"{squashed.name}/squashed"
        else:
            ir.convenience.replace_all_uses_with(squashed, before)
        model.graph.remove(node, safe=True)
        done.append(f"cut {what}: output '{name}' gives the logits")
    return done
