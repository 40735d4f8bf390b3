"""Types and shapes of values that onnxruntime's own operators make, and a few others that onnx's inference leaves out.

Without them every value after such an operator would have no rank. A row of `SHAPES` is what one operator makes of its
inputs; operators that it lacks leave their outputs as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from gradserve_server.graph.autodiff.emitter import MAX_KNOWN_SIZE, Dim, infer
from gradserve_server.graph.autodiff.rules import MICROSOFT, RUNTIME_ONLY
from gradserve_server.graph.values import DEFAULT_DOMAINS, constant, opset_of, shape_of

Shape = tuple[Dim, ...] | None
Made = Sequence["tuple[ir.DataType | None, Shape]"]
"""Of each output: element type and shape, as far as known."""

LEFT_OUT = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Standard operators, functions in onnx, whose outputs its inference leaves without a shape."""

MAX_ROUNDS = 8
"""A round follows all that does not depend on computed shapes; those need one for each such stretch of the graph."""


def infer_shapes(model: ir.Model) -> None:
    """Infers types and shapes of all values, as far as they follow from the inputs'."""
    _infer_standard(model)
    for _ in range(MAX_ROUNDS):
        if not any(_is_contrib(node) for node in model.graph.all_nodes()) or not infer_unknown(model):
            return
        # Again, for what follows from computed shapes and for subgraphs.
        _infer_standard(model)


def _infer_standard(model: ir.Model) -> None:
    ShapeInferencePass(check_type=False, strict_mode=False)(model)


def _is_contrib(node: ir.Node) -> bool:
    return node.domain == MICROSOFT or (node.domain in DEFAULT_DOMAINS and node.op_type in RUNTIME_ONLY | LEFT_OUT)


def infer_unknown(model: ir.Model) -> bool:
    """Infers what is not known yet, node by node, in one walk. Returns whether anything became known."""
    opset, found = opset_of(model), False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        unknown = [out for out in node.outputs if out.name and (out.dtype is None or out.shape is None)]
        if not unknown:
            continue
        before = [(out.dtype, out.shape) for out in node.outputs]
        # What makes no sense is found when the graph is loaded; here it stays unknown.
        with suppress(AssertionError, IndexError, TypeError, ValueError, KeyError):
            if _is_contrib(node):
                _fill(node, opset)
            else:
                infer(node, opset)
        found = found or before != [(out.dtype, out.shape) for out in node.outputs]
    return found


def _fill(node: ir.Node, opset: int) -> None:
    """Adds what is not known yet; what the file says stays."""
    shapes = SHAPES.get(node.op_type)
    if shapes is None:
        return
    for out, (dtype, shape) in zip(node.outputs, shapes(Inputs(node, opset)), strict=False):
        if out.dtype is None and dtype is not None:
            out.type = ir.TensorType(dtype)
        if out.shape is None and shape is not None:
            out.shape = ir.Shape(shape)


class Inputs:
    """What a row of the table sees of a node."""

    def __init__(self, node: ir.Node, opset: int) -> None:
        self.node, self._opset = node, opset

    def value(self, index: int) -> ir.Value | None:
        """An input; None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def dtype(self, index: int = 0) -> ir.DataType | None:
        """An input's element type."""
        value = self.value(index)
        return value.dtype if value is not None else None

    def shape(self, index: int = 0) -> Shape:
        """An input's shape."""
        value = self.value(index)
        return shape_of(value) if value is not None else None

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return self.node.attributes[name].as_int() if name in self.node.attributes else default

    def integers(self, name: str) -> list[int]:
        """A list of integers; empty where it is left out."""
        return list(self.node.attributes[name].as_ints()) if name in self.node.attributes else []

    def standard(self, op_type: str, *shapes: Shape, inputs: Sequence[int] | None = None, **attributes: Any) -> Made:
        """What onnx says of a standard operator.

        Args:
            op_type: The operator.
            *shapes: Of its inputs, where they differ from the node's.
            inputs: Which inputs of the node it has; all by default.
            **attributes: Its attributes; besides, it has those of the node that the operator knows.
        """
        values = [self.value(i) for i in (range(len(self.node.inputs)) if inputs is None else inputs)]
        copies = [_copied(value) for value in values]
        for value, shape in zip(copies, shapes, strict=False):
            if value is not None:
                value.shape = ir.Shape(shape) if shape is not None else None
        known = onnx.defs.get_schema(op_type, self._opset, "").attributes
        given = {name: attribute.value for name, attribute in self.node.attributes.items() if name in known}
        twin = ir.node(op_type, copies, given | attributes, name="twin")
        twin.outputs[0].name = "twin"
        infer(twin, self._opset)
        return [(out.dtype, shape_of(out)) for out in twin.outputs]


