"""Attention, rotary position embedding, and linear attention."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.bodies import scan
from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, expansion, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

# ---- Attention -------------------------------------------------------------------------------------------------------


@expansion("Attention", since=(23, 24, 25), refuse=rank_known)
def attention(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """Y = P V with P = softmax(softcap(scale Q K^T) + bias); zero for a query that may see no key.

    Queries that share a head of keys are one longer query, so that keys are never repeated.
    """
    q, k, v = n.input(0), n.input(1), n.input(2)
    packed = q.rank == 3
    if packed:
        q = _heads(g, q, n.integer("q_num_heads", 1))
        k, v = (_heads(g, x, n.integer("kv_num_heads", 1)) for x in (k, v))
    past = n.optional(4)
    if past is not None:
        k, v = g.op("Concat", past, k, axis=2), g.op("Concat", n.input(5), v, axis=2)
    grouped = _grouped(q, k)

    scaled = q * _scale(g, n, q)
    raw = g.op("MatMul", _group(g, scaled, k) if grouped else scaled, g.transpose(k, [0, 1, 3, 2]))
    if grouped:
        raw = g.op("Reshape", raw, g.concat(g.sizes(q, [0, 1, 2]), g.size(k, 2)))
    cap = n.number("softcap", 0.0)
    capped = g.op("Tanh", raw / cap) * cap if cap else raw
    bias, unseen = _bias(g, n, q, k, past)
    biased = capped + bias if bias is not None else capped
    precision = ir.DataType(n.integer("softmax_precision", int(biased.dtype)))
    p = g.cast(g.op("Softmax", g.cast(biased, precision), axis=-1), biased.dtype)
    p = g.where(unseen, 0, p) if unseen is not None else p
    y = g.op("MatMul", _group(g, p, k) if grouped else p, v)
    if grouped:
        y = g.op("Reshape", y, g.concat(g.sizes(q, [0, 1, 2]), g.size(v, 3)))
    scores = (raw, capped, biased, p)[n.integer("qk_matmul_output_mode", 0)]
    return [_packed(g, y) if packed else y, k, v, scores][: len(n.outputs)]


def _heads(g: Emitter, x: Expr, heads: int) -> Expr:
    """[B, S, H * D] -> [B, H, S, D]."""
    return g.transpose(g.op("Reshape", x, g.ints(0, 0, heads, -1)), [0, 2, 1, 3])


def _packed(g: Emitter, x: Expr) -> Expr:
    """[B, H, S, D] -> [B, S, H * D]."""
    return g.op("Reshape", g.transpose(x, [0, 2, 1, 3]), g.ints(0, 0, -1))


def _grouped(q: Expr, k: Expr) -> bool:
    """Whether several heads of queries share one of keys, as far as is known."""
    heads = [x.shape[1] if x.shape is not None else None for x in (q, k)]
    return None in heads or heads[0] != heads[1]


def _group(g: Emitter, x: Expr, k: Expr) -> Expr:
    """[B, Hq, S, .] -> [B, Hk, S Hq / Hk, .]."""
    return g.op("Reshape", x, g.concat(g.size(x, 0), g.size(k, 1), g.ints(-1), g.size(x, 3)))


def _scale(g: Emitter, n: Site, q: Expr) -> Expr | float:
    """1 / sqrt(D), if the node does not say."""
    if given := n.number("scale", 0.0):
        return given
    size = q.shape[-1] if q.shape is not None else None
    if isinstance(size, int):
        return float(1 / np.sqrt(size))
    return 1 / g.op("Sqrt", g.cast(g.size(q, -1), q.dtype))


def _bias(g: Emitter, n: Site, q: Expr, k: Expr, past: Expr | None) -> tuple[Expr | None, Expr | None]:
    """What is added to the scores, and which queries see no key.

    Where no key may be seen it is the lowest number instead of minus infinity: the derivative stays a number.
    """
    lowest = g.const(ml_dtypes.finfo(q.dtype.numpy()).min, q.dtype)  # type: ignore[no-untyped-call]
    mask, seen, lengths = n.optional(3), _seen(g, n, q, k, past), n.optional(6)
    if mask is None and seen is None:
        return None, None
    if mask is None and lengths is None and not _windows(n):
        assert seen is not None
        return g.where(seen, g.const(0, q.dtype), lowest), None
    infinite = g.const(-np.inf, q.dtype)
    bias = g.const(0, q.dtype)
    if mask is not None:
        bias = g.where(mask, bias, infinite) if mask.dtype is ir.DataType.BOOL else mask
        bias = _widened(g, bias, k, infinite)
    bias = g.where(seen, bias, infinite) if seen is not None else bias
    hidden = bias.equals(infinite)
    unseen = g.reduce("ReduceMax", bias, [-1]).equals(infinite)
    return g.where(hidden, lowest, bias), unseen


def _windows(n: Site) -> bool:
    return max(n.integer("left_window_size", -1), n.integer("right_window_size", -1)) >= 0


def _widened(g: Emitter, bias: Expr, k: Expr, infinite: Expr) -> Expr:
    """Masks may end before the keys do."""
    keys, last = (x.shape[axis] if x.shape is not None else None for x, axis in ((k, 2), (bias, -1)))
    if last == 1 or (keys is not None and keys == last):
        return bias
    # A last axis of one element is for all keys.
    missing = g.where(g.size(bias, -1).equals(1), 0, g.size(k, 2) - g.size(bias, -1))
    rest = g.op("Expand", infinite, g.concat(g.sizes(bias, range(bias.rank - 1)), missing))
    return g.op("Concat", bias, rest, axis=-1)


def _seen(g: Emitter, n: Site, q: Expr, k: Expr, past: Expr | None) -> Expr | None:
    """Which keys the positions and the number of keys let a query see: bool, broadcast to [B, H, S, T]; None if all."""
    left, right, lengths = n.integer("left_window_size", -1), n.integer("right_window_size", -1), n.optional(6)
    causal = n.integer("is_causal", 0) == 1
    keys = _range(g, g.size(k, 2))
    found: list[Expr] = []
    if causal or _windows(n):
        queries = g.unsqueeze(_range(g, g.size(q, 2)), [1])
        if lengths is not None and past is None:
            queries = queries + g.unsqueeze(lengths - g.size(q, 2), [1, 2, 3])
        elif past is not None:
            queries = queries + g.size(past, 2)
        found += [keys <= queries] if causal else []
        found += [keys >= queries - left] if left >= 0 else []
        found += [keys <= queries + right] if right >= 0 else []
    if lengths is not None:
        found.append(keys < g.unsqueeze(lengths, [1, 2, 3]))
    seen = None
    for condition in found:
        seen = condition if seen is None else g.op("And", seen, condition)
    return seen


def _range(g: Emitter, size: Expr) -> Expr:
    scalar = g.const(0), g.squeeze(size, [0]), g.const(1)
    return g.op("Range", *scalar)


# ---- RotaryEmbedding -------------------------------------------------------------------------------------------------


@vjp("RotaryEmbedding", since=(23,), refuse=rank_known)
def rotary_embedding(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """(Y1, Y2) = (C X1 - S X2, S X1 + C X2):  dX = dY turned back, dC = sum dY1 X1 + dY2 X2, dS = sum dY2 X1 - dY1 X2.

    The sums are over the heads, and over the tokens at the same position.
    """
    cos, sin, positions = n.input(1), n.input(2), n.optional(3)
    attributes = {name: attribute.value for name, attribute in n.node.attributes.items()}

    def to_cache(x: Expr, cache: Expr) -> Expr:
        x = g.sum(x, [1 if n.x.rank == 4 else 2], keepdims=False)
        if positions is None:
            return g.unbroadcast(x, cache)
        return g.op("ScatterND", g.zeros_like(cache), g.unsqueeze(positions, [-1]), x, reduction="add")

    def dcos() -> Expr:
        (x1, x2), (dy1, dy2) = _halves(g, n, n.x), _halves(g, n, n.dy)
        return to_cache(dy1 * x1 + dy2 * x2, cos)

    def dsin() -> Expr:
        (x1, x2), (dy1, dy2) = _halves(g, n, n.x), _halves(g, n, n.dy)
        return to_cache(dy2 * x1 - dy1 * x2, sin)

    return lambda: g.op("RotaryEmbedding", n.dy, cos, -sin, positions, **attributes), dcos, dsin


def _halves(g: Emitter, n: Site, x: Expr) -> tuple[Expr, Expr]:
    """The two parts that are turned into each other, with an axis of heads."""
    if x.rank == 3:
        x = g.op("Reshape", x, g.ints(0, 0, n.integer("num_heads", 1), -1))
    if size := n.integer("rotary_embedding_dim", 0):
        x = g.slice(x, [0], [size], [3])
    if not n.integer("interleaved", 0):
        first, second = g.op("Split", x, outputs=2, axis=3, num_outputs=2)
        return first, second
    pairs = g.op("Reshape", x, g.ints(0, 0, 0, -1, 2))
    first, second = g.op("Split", pairs, outputs=2, axis=4, num_outputs=2)
    return g.squeeze(first, [4]), g.squeeze(second, [4])


# ---- LinearAttention -------------------------------------------------------------------------------------------------


@expansion("LinearAttention", since=(27,))
def linear_attention(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """S_t = e^g_t S_{t-1} + k_t (v_t - [delta] e^g_t S_{t-1}^T k_t)^T b_t,  o_t = scale q_t^T S_t, in float32, by a Scan."""
    query, key, value, past, decay, beta = (n.optional(i) for i in range(6))
    assert query is not None
    assert key is not None
    assert value is not None
    heads, shared = n.integer("kv_num_heads", 1), n.integer("q_num_heads", 1) // n.integer("kv_num_heads", 1)

    def by_step(x: Expr, *sizes: int) -> Expr:
        """[B, T, ...] -> [T, B, *sizes]."""
        x = g.op("Reshape", g.cast(x, ir.DataType.FLOAT), g.ints(0, 0, *sizes))
        return g.transpose(x, [1, 0, *range(2, 2 + len(sizes))])

    q = by_step(query, heads, shared, -1)
    k, v = by_step(key, heads, 1, -1), by_step(value, heads, 1, -1)
    elements = [q, k, v]
    if decay is not None:
        elements.append(g.op("Exp", by_step(decay, heads, -1, 1)))
    if beta is not None:
        elements.append(g.unsqueeze(g.transpose(g.cast(beta, ir.DataType.FLOAT), [1, 0, 2]), [3, 4]))
    if past is not None:
        start = g.cast(past, ir.DataType.FLOAT)
    else:
        zeros = ir.tensor(np.zeros(1, np.float32))
        start = g.op("ConstantOfShape", g.concat(g.size(k, 1), heads, g.size(k, 4), g.size(v, 4)), value=zeros)

    def step(inner: Emitter, states: list[Expr], taken: list[Expr]) -> tuple[list[Expr], list[Expr]]:
        (state,), (q_t, k_t, v_t, *others) = states, taken
        if decay is not None:
            state = state * others.pop(0)
        if beta is not None:
            v_t = (v_t - inner.op("MatMul", k_t, state)) * others.pop(0)
        state = state + inner.op("MatMul", inner.transpose(k_t, [0, 1, 3, 2]), v_t)
        return [state], [inner.op("MatMul", q_t, state)]

    (end,), (read,) = scan(g, [start], elements, step)
    out = g.op("Reshape", g.transpose(read, [1, 0, 2, 3, 4]), g.ints(0, 0, -1)) * _scale(g, n, q)
    return [g.cast(out, query.dtype), g.cast(end, past.dtype if past is not None else query.dtype)]
