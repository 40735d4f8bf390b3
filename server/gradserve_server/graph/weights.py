"""Large constants, handed on beside a graph: serializing, parsing and copying them is most of what opening a model costs."""

from collections.abc import Collection, Iterator, Mapping

import onnx_ir as ir

LARGE_CONSTANT_BYTES = 64 * 2**10
"""From this size on a constant is handed on as it is."""

_ELSEWHERE = "memory"


def constants(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    """The constants of the main graph, by name."""
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            yield name, value.const_value


def large_constants(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Those worth handing on as they are. onnxruntime drops those that nothing reads before it would take them."""
    return {
        name: tensor
        for name, tensor in constants(model)
        if tensor.nbytes >= LARGE_CONSTANT_BYTES and model.graph.initializers[name].uses()
    }


def serialize_without(model: ir.Model, names: Collection[str]) -> bytes:
    """The model, with the named constants declared (type, shape) but not held: as external data that lies nowhere."""
    bare = model.clone()
    for name, tensor in constants(model):
        if name in names:
            bare.graph.initializers[name].const_value = ir.ExternalTensor(
                _ELSEWHERE, 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
    return ir.to_proto(bare).SerializeToString()


def put_back(model: ir.Model, tensors: Mapping[str, ir.TensorProtocol]) -> None:
    """Gives a model that was serialized without some constants the ones that it still has."""
    for name, value in model.graph.initializers.items():
        if name in tensors:
            value.const_value = tensors[name]


def let_go(model: ir.Model) -> None:
    """Takes the constants from a graph that is used no more; it refers to itself in circles, and would hold them long."""
    for value in model.graph.initializers.values():
        value.const_value = None
