"""Outputs of a model that are a BatchNormalization's statistics go: in inference form they are constants, or nothing."""

import onnx_ir as ir

from gradserve_server.graph.inference_form.switch_mode import extra_outputs
from gradserve_server.graph.values import is_op


def drop_statistics(model: ir.Model) -> list[str]:
    """Removes them from the model's outputs, as long as another output is left."""
    graph, done = model.graph, []
    statistics = {value for node in graph if is_op(node, "BatchNormalization") for value in extra_outputs(node)}
    for value in [output for output in graph.outputs if output in statistics]:
        if len(graph.outputs) > 1:
            graph.outputs.remove(value)
            done.append(f"dropped output '{value.name}', the statistics of a BatchNormalization")
    return done
