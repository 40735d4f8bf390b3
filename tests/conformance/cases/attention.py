"""Attention, rotary position embedding, linear attention."""

import numpy as np
import torch
from conformance.case import Case, Draw

SINCE = (23, 24, 25)
SIZES = ("none", "batch")
"""Where onnx infers a size of 0 from sizes it does not know."""
B, H, S, T, D, E = 2, 2, 3, 4, 2, 3
BOOL = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1]], bool)
BLIND = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]], bool)
Q4, K4, V4 = (B, H, S, D), (B, H, T, D), (B, H, T, E)


def _attention(q, k, v, mask=None, *, scale=None, softcap=0.0, blind=None):
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    raw = scores
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    p = torch.softmax(scores, -1)
    if blind is not None:
        p = p.masked_fill(torch.tensor(blind)[:, None], 0)
    return p @ v, raw, p


def _heads(x, heads):
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _y(*args, **options):
    return _attention(*args, **options)[0]


def _causal(queries, keys, past=0):
    return torch.tensor(np.tril(np.ones((queries, keys), bool), past))


def _packed(q, k, v):
    return _y(_heads(q, 4), _heads(k, 2), _heads(v, 2)).transpose(1, 2).flatten(2)


def _with_past(q, k, v, pk, pv):
    k, v = torch.cat([pk, k], 2), torch.cat([pv, v], 2)
    return _y(q, k, v, _causal(S, T + 2, 2)), k.flatten() ** 2, v.flatten() ** 2


def _lengths(q, k, v):
    seen = torch.tensor(np.arange(T) < np.array([[4], [3]]))[:, None, None]
    offset = np.array([4, 3]) - S
    causal = np.arange(T) <= np.arange(S)[:, None] + offset[:, None, None]
    return _y(q, k, v, seen & torch.tensor(causal)[:, None])


def _window(q, k, v):
    distance = np.arange(S)[:, None] - np.arange(T)
    return _y(q, k, v, torch.tensor((distance <= 1) & (-distance <= 1)))


def _blind(q, k, v):
    # A query that sees nothing is given something to see, and its output put to zero: NaN has no derivative.
    seen = torch.tensor(BLIND | ~BLIND.any(1, keepdims=True))
    return _y(q, k, v, seen, blind=~BLIND.any(1))


def _case(name, body, torch_function, shapes=(Q4, K4, V4), opsets=(23,), more=None, **others):
    inputs = dict(zip("QKV", shapes, strict=True)) | (more or {})
    return Case("Attention", body, inputs, torch_function, opsets=opsets, name=name, **others)


ATTENTION = [
    _case("plain", "Y = Attention(Q, K, V)", _y, opsets=SINCE),
    _case("scale and cap", "Y = Attention<scale = 0.9, softcap = 1.5>(Q, K, V)", lambda *x: _y(*x, scale=0.9, softcap=1.5)),
    _case("groups", "Y = Attention(Q, K, V)", _y, ((B, 4, S, D), K4, V4)),
    _case(
        "packed",
        "Y = Attention<q_num_heads = 4, kv_num_heads = 2>(Q, K, V)",
        _packed,
        ((B, S, 4 * D), (B, T, 2 * D), (B, T, 2 * E)),
        SINCE,
        dynamic=SIZES,
    ),
    _case("causal", "Y = Attention<is_causal = 1>(Q, K, V)", lambda q, k, v: _y(q, k, v, _causal(S, T)), opsets=SINCE),
    _case("float mask", "Y = Attention(Q, K, V, M)", _y, more={"M": (H, S, T)}, opsets=SINCE),
    _case(
        "float mask, causal",
        "Y = Attention<is_causal = 1>(Q, K, V, M)",
        lambda q, k, v, m: _y(q, k, v, m.masked_fill(~_causal(S, T), -torch.inf)),
        more={"M": (B, 1, S, T)},
    ),
    _case("bool mask", "Y = Attention(Q, K, V, M)", lambda *x: _y(*x, torch.tensor(BOOL)), others={"M": BOOL}, opsets=SINCE),
    _case("sees nothing", "Y = Attention(Q, K, V, M)", _blind, others={"M": BLIND}, opsets=(25,)),
    _case(
        "past",
        # Of the keys that follow onnx infers nothing.
        'L = Constant<value_ints = [-1]>()  Y, NK, NV = Attention<is_causal = 1>(Q, K, V, "", PK, PV) '
        "FK = Reshape(NK, L)  KK = Mul(FK, FK)  FV = Reshape(NV, L)  VV = Mul(FV, FV)",
        _with_past,
        more={"PK": (B, H, 2, D), "PV": (B, H, 2, E)},
        opsets=SINCE,
        outputs=("Y", "KK", "VV"),
    ),
    _case(
        "lengths",
        'Y = Attention<is_causal = 1>(Q, K, V, "", "", "", L)',
        _lengths,
        others={"L": np.array([4, 3])},
        opsets=(24, 25),
    ),
    _case("window", "Y = Attention<left_window_size = 1, right_window_size = 1>(Q, K, V)", _window, opsets=(25,)),
    _case(
        "scores",
        'Y, "", "", P = Attention(Q, K, V)',
        lambda q, k, v: _attention(q, k, v)[:2],
        outputs=("Y", "P"),
        dynamic=SIZES,
    ),
    _case(
        "probabilities",
        'Y, "", "", P = Attention<qk_matmul_output_mode = 3>(Q, K, V)',
        lambda q, k, v: _attention(q, k, v)[::2],
        outputs=("Y", "P"),
        dynamic=SIZES,
    ),
]

