"""`com.microsoft` attention and rotary embedding. Torch is the only oracle: see `microsoft`."""

from functools import partial

import numpy as np
import torch
from conformance.case import Case
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

MS = partial(Case, domain="com.microsoft", evaluator=False, opsets=(18, 28))
RANDOM = np.random.default_rng(0)

# ---- attention -------------------------------------------------------------------------------------------------------

HEADS, SIZE = 2, 3
WIDTH = HEADS * SIZE


def _split(x, heads=HEADS):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _mix(q, k, v, mask=None, scale=None, causal=False):
    """Of q, k, v [B, N, ., .]; torch's own."""
    allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2]) if causal else None
    if allowed is not None:
        future = torch.zeros(allowed.shape, dtype=q.dtype).masked_fill(~allowed, -torch.inf)
        mask = future if mask is None else mask + future
    with sdpa_kernel(SDPBackend.MATH):  # the only one with a second derivative
        mixed = functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    return mixed.transpose(1, 2).flatten(2)


def _hidden(keep):
    """What onnxruntime adds where a key is masked."""
    return (1.0 - torch.tensor(np.asarray(keep), dtype=torch.float64)) * -10000.0


RAW = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], np.int32)
FULL = np.array([np.tril(np.ones((4, 4))), np.ones((4, 4))], np.int32)
ENDS = np.array([2, 4], np.int32)
BOUNDS = np.array([4, 3, 1, 0], np.int32)
SELF = {"X": (2, 4, 5), "W": (5, 3 * WIDTH), "b": (3 * WIDTH,)}


def _attention(name, text="", more="", inputs=None, function=None, **others):
    """`function` gives the mask and the keywords of `_mix`, from what `inputs` adds."""

    def run(x, w, b, *rest):
        q, k, v = (_split(part) for part in (x @ w + b).chunk(3, -1))
        return _mix(q, k, v, **(function(*rest) if function else {}))

    attributes = f"num_heads = {HEADS}{text}"
    body = f"Y = com.microsoft.Attention<{attributes}>(X, W, b{more})"
    return MS("Attention", body, SELF | (inputs or {}), run, name=name, **others)


def _attention_with_past(x, w, b, past):
    q, k, v = (_split(part) for part in (x @ w + b).chunk(3, -1))
    k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    return _mix(q, k, v, causal=True), torch.stack([k, v])


def _attention_with_narrow_values(x, w, b):
    q, k, v = (_split(part) for part in (x @ w + b).split([WIDTH, WIDTH, 4], -1))
    return _mix(q, k, v)


def _multi(name, inputs, function, arguments, text="", outputs=("Y",), **others):
    body = f"{', '.join(outputs)} = com.microsoft.MultiHeadAttention<num_heads = {HEADS}{text}>({arguments})"
    return MS("MultiHeadAttention", body, inputs, function, name=name, outputs=outputs, **others)


def _multi_plain(q, k, v, **keywords):
    return _mix(_split(q), _split(k), _split(v), **keywords)


def _multi_biased(q, k, v, b):
    wide = v.shape[-1]
    return _multi_plain(*(x + part for x, part in zip((q, k, v), b.split([WIDTH, WIDTH, wide]), strict=True)))


def _multi_with_past(q, k, v, past_key, past_value):
    k, v = torch.cat([past_key, _split(k)], 2), torch.cat([past_value, _split(v)], 2)
    return _mix(_split(q), k, v, causal=True), k, v


QKV = {"Q": (2, 4, WIDTH), "K": (2, 4, WIDTH), "V": (2, 4, WIDTH)}

