"""A batch of fixed size becomes one of any size, as far as the file's own constants fixed it.

The first axis of every input gets a symbol. What was inferred from its size is forgotten. A Reshape on the way that names
the batch size first leaves it open: by -1, or by 0 (as in its input) where -1 stands for another axis already.

Nothing here knows whether the graph still makes sense: whoever calls runs both and compares (`runtime.doctor.repair`).
"""

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import initializer
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.repairs.cannot import CannotRepair
from gradserve_server.graph.values import constant, is_op, shape_of, unused_name

BATCH = "N"


def open_batch(model: ir.Model) -> list[str]:
    """Opens the first axis of every input, in place.

    Args:
        model: With constants lifted to initializers.

    Raises:
        CannotRepair: The inputs have different sizes there.
    """
    graph = model.graph
    shapes = {value: list(shape_of(value) or ()) for value in graph.inputs}
    sizes = {shape[0] for shape in shapes.values() if len(shape) > 1 and isinstance(shape[0], int)}
    if not sizes:
        return []
    if len(sizes) > 1:
        msg = f"the inputs' first axes have different sizes: {', '.join(map(str, sorted(sizes)))}"
        raise CannotRepair(msg)
    (size,) = sizes
    moved = set[ir.Value]()
    for value, shape in shapes.items():
        if len(shape) > 1 and shape[0] == size:
            value.shape = ir.Shape([BATCH, *shape[1:]])
            moved.add(value)
    opened = 0
    for node in graph:
        if any(value in moved for value in node.inputs if value is not None):
            moved.update(node.outputs)
            opened += _open_reshape(graph, node, size)
        for out in node.outputs:
            if out in moved:
                out.shape = None
    infer_shapes(model)
    for output in graph.outputs:
        if output in moved and output.shape is not None and len(output.shape):
            output.shape = ir.Shape([BATCH, *list(output.shape)[1:]])
    return [f"opened the batch, which was {size}{f'; so did {opened} Reshape' if opened else ''}"]


def _open_reshape(graph: ir.Graph, node: ir.Node, size: object) -> int:
    target = constant(node.inputs[1]) if is_op(node, "Reshape") and len(node.inputs) > 1 else None
    if target is None or not target.size or target.ravel()[0] != size:
        return 0
    opened = np.array(target, np.int64)
    opened[0] = 0 if -1 in opened[1:] else -1
    name = unused_name(f"{node.outputs[0].name}/open", graph.initializers)
    node.replace_input_with(1, initializer(graph, name, opened))
    return 1