def _copied(value: ir.Value | None) -> ir.Value | None:
    """A value that nothing else uses."""
    if value is None:
        return None
    array = constant(value)
    known = ir.tensor(array, name=value.name) if array is not None and array.size <= MAX_KNOWN_SIZE else None
    return ir.Value(name=value.name, type=value.type, shape=value.shape, const_value=known)


# ---- what each operator makes ----------------------------------------------------------------------------------------


def _same(x: Inputs) -> Made:
    return [(x.dtype(), x.shape())]


def _like_standard(op_type: str, inputs: Sequence[int] | None = None) -> Callable[[Inputs], Made]:
    return lambda x: x.standard(op_type, inputs=inputs)


def _normalized(x: Inputs) -> Made:
    """Y, mean, inv_std_var, the sum before."""
    moments = (*shape[:-1], 1) if (shape := x.shape()) else None
    return [(x.dtype(), x.shape()), (ir.DataType.FLOAT, moments), (ir.DataType.FLOAT, moments), (x.dtype(), x.shape())]


def _root_mean_square(x: Inputs) -> Made:
    """Y, inv_std_var."""
    shape, axis = x.shape(), x.integer("axis", -1)
    inner = shape and (*shape[:axis], *(1 for _ in shape[axis:]))
    return [(x.dtype(1), shape), (ir.DataType.FLOAT, inner)]


def _matmul(x: Inputs) -> Made:
    def permuted(shape: Shape, which: str) -> Shape:
        if shape is None or len(shape) < 2:
            return shape
        if x.integer(f"transBatch{which}"):
            shape = (*shape[1:-1], shape[0], shape[-1])
        return (*shape[:-2], shape[-1], shape[-2]) if x.integer(f"trans{which}") else shape

    return x.standard("MatMul", permuted(x.shape(0), "A"), permuted(x.shape(1), "B"))


def _product_by_width(x: Inputs) -> Made:
    """[.., N] of [.., K]."""
    shape = x.shape()
    return [(x.dtype(), shape and (*shape[:-1], x.integer("N")))]


def _quantized_product(scale: int) -> Callable[[Inputs], Made]:
    """A MatMul whose result has the type of a scale."""
    return lambda x: [(x.dtype(scale), made[1]) for made in x.standard("MatMulInteger", inputs=(0, 1))]


def _of_batch(x: Inputs, length: Dim, width: Dim) -> Shape:
    shape = x.shape()
    return (shape[0], length, width) if shape is not None and len(shape) == 3 else None