ATTENTION = [
    _attention("plain"),
    _attention("scale", text=", scale = 0.3", function=lambda: {"scale": 0.3}),
    _attention("causal", text=", unidirectional = 1", function=lambda: {"causal": True}),
    _attention("raw mask", more=", m", others={"m": RAW}, function=lambda: {"mask": _hidden(RAW)[:, None, None]}),
    _attention("full mask", more=", m", others={"m": FULL}, function=lambda: {"mask": _hidden(FULL)[:, None]}),
    _attention(
        "ends", more=", m", others={"m": ENDS},
        function=lambda: {"mask": _hidden(np.arange(4) < ENDS[:, None])[:, None, None]},
    ),
    _attention(
        "bounds", more=", m", others={"m": BOUNDS},
        function=lambda: {
            "mask": _hidden((np.arange(4) < BOUNDS[:2, None]) & (np.arange(4) >= BOUNDS[2:, None]))[:, None, None]
        },
    ),
    _attention("bias", more=", , , s", inputs={"s": (2, HEADS, 4, 4)}, function=lambda s: {"mask": s}),
    MS(
        "Attention",
        f"Y, P = com.microsoft.Attention<num_heads = {HEADS}, unidirectional = 1>(X, W, b, , past)",
        SELF | {"past": (2, 2, HEADS, 2, SIZE)},
        _attention_with_past,
        outputs=("Y", "P"),
        name="past",
    ),
    MS(
        "Attention",
        f"Y = com.microsoft.Attention<num_heads = {HEADS}, qkv_hidden_sizes = [{WIDTH}, {WIDTH}, 4]>(X, W, b)",
        {"X": (2, 4, 5), "W": (5, 2 * WIDTH + 4), "b": (2 * WIDTH + 4,)},
        _attention_with_narrow_values,
        name="narrow values",
    ),
    _multi("plain", QKV, _multi_plain, "Q, K, V"),
    _multi("cross", QKV | {"K": (2, 5, WIDTH), "V": (2, 5, 4)}, _multi_plain, "Q, K, V"),
    _multi("scale", QKV, partial(_multi_plain, scale=0.3), "Q, K, V", text=", scale = 0.3"),
    _multi("causal", QKV, partial(_multi_plain, causal=True), "Q, K, V", text=", unidirectional = 1"),
    _multi("bias", QKV | {"b": (3 * WIDTH,)}, _multi_biased, "Q, K, V, b"),
    _multi(
        "raw mask", QKV, lambda q, k, v: _multi_plain(q, k, v, mask=_hidden(RAW)[:, None, None]), "Q, K, V, , m",
        others={"m": RAW},
    ),
    _multi(
        "scores", QKV | {"s": (2, HEADS, 4, 4)}, lambda q, k, v, s: _multi_plain(q, k, v, mask=s), "Q, K, V, , , s"
    ),
    _multi(
        "keys by head",
        {"Q": (2, 4, WIDTH), "K": (2, HEADS, 5, SIZE), "V": (2, HEADS, 5, SIZE)},
        lambda q, k, v: _mix(_split(q), k, v),
        "Q, K, V",
    ),
    _multi(
        "past",
        QKV | {"pk": (2, HEADS, 2, SIZE), "pv": (2, HEADS, 2, SIZE)},
        _multi_with_past,
        "Q, K, V, , , , pk, pv",
        text=", unidirectional = 1",
        outputs=("Y", "PK", "PV"),
    ),
]  # fmt: skip

# ---- rotation --------------------------------------------------------------------------------------------------------

ANGLES = RANDOM.uniform(-2, 2, (6, 2))
CACHES = {"cos": np.cos(ANGLES), "sin": np.sin(ANGLES)}
IDS = np.array([[0, 3, 1], [5, 2, 4]], np.int64)


def _rotated(x, positions, interleaved=False):
    """x [B, N, S, H] as complex numbers; what is wider than the angles stays as it is."""
    turn = torch.polar(torch.ones(ANGLES.shape, dtype=torch.float64), torch.tensor(ANGLES))[torch.tensor(positions)]
    turn = turn[:, None]
    moving, still = x[..., :4], x[..., 4:]
    pairs = moving.unflatten(-1, (2, 2)) if interleaved else moving.unflatten(-1, (2, 2)).mT
    turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * turn)
    return torch.cat([(turned if interleaved else turned.mT).flatten(-2), still], -1)


def _rotary(name, shape, function, text="", ids=IDS):
    return MS(
        "RotaryEmbedding",
        f"Y = com.microsoft.RotaryEmbedding{text}(X, ids, cos, sin)",
        {"X": shape},
        function,
        constants=CACHES,
        others={"ids": ids},
        name=name,
    )


def _by_head(function):
    return lambda x: function(_split(x)).transpose(1, 2).flatten(2)


ROTARY = [
    _rotary("rows", (2, 3, 8), _by_head(lambda x: _rotated(x, IDS))),
    _rotary("heads", (2, 2, 3, 4), lambda x: _rotated(x, IDS)),
    _rotary("interleaved", (2, 3, 8), _by_head(lambda x: _rotated(x, IDS, interleaved=True)), "<interleaved = 1>"),
    _rotary("partial", (2, 3, 12), _by_head(lambda x: _rotated(x, IDS)), "<rotary_embedding_dim = 4, num_heads = 2>"),
    _rotary("offset", (2, 2, 3, 4), lambda x: _rotated(x, [[2, 3, 4]]), ids=np.array([2], np.int64)),
]

CASES = [*ATTENTION, *ROTARY]
