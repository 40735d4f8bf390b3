"""Running a file as it is, training form and all, without its runs changing it."""

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import initializer
from gradserve_server.graph.values import constant, is_op, unused_name


def own_statistics(model: ir.Model) -> None:
    """Gives each BatchNormalization statistics that nothing else reads, with the same numbers.

    In training form, onnxruntime-training writes the new statistics over the old ones. A scale of ones that an exporter
    wrote once for scale and variance would change with each run.
    """
    for node in model.graph:
        for index in (3, 4) if is_op(node, "BatchNormalization") else ():
            value = node.inputs[index]
            array = constant(value)
            if value is not None and array is not None and len(value.uses()) > 1:
                name = unused_name(f"{value.name}/own", model.graph.initializers)
                node.replace_input_with(index, initializer(model.graph, name, array.copy()))
