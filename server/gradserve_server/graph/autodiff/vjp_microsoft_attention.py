"""`com.microsoft` attention: spelled out in matrix products and a softmax, of which the backward pass reads what it needs.

    scores = scale Q K^T + bias + mask,    Y = softmax(scores) V       for each sample and each head

Scores and probabilities are computed again: no output has them. Sizes: B samples, S queries, L new keys, P past keys,
T = P + L, N heads of H.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import MICROSOFT, expansion
from gradserve_server.graph.autodiff.site import Site

V1 = (1,)

LOWEST = float(np.finfo(np.float32).min)
"""What onnxruntime adds to the score of a key that lies in the future."""

# ---- one head --------------------------------------------------------------------------------------------------------


def _attend(g: Emitter, n: Site, q: Expr, k: Expr, v: Expr, biases: Sequence[Expr]) -> tuple[Expr, Expr]:
    """Y [B, S, N H'] of q, k, v [B, N, ., .], and the scores."""
    head = q.rank - 1
    scale = n.number("scale", 0.0)
    if scale == 0.0 and q.shape is not None and isinstance(size := q.shape[head], int):
        scale = 1 / math.sqrt(size)
    scaled = q * scale if scale else q / g.op("Sqrt", g.cast(g.size(q, head), q.dtype))
    scores = g.op("MatMul", scaled, g.transpose(k, [0, 1, 3, 2]))
    for bias in biases:
        scores = scores + bias
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    return g.op("Reshape", g.transpose(mixed, [0, 2, 1, 3]), g.ints(0, 0, -1)), scores


def _heads(g: Emitter, x: Expr, heads: int) -> Expr:
    """[B, N, S, H] of [B, S, N H]."""
    return g.transpose(g.op("Reshape", x, g.ints(0, 0, heads, -1)), [0, 2, 1, 3])


# ---- masks, as onnxruntime adds them to the scores -------------------------------------------------------------------


def _padding(g: Emitter, n: Site, mask: Expr, batch: Expr, total: Expr) -> Expr:
    """[B, 1, 1 or S, T]: `mask_filter_value` where a key is masked.

    Args:
        g: The emitter.
        n: The node.
        mask: [B, T] or [B, S, T] with 1 for keys that count; or where they end [B], then perhaps where they start [2 B]. In
            any other vector (3 B + 2) onnxruntime reads the ends alone.
        batch: B, int64 [1].
        total: T, int64 [1].
    """
    filtered = n.number("mask_filter_value", -10000.0)
    if mask.rank > 1:
        return g.unsqueeze(g.where(mask > 0, 0, g.const(filtered, n.x.dtype)), [1] if mask.rank == 3 else [1, 2])
    keys = g.op("Range", g.const(0), g.squeeze(total, [0]), g.const(1))
    bounds = g.cast(mask, ir.DataType.INT64)
    twice = g.op("Concat", bounds, g.op("Expand", g.ints(0), batch), axis=0)
    starts = g.op("Slice", twice, batch, batch * 2, g.ints(0))
    starts = g.where(g.shape(mask).equals(batch * 2), starts, 0)
    ends = g.op("Slice", bounds, g.ints(0), batch, g.ints(0))
    inside = g.op("And", keys >= g.unsqueeze(starts, [1, 2, 3]), keys < g.unsqueeze(ends, [1, 2, 3]))
    return g.where(inside, 0, g.const(filtered, n.x.dtype))


def _future(g: Emitter, n: Site, queries: Expr, past: Expr | int, total: Expr) -> Expr:
    """[S, T]: query i reads keys up to P + i. The last reads all (which says something only where P + S < T)."""
    rows = g.op("Range", g.const(0), g.squeeze(queries, [0]), g.const(1))
    columns = g.op("Range", g.const(0), g.squeeze(total, [0]), g.const(1))
    last = g.unsqueeze(rows, [1])
    later = g.op("And", columns > last + past, last < queries - 1)
    return g.where(later, g.const(LOWEST, n.x.dtype), g.const(0, n.x.dtype))


def _biases(g: Emitter, n: Site, mask: Expr | None, bias: Expr | None, q: Expr, k: Expr, past: Expr | None) -> list[Expr]:
    batch, queries, total = g.size(q, 0), g.size(q, 2), g.size(k, 2)
    found = [bias] if bias is not None else []
    if mask is not None:
        found.append(_padding(g, n, mask, batch, total))
    if n.integer("unidirectional", 0):
        found.append(_future(g, n, queries, g.size(past, -2) if past is not None else 0, total))
    return found


# ---- operators -------------------------------------------------------------------------------------------------------


def _ranks_known(n: Site) -> str | None:
    known = all(x is None or x.shape is not None for x in n.inputs)
    return None if known else "ranks not known before the run"


def _shared_buffer(n: Site) -> str | None:
    return "past and present in one buffer" if n.integer("past_present_share_buffer", 0) else None


def _attention_form(n: Site) -> str | None:
    if n.integer("do_rotary", 0):
        return "rotary embedding inside Attention, which onnxruntime's CPU kernel does not have"
    mask = n.optional(3)
    return "a mask with four axes" if mask is not None and mask.rank == 4 else None


@expansion("Attention", since=V1, domain=MICROSOFT, refuse=(_ranks_known, _shared_buffer, _attention_form))
def attention(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """Q, K and V are one product of the input; `past` and `present` [2, B, N, ., H] are K and V.

    Masked keys get `mask_filter_value` added, keys in the future the lowest float.
    """
    heads = n.integer("num_heads", 1)
    projected = g.op("MatMul", n.x, n.input(1))
    projected = projected if n.optional(2) is None else projected + n.optional(2)
    widths = n.integers("qkv_hidden_sizes")
    if widths:
        parts = g.op("Split", projected, g.ints(*widths), axis=-1, outputs=3)
    else:
        parts = g.op("Split", projected, num_outputs=3, axis=-1, outputs=3)
    q, k, v = (_heads(g, part, heads) for part in parts)
    past = n.optional(4)
    if past is not None:
        before = [g.op("Gather", past, g.const(i), axis=0) for i in (0, 1)]
        k, v = (g.op("Concat", old, new, axis=2) for old, new in zip(before, (k, v), strict=True))
    y, _ = _attend(g, n, q, k, v, _biases(g, n, n.optional(3), n.optional(5), q, k, past))
    present = g.op("Concat", g.unsqueeze(k, [0]), g.unsqueeze(v, [0]), axis=0) if len(n.outputs) > 1 else None
    return y, present


def _multi_head_form(n: Site) -> str | None:
    if not (n.has(1) and n.has(2)):
        return "query, key and value in one tensor, which onnxruntime's CPU kernel does not have"
    if n.has(8) or n.has(9):
        return "past and present in one buffer"
    return None


@expansion("MultiHeadAttention", since=V1, domain=MICROSOFT, refuse=(_ranks_known, _multi_head_form))
def multi_head_attention(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """Q, K and V are inputs [B, ., N H], or K and V [B, N, L, H]; the bias [3 N H] is added to those with three axes.

    Masked keys get `mask_filter_value` added, keys in the future the lowest float.
    """
    heads, bias = n.integer("num_heads", 1), n.optional(3)
    inputs = [n.input(i) for i in range(3)]
    if bias is not None:
        width, total = g.size(n.x, -1), g.size(bias, 0)
        bounds = [g.ints(0), width, width * 2, total]
        inputs = [
            x + g.op("Slice", bias, bounds[i], bounds[i + 1], g.ints(0)) if x.rank == 3 else x for i, x in enumerate(inputs)
        ]
    q, k, v = (_heads(g, x, heads) if x.rank == 3 else x for x in inputs)
    past = n.optional(6)
    if past is not None:
        k, v = (g.op("Concat", n.input(i), new, axis=2) for i, new in ((6, k), (7, v)))
    y, scores = _attend(g, n, q, k, v, _biases(g, n, n.optional(4), n.optional(5), q, k, past))
    return y, k, v, scores


def _width_is_known(n: Site) -> str | None:
    if n.integer("is_packed_batching", 0):
        return "sequences packed without padding"
    cache = n.input(2).shape
    if cache is None or not isinstance(cache[-1], int) or n.x.shape is None or n.input(1).shape is None:
        return "the width of the rotation is not known before the run"
    return None


@expansion("RotaryEmbedding", since=V1, domain=MICROSOFT, refuse=_width_is_known)
def rotary_embedding(g: Emitter, n: Site) -> Sequence[Expr]:
    """Turns each pair (a, b) of a head by the angle of its position: (a cos - b sin, a sin + b cos).

    The pairs are neighbours (`interleaved`) or lie half the rotated width apart; what is wider than that stays as it is.
    """
    x, ids = n.x, n.input(1)
    width = 2 * int(n.input(2).shape[-1])  # type: ignore[index,arg-type]
    heads = n.integer("num_heads", 0)
    if x.rank == 3:
        # The cache tells how wide a head is, unless only a part of it turns.
        parted = g.op("Reshape", x, g.ints(0, 0, heads, -1) if heads else g.ints(0, 0, -1, width))
        sequence, across = 1, 2
    else:
        parted, sequence, across = x, 2, 1
    if ids.rank == 1:  # the first position
        length = g.squeeze(g.size(parted, sequence), [0])
        ids = g.unsqueeze(g.op("Range", g.const(0), length, g.const(1)) + ids, [0])
    cos, sin = (g.unsqueeze(g.op("Gather", n.input(i), ids), [across]) for i in (2, 3))
    turned, still = parted, None
    if parted.shape is None or parted.shape[-1] != width:
        turned = g.slice(parted, [0], [width], [3])
        still = g.slice(parted, [width], [np.iinfo(np.int64).max], [3])
    if n.integer("interleaved", 0):
        pairs = g.op("Reshape", turned, g.ints(0, 0, 0, -1, 2))
        a, b = (g.op("Gather", pairs, g.const(i), axis=4) for i in (0, 1))
    else:
        a, b = g.op("Split", turned, num_outputs=2, axis=-1, outputs=2)
    results = (a * cos - b * sin, a * sin + b * cos)
    if n.integer("interleaved", 0):
        y = g.op("Reshape", g.concat(*(g.unsqueeze(r, [4]) for r in results), axis=4), g.ints(0, 0, 0, width))
    else:
        y = g.op("Concat", *results, axis=-1)
    y = y if still is None else g.op("Concat", y, still, axis=-1)
    return (g.reshape_like(y, x) if x.rank == 3 else y,)
