"""Models of opsets that the training wheel does not load; onnx's reference evaluator runs them."""

from collections.abc import Iterable

import numpy as np
from support.onnx_models import random
from support.opset_cases.case import IMAGE, Case

NEW = range(22, 29)


def _attention() -> Iterable[Case]:
    heads = {"q": random(2, 4, 3, 8), "k": random(2, 2, 5, 8), "v": random(2, 2, 5, 6)}
    flat = {"q": random(2, 3, 16), "k": random(2, 5, 8), "v": random(2, 5, 8)}
    past = heads | {"a": random(2, 2, 4, 8), "b": random(2, 2, 4, 6)}
    y, present = "float[2,4,3,6] y", "float[2,2,9,8] pk, float[2,2,9,6] pv"
    scores = "y, pk, pv, s = Attention<qk_matmul_output_mode = 1>(q, k, v, , a, b)"
    return (
        Case("Attention", range(23, 29), "y = Attention(q, k, v)", heads, y),
        Case("Attention", range(23, 29), "y = Attention<is_causal = 1, scale = 0.3, softcap = 2.0>(q, k, v)", heads, y),
        Case(
            "Attention", range(23, 29), "y = Attention<q_num_heads = 4, kv_num_heads = 2>(q, k, v)", flat, "float[2,3,16] y"
        ),
        Case("Attention", range(23, 29), "y = Attention(q, k, v, m)", heads | {"m": random(3, 5)}, y),
        Case("Attention", range(23, 29), "y = Attention(q, k, v, m)", heads | {"m": random(3, 5) > 0}, y),
        Case("Attention", range(23, 29), "y, pk, pv = Attention(q, k, v, , a, b)", past, f"{y}, {present}"),
        Case("Attention", range(23, 29), scores, past, f"{y}, {present}, float[2,4,3,9] s"),
        Case("Attention", range(24, 29), "y = Attention(q, k, v, , , , n)", heads | {"n": np.array([3, 5])}, y),
        Case("Attention", range(25, 29), "y = Attention<left_window_size = 1, right_window_size = 1>(q, k, v)", heads, y),
    )


def _functions() -> Iterable[Case]:
    x, wide = {"x": random(2, 3, 4)}, {"x": random(2, 3, 4, 8)}
    places = {"p": np.array([[0, 1, 2, 3], [3, 4, 5, 6]])}
    turns = {"c": random(10, 4), "s": random(10, 4, seed=2)}
    few = {"c": random(10, 2), "s": random(10, 2, seed=2)}
    own = {"c": random(2, 4, 4), "s": random(2, 4, 4, seed=2)}
    rotary = "RotaryEmbedding<num_heads = 2, interleaved = 1>"
    keys = {"q": random(2, 4, 8), "k": random(2, 4, 8), "v": random(2, 4, 6)}
    gates = {"p": random(2, 2, 4, 3), "d": -np.abs(random(2, 4, 8)), "b": np.abs(random(2, 4, 2))}
    linear = 'y, t = LinearAttention<q_num_heads = 2, kv_num_heads = 2, update_rule = "gated_delta">(q, k, v, p, d, b)'
    convolution = {"x": random(2, 3, 5), "w": random(3, 1, 3), "b": random(3)}
    return (
        Case("RMSNormalization", range(23, 29), "y = RMSNormalization(x, g)", x | {"g": random(4)}),
        Case(
            "RMSNormalization", range(23, 29), "y = RMSNormalization<axis = 1, epsilon = 0.1>(x, g)", x | {"g": random(3, 4)}
        ),
        Case("RMSNormalization", range(23, 29), "y = RMSNormalization(x, g)", x | {"g": random(4)}, symbolic=True),
        Case("RotaryEmbedding", range(23, 29), "y = RotaryEmbedding(x, c, s, p)", wide | turns | places),
        Case("RotaryEmbedding", range(23, 29), f"y = {rotary}(x, c, s)", {"x": random(2, 4, 16)} | own),
        Case("RotaryEmbedding", (23, 28), "y = RotaryEmbedding<rotary_embedding_dim = 4>(x, c, s, p)", wide | few | places),
        Case("Swish", range(24, 29), "y = Swish(x)", x),
        Case("Swish", range(24, 29), "y = Swish<alpha = 0.3>(x)", x),
        Case("SwiGLU", (28,), "y = SwiGLU<alpha = 1.5>(x, u)", x | {"u": random(2, 3, 4, seed=1)}),
        Case(
            "CausalConvWithState", (27, 28), "y, t = CausalConvWithState(x, w, b)", convolution, "float[] y, float[2,3,2] t"
        ),
        Case("LinearAttention", (27, 28), linear, keys | gates, "float[2,4,6] y, float[2,2,4,3] t"),
        Case("SpaceToDepth", (28,), 'y = SpaceToDepth<blocksize = 2, mode = "CRD">(x)', IMAGE),
    )


def _same() -> Iterable[Case]:
    """Operators that only gained element types, or attributes that say here what was meant before."""
    x, weights = {"x": random(2, 3, 4)}, {"w": random(3, 2, 3, 2)}
    quantized = {"q": np.arange(6, dtype=np.uint8), "s": np.array(0.5, np.float32)}
    scaled = {"x": random(6), "s": np.array(0.5, np.float32), "z": np.array(3, np.uint8)}
    numbers = {name: np.array(number, np.float32) for name, number in (("a", 1), ("b", 5), ("c", 1.5))}
    return (
        *(
            Case(op, NEW, f"y = {op}(x)", x)
            for op in ("Elu", "HardSwish", "Softplus", "Round", "Identity", "Celu", "Transpose")
        ),
        Case("Conv", NEW, "y = Conv(x, w)", IMAGE, weights=weights),
        Case("MaxPool", NEW, "y = MaxPool<kernel_shape = [2, 2]>(x)", IMAGE),
        Case("Dropout", NEW, "y = Dropout(x)", x),
        Case("Reshape", NEW, "y = Reshape(x, s)", x, weights={"s": np.array([3, -1])}),
        Case("TopK", NEW, "y, i = TopK(x, k)", x, "float[] y, int64[] i", {"k": np.array([2])}),
        Case("Cast", range(24, 29), 'y = Cast<to = 6, round_mode = "up">(x)', x, "int32[] y"),
        Case("DequantizeLinear", range(23, 29), "y = DequantizeLinear<output_dtype = 1>(q, s)", quantized),
        Case("QuantizeLinear", range(23, 29), "y = QuantizeLinear<precision = 1>(x, s, z)", scaled, "uint8[] y"),
        Case("Range", (27, 28), "y = Range<stash_type = 1>(a, b, c)", numbers),
        Case("SpaceToDepth", (28,), 'y = SpaceToDepth<blocksize = 2, mode = "DCR">(x)', IMAGE),
    )


def _nested() -> Iterable[Case]:
    """Bodies of control flow are lowered too."""
    x = {"x": random(2, 4), "c": np.array(True)}
    branches = (
        "then_branch = one () => (float[2,4] t) { t = RMSNormalization(x, g) }, "
        "else_branch = two () => (float[2,4] e) { e = Swish(x) }"
    )
    return [
        Case("If", (24, 28), f"y = If<{branches}>(c)", x | {"c": np.array(yes)}, weights={"g": random(4)})
        for yes in (True, False)
    ]


LOWERED: tuple[Case, ...] = (*_attention(), *_functions(), *_same(), *_nested())
"""Of opsets 22 to 28."""