# ---- rotary embedding ------------------------------------------------------------------------------------------------

POSITIONS = np.array([[0, 2, 1], [3, 2, 0]])


def _rotary(*, interleaved=False, size=None, heads=None, positions=None):
    def function(x, cos, sin):
        packed = heads is not None
        rows = x.unflatten(2, (heads, -1)) if packed else x.transpose(1, 2)
        turned, rest = rows[..., :size], rows[..., size:] if size else rows[..., :0]
        if positions is not None:
            cos, sin = cos[torch.tensor(positions)], sin[torch.tensor(positions)]
        cos, sin = cos[:, :, None], sin[:, :, None]
        a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
        real, imaginary = cos * a - sin * b, sin * a + cos * b
        pairs = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
        y = torch.cat([pairs, rest], -1)
        return y.flatten(2) if packed else y.transpose(1, 2)

    return function


def _rotary_case(name, attributes, shape, half, positions=None, **options):
    cache = (4, half) if positions is not None else (2, 3, half)
    return Case(
        "RotaryEmbedding",
        f"Y = RotaryEmbedding<{attributes}>(X, C, S{', P' if positions is not None else ''})".replace("<>", ""),
        {"X": shape, "C": cache, "S": cache},
        _rotary(positions=positions, **options),
        opsets=(23,),
        others={"P": positions} if positions is not None else {},
        name=name,
    )


ROTARY = [
    _rotary_case("4-D", "", (2, 2, 3, 4), 2),
    _rotary_case("positions", "", (2, 2, 3, 4), 2, POSITIONS),
    _rotary_case("interleaved", "interleaved = 1", (2, 2, 3, 4), 2, POSITIONS, interleaved=True),
    _rotary_case("part", "rotary_embedding_dim = 2", (2, 2, 3, 4), 1, size=2),
    _rotary_case("3-D", "num_heads = 2", (2, 3, 8), 2, heads=2),
    _rotary_case(
        "3-D part",
        "num_heads = 2, rotary_embedding_dim = 2, interleaved = 1",
        (2, 3, 8),
        1,
        POSITIONS,
        heads=2,
        size=2,
        interleaved=True,
    ),
]

# ---- linear attention ------------------------------------------------------------------------------------------------


def _linear(rule, scale=None):
    def function(q, k, v, *others):
        others = list(others)
        state = others.pop(0)
        decay = others.pop(0) if "gated" in rule else None
        beta = others.pop(0) if "delta" in rule else None
        q, k, v = (x.unflatten(2, (heads, -1)) for x, heads in ((q, 4), (k, 2), (v, 2)))
        outputs = []
        for t in range(q.shape[1]):
            if decay is not None:
                state = state * torch.exp(decay[:, t].unflatten(1, (2, -1)))[..., None]
            new = v[:, t]
            if beta is not None:
                new = beta[:, t][..., None] * (new - torch.einsum("bhkv,bhk->bhv", state, k[:, t]))
            state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], new)
            outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state.repeat_interleave(2, 1)))
        y = torch.stack(outputs, 1).flatten(2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        return y, state

    return function


def _linear_case(rule, attributes="", decay=None, beta=None, **options):
    inputs = {"Q": (2, 3, 8), "K": (2, 3, 4), "V": (2, 3, 6), "S": (2, 2, 2, 3)}
    slots = "Q, K, V, S" + (", G" if decay else ', ""' if beta else "") + (", E" if beta else "")
    inputs |= {"G": Draw((2, 3, decay), "unit")} if decay else {}
    inputs |= {"E": Draw((2, 3, beta), "positive")} if beta else {}
    written = f'q_num_heads = 4, kv_num_heads = 2, update_rule = "{rule}"{attributes}'
    return Case(
        "LinearAttention",
        f"Y, Z = LinearAttention<{written}>({slots})",
        inputs,
        _linear(rule, **options),
        opsets=(27,),
        outputs=("Y", "Z"),
        evaluator=False,  # computes in float32
        name=rule,
    )


LINEAR = [
    _linear_case("linear", ", scale = 0.3", scale=0.3),
    _linear_case("gated", decay=4),
    _linear_case("delta", beta=1),
    _linear_case("gated_delta", decay=2, beta=2),
]

CASES = [*ATTENTION, *ROTARY, *LINEAR]
