"""Convolutions whose kernel covers the whole image are dense layers: products with one matrix, in both directions.

A convolution has its weights in blocks for each direction. A matrix is read where it lies, by the product and by the
transposed one of its gradient: VGG-16's first dense layer alone, 7x7 by 7x7, is 411 MB.
"""

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.values import constant, is_op, shape_of, supersede

WORTH_BYTES = 2**20
"""Weights from which on. Below, what blocks take is little, and the squeezes of channel attention stay in blocks."""


def to_products(model: ir.Model) -> None:
    """Makes them products of matrices, in place. Every value keeps its name and shape.

    Args:
        model: With inferred shapes.
    """
    found = [node for node in model.graph if is_op(node, "Conv") and _is_dense(node)]
    for node in found:
        _replace(model.graph, node)
    if found:
        RemoveUnusedNodesPass()(model)


def _is_dense(node: ir.Node) -> bool:
    """Whether there is one position, at which the kernel reads the image as it is."""
    x, weight, attributes = node.inputs[0], constant(node.inputs[1]), node.attributes
    if x is None or weight is None or weight.nbytes < WORTH_BYTES:
        return False
    covers = (shape_of(x) or ())[1:] == weight.shape[1:]  # of all channels: no groups
    padded = any(attributes.get_ints("pads", [])) or attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return covers and not padded  # nor dilated: such a kernel would not fit


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    x, weight, *bias = node.inputs
    out = node.outputs[0]
    assert x is not None
    assert weight is not None
    assert weight.const_value is not None
    array = weight.const_value.numpy()
    count, size, rank = array.shape[0], array[0].size, array.ndim
    same_memory = ir.Tensor(array.reshape(count, size), weight.dtype)
    matrix = _initializer(graph, f"{out.name}/matrix", same_memory)
    to_row = _initializer(graph, f"{out.name}/row", ir.tensor([0, size], ir.DataType.INT64))
    to_image = _initializer(graph, f"{out.name}/image", ir.tensor([0, count, *[1] * (rank - 2)], ir.DataType.INT64))
    row = ir.node("Reshape", [x, to_row], name=f"{out.name}/to_row")
    product = ir.node("Gemm", [row.outputs[0], matrix, *bias], {"transB": 1}, name=f"{out.name}/product")
    image = ir.node("Reshape", [product.outputs[0], to_image], name=f"{out.name}/to_image")
    samples = x.shape[0] if x.shape is not None else None
    for made, width in ((row, size), (product, count)):
        value = made.outputs[0]
        value.name, value.type, value.shape = f"{made.name}/out", x.type, ir.Shape([samples, width])
    graph.insert_before(node, [row, product, image])
    supersede(out, image.outputs[0])
    graph.remove(node, safe=True)


def _initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor)
    graph.register_initializer(value)
    return value