def _attention(x: Inputs) -> Made:
    """Y [B, S, N H'], present [2, B, N, T, H]."""
    shape, weights = x.shape(0), x.shape(1)
    if shape is None:
        return [(x.dtype(), None)]
    widths, total = x.integers("qkv_hidden_sizes"), weights[1] if weights else None
    width = widths[2] if widths else total // 3 if isinstance(total, int) else None
    heads = x.integer("num_heads", 1)
    present = (2, shape[0], heads, None if x.value(4) else shape[1], width // heads if isinstance(width, int) else None)
    return [(x.dtype(), (shape[0], shape[1], width)), (x.dtype(), present)]


def _multi_head_attention(x: Inputs) -> Made:
    """Y [B, S, N H'], present K and V [B, N, T, .], scores [B, N, S, T]."""
    query, heads = x.shape(0), x.integer("num_heads", 1)
    if query is None or len(query) != 3:
        return [(x.dtype(), None)]

    def keys_or_values(index: int) -> tuple[Dim, Dim, Dim]:
        """T, the width of a head, and of all heads."""
        shape = x.shape(index)
        if shape is None or len(shape) not in (3, 4):
            return None, None, None
        length, width = (None if x.value(6) is not None else shape[-2]), shape[-1]
        if len(shape) == 3:
            return length, width // heads if isinstance(width, int) else None, width
        return length, width, heads * width if isinstance(width, int) else None

    (keys, narrow, _), (_, wide, width) = keys_or_values(1), keys_or_values(2)
    return [
        (x.dtype(), (query[0], query[1], width)),
        (x.dtype(), (query[0], heads, keys, narrow)),
        (x.dtype(), (query[0], heads, keys, wide)),
        (x.dtype(), (query[0], heads, query[1], keys)),
    ]


def _group_query_attention(x: Inputs) -> Made:
    """Y [B, S, N H]: as wide as the query, unless that holds keys and values too; present K and V [B, N', T, H]."""
    query, heads, groups = x.shape(0), x.integer("num_heads", 1), x.integer("kv_num_heads", 1)
    if query is None or len(query) != 3:
        return [(x.dtype(), None)]
    width = query[2]
    head = None
    if isinstance(width, int):
        head = width // (heads if x.value(1) is not None else heads + 2 * groups)
        width = head * heads
    present = (query[0], groups, None, head)
    return [(x.dtype(), (query[0], query[1], width)), (x.dtype(), present), (x.dtype(), present)]


def _embedding(x: Inputs) -> Made:
    """Y [B, S, H], mask index [B], the sum before."""
    ids, words = x.shape(0), x.shape(2)
    if ids is None or len(ids) != 2:
        return [(x.dtype(2), None), (ir.DataType.INT32, None), (x.dtype(2), None)]
    shape = (*ids, words[1] if words else None)
    return [(x.dtype(2), shape), (ir.DataType.INT32, (ids[0],)), (x.dtype(2), shape)]


def _distances(x: Inputs) -> Made:
    a, b = x.shape(0), x.shape(1)
    return [(x.dtype(), (a[0] if a else None, b[0] if b else None))]


def _expanded(x: Inputs) -> Made:
    axis, shape = constant(x.value(1)), x.shape()
    if axis is None or shape is None:
        return [(x.dtype(), None if shape is None else (None,) * (len(shape) + 1))]
    where = int(axis.item())
    where += len(shape) + 1 if where < 0 else 0
    return [(x.dtype(), (*shape[:where], 1, *shape[where:]))]


def _unfolded(x: Inputs) -> Made:
    shape = x.shape()
    if shape is None:
        return [(x.dtype(), None)]
    axis, size = x.integer("dim", -1) % len(shape), x.integer("size", 1)
    length = shape[axis]
    windows = (length - size) // x.integer("step", 1) + 1 if isinstance(length, int) else None
    return [(x.dtype(), (*shape[:axis], windows, *shape[axis + 1 :], size))]


def _conv_transpose(x: Inputs) -> Made:
    """The pads are an input."""
    pads, shape, weights = constant(x.value(2)), x.shape(0), x.shape(1)
    if shape is None:
        return [(x.dtype(), None)]
    channels = weights[1] if weights else None
    channels = channels * x.integer("group", 1) if isinstance(channels, int) else None
    rank_alone = (shape[0], channels, *(None for _ in shape[2:]))
    if x.value(2) is not None and pads is None:
        return [(x.dtype(), rank_alone)]
    given = {} if pads is None else {"pads": [int(pad) for pad in pads.ravel()]}
    ((dtype, known),) = x.standard("ConvTranspose", inputs=(0, 1), **given)
    return [(dtype, known if known is not None else rank_alone)]


def _padded(x: Inputs) -> Made:
    """The pads may have a first axis of size 1."""
    pads, shape = constant(x.value(1)), x.shape()
    if shape is None:
        return [(x.dtype(), None)]
    if pads is None:
        return [(x.dtype(), (None,) * len(shape))]
    total = pads.reshape(2, -1).sum(0)
    return [
        (
            x.dtype(),
            tuple(
                size + int(more) if isinstance(size, int) else size if more == 0 else None
                for size, more in zip(shape, total, strict=True)
            ),
        )
    ]


SAME = """
    BiasGelu BiasSoftmax FastGelu GatedAdd GatedRMSNorm Gelu GemmaRotaryEmbedding GroupNorm Inverse MRotaryEmbedding
    NGramRepeatBlock QuickGelu RotaryEmbedding SampleOp ScaledSiLU Trilu
""".split()  # noqa: SIM905
"""Operators whose output has the type and the shape of their first input."""

SHAPES: Mapping[str, Callable[[Inputs], Made]] = {
    **dict.fromkeys([*SAME, *LEFT_OUT], _same),
    "Attention": _attention,
    "CDist": _distances,
    "ConvTransposeWithDynamicPads": _conv_transpose,
    "DequantizeLinear": lambda x: [(x.dtype(1), x.shape())],
    "DynamicQuantizeMatMul": _quantized_product(0),
    "EmbedLayerNormalization": _embedding,
    "ExpandDims": _expanded,
    "FusedConv": _like_standard("Conv", (0, 1)),
    "FusedGemm": _like_standard("Gemm", (0, 1)),
    "FusedMatMul": _matmul,
    "GatherND": _like_standard("GatherND"),
    "GridSample": _like_standard("GridSample"),
    "GroupQueryAttention": _group_query_attention,
    "MatMulBnb4": _product_by_width,
    "MatMulIntegerToFloat": _quantized_product(2),
    "MatMulNBits": _product_by_width,
    "MultiHeadAttention": _multi_head_attention,
    "Pad": _padded,
    "Range": lambda x: [(x.dtype(), (None,))],
    "SimplifiedLayerNormalization": _root_mean_square,
    "SkipLayerNormalization": _normalized,
    "SkipSimplifiedLayerNormalization": _normalized,
    "TransposeMatMul": _matmul,
    "UnfoldTensor": _unfolded,
}
