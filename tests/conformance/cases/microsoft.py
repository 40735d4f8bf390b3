"""`com.microsoft` operators. Onnx's reference evaluator knows none of them, so torch is the only oracle.

The forward function is compared too: with what the installed onnxruntime computes.
"""

import math
from functools import partial

import numpy as np
import torch
from conformance.case import Case, Draw
from torch.nn import functional

MS = partial(Case, domain="com.microsoft", evaluator=False, opsets=(18, 28))
RANDOM = np.random.default_rng(0)

POSITIVE = "positive"


def _gelu(x):
    return functional.gelu(x)


# ---- stand-alone -----------------------------------------------------------------------------------------------------

ALONE = [
    MS("Gelu", "Y = com.microsoft.Gelu(X)", {"X": (3, 4)}, _gelu),
    MS("BiasGelu", "Y = com.microsoft.BiasGelu(X, B)", {"X": (2, 3, 4), "B": (4,)}, lambda x, b: _gelu(x + b)),
    MS("FastGelu", "Y = com.microsoft.FastGelu(X)", {"X": (3, 4)}, partial(functional.gelu, approximate="tanh")),
    MS(
        "FastGelu",
        "Y = com.microsoft.FastGelu(X, B)",
        {"X": (2, 3, 4), "B": (4,)},
        lambda x, b: functional.gelu(x + b, approximate="tanh"),
        name="bias",
    ),
    MS("QuickGelu", "Y = com.microsoft.QuickGelu(X)", {"X": (3, 4)}, lambda x: x * torch.sigmoid(1.702 * x)),
    MS("QuickGelu", "Y = com.microsoft.QuickGelu<alpha = 1.0>(X)", {"X": (3, 4)}, functional.silu, name="silu"),
    MS(
        "Inverse",
        "Y = com.microsoft.Inverse(X)",
        {"X": Draw((2, 3, 3), "distinct")},
        torch.linalg.inv,
    ),
    MS("CDist", "Y = com.microsoft.CDist<metric = \"sqeuclidean\">(A, B)", {"A": (3, 4), "B": (2, 4)},
       lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1), dynamic=("none", "all")),
    MS("CDist", "Y = com.microsoft.CDist<metric = \"euclidean\">(A, B)", {"A": (3, 4), "B": (2, 4)},
       lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1).sqrt(),  # torch.cdist has no second derivative
       name="euclidean", dynamic=("none", "all")),
    MS("SampleOp", "Y = com.microsoft.SampleOp(X)", {"X": (3, 4)}, torch.clone),
    MS("ExpandDims", "Y = com.microsoft.ExpandDims(X, axis)", {"X": (3, 4)}, lambda x: x[:, None],
       others={"axis": np.array(1, np.int32)}),
    MS("ExpandDims", "Y = com.microsoft.ExpandDims(X, axis)", {"X": (3, 4)}, lambda x: x[..., None], name="constant",
       constants={"axis": np.array(-1, np.int32)}, too_old="onnxruntime 1.19 dies of it"),
    MS("GatherND", "Y = com.microsoft.GatherND(X, ids)", {"X": (3, 4)}, lambda x: x[[0, 2, 0], [1, 3, 1]],
       others={"ids": np.array([[0, 1], [2, 3], [0, 1]], np.int64)}, dynamic=("none", "batch")),
    MS("Trilu", "Y = com.microsoft.Trilu(X)", {"X": (2, 3, 4)}, torch.triu),
    MS("Trilu", "Y = com.microsoft.Trilu<upper = 0>(X, k)", {"X": (3, 4)}, lambda x: torch.tril(x, -1), name="lower",
       constants={"k": np.array(-1, np.int64)}),
    MS("Pad", "Y = com.microsoft.Pad<mode = \"constant\">(X, pads)", {"X": (3, 4)},
       lambda x: functional.pad(x, (2, 1, 1, 0)), constants={"pads": np.array([1, 2, 0, 1], np.int64)}),
    MS("Pad", "Y = com.microsoft.Pad<mode = \"reflect\">(X, pads)", {"X": (2, 3, 4)},
       lambda x: functional.pad(x, (2, 1), mode="reflect"), constants={"pads": np.array([[0, 0, 2, 0, 0, 1]], np.int64)},
       name="reflect"),
    MS("ConvTransposeWithDynamicPads",
       "Y = com.microsoft.ConvTransposeWithDynamicPads<strides = [2, 2]>(X, W, pads, B)",
       {"X": (2, 2, 3, 3), "W": (2, 3, 2, 2), "B": (3,)},
       lambda x, w, b: functional.conv_transpose2d(x, w, b, 2, 1), constants={"pads": np.array([1, 1, 1, 1], np.int64)}),
    MS("GridSample", "Y = com.microsoft.GridSample(X, G)", {"X": (1, 2, 4, 3), "G": Draw((1, 3, 2, 2), "unit")},
       partial(functional.grid_sample, align_corners=False)),
    MS("GridSample", "Y = com.microsoft.GridSample<mode = \"bicubic\", padding_mode = \"border\", align_corners = 1>(X, G)",
       {"X": (1, 2, 4, 3), "G": Draw((1, 3, 2, 2), "unit")},
       partial(functional.grid_sample, mode="bicubic", padding_mode="border", align_corners=True), name="bicubic"),
    MS("UnfoldTensor", "Y = com.microsoft.UnfoldTensor<dim = 1, size = 3, step = 2>(X)", {"X": (2, 7, 2)},
       lambda x: x.unfold(1, 3, 2), too_old="onnxruntime 1.19 has no kernel for it"),
    MS("Range", "Y = com.microsoft.Range(start, limit, delta)", {"start": (), "delta": Draw((), POSITIVE)},
       lambda start, delta: start + torch.arange(math.ceil((5 - start.item()) / delta.item())) * delta,
       constants={"limit": np.array(5.0)}),
]  # fmt: skip

# ---- products with activations ---------------------------------------------------------------------------------------

ACTIVATIONS = {
    "": ("", lambda x: x),
    "Relu": ("", functional.relu),
    "Tanh": ("", torch.tanh),
    "Sigmoid": ("", torch.sigmoid),
    "LeakyRelu": ("0.2", partial(functional.leaky_relu, negative_slope=0.2)),
    "Clip": ("-0.7, 0.9", partial(torch.clamp, min=-0.7, max=0.9)),
    "HardSigmoid": ("0.3, 0.4", lambda x: (0.3 * x + 0.4).clamp(0, 1)),
}


def _conv(x, w, b, z):
    return functional.conv2d(x, w, b, padding=1) + z


def _fused_conv(name):
    parameters, function = ACTIVATIONS[name]
    text = f', activation = "{name}"' if name else ""
    text += f", activation_params = [{parameters}]" if parameters else ""
    return MS(
        "FusedConv",
        f"Y = com.microsoft.FusedConv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]{text}>(X, W, B, Z)",
        {"X": (1, 2, 3, 4), "W": (2, 2, 3, 3), "B": (2,), "Z": (1, 2, 3, 4)},
        lambda x, w, b, z: function(_conv(x, w, b, z)),
        name=name,
    )


GEMM_ACTIVATIONS = {
    "Relu": ("", functional.relu),
    "Tanh": ("", torch.tanh),
    "LeakyRelu": (", activation_alpha = 0.2", partial(functional.leaky_relu, negative_slope=0.2)),
    "Elu": (", activation_alpha = 0.6", partial(functional.elu, alpha=0.6)),
    "Selu": (
        ", activation_alpha = 1.6732632, activation_gamma = 1.0507010",
        functional.selu,
    ),
    "HardSigmoid": (", activation_alpha = 0.3, activation_beta = 0.4", lambda x: (0.3 * x + 0.4).clamp(0, 1)),
    "Softplus": ("", functional.softplus),
    "Softsign": ("", functional.softsign),
    "ThresholdedRelu": (", activation_alpha = 0.5", lambda x: x * (x > 0.5)),
}


def _fused_gemm(name):
    parameters, function = GEMM_ACTIVATIONS[name]
    return MS(
        "FusedGemm",
        f'Y = com.microsoft.FusedGemm<activation = "{name}"{parameters}, transB = 1, alpha = 0.5, beta = 2.0>(A, B, C)',
        {"A": (2, 3), "B": (4, 3), "C": (4,)},
        lambda a, b, c: function(0.5 * a @ b.T + 2 * c),
        name=name,
    )


def _fused_matmul(name, a, b, function, text):
    return MS("FusedMatMul", f"Y = com.microsoft.FusedMatMul<{text}>(A, B)", {"A": a, "B": b}, function, name=name)


def _nbits(bits, zeros):
    """W = (q - zero) * scale: 5 rows of 40 columns in blocks of 32."""
    rows, columns, block, blocks = 5, 40, 32, 2
    values = RANDOM.integers(0, 2**bits, (rows, blocks * block))
    zero = RANDOM.integers(0, 2**bits, (rows, blocks)) if zeros else np.full((rows, blocks), 2 ** (bits - 1))
    scales = RANDOM.uniform(0.01, 0.02, (rows, blocks)).astype(np.float32).astype(np.float64)
    weights = ((values.reshape(rows, blocks, block) - zero[..., None]) * scales[..., None]).reshape(rows, -1)[:, :columns]

    def packed(x):
        return (x if bits == 8 else x[..., ::2] + 16 * x[..., 1::2]).astype(np.uint8)

    constants = {"B": packed(values.reshape(rows, blocks, block)), "scales": scales.ravel()}
    constants |= {"zeros": packed(zero).ravel()} if zeros else {}
    inputs = "B, scales, zeros" if zeros else "B, scales"
    return MS(
        "MatMulNBits",
        f"Y = com.microsoft.MatMulNBits<bits = {bits}, N = {rows}, K = {columns}, block_size = {block}>(A, {inputs})",
        {"A": (2, columns)},
        lambda a: a @ torch.tensor(weights).T,
        constants=constants,
        name=f"{bits} bits" + (", zero points" if zeros else ""),
    )


PRODUCTS = [
    *(_fused_conv(name) for name in ACTIVATIONS),
    MS(
        "FusedConv",
        'Y = com.microsoft.FusedConv<kernel_shape = [3], strides = [2], group = 2, activation = "Relu">(X, W)',
        {"X": (2, 4, 7), "W": (4, 2, 3)},
        lambda x, w: functional.relu(functional.conv1d(x, w, stride=2, groups=2)),
        name="groups",
    ),
    *(_fused_gemm(name) for name in GEMM_ACTIVATIONS),
    _fused_matmul("plain", (2, 3), (3, 4), torch.matmul, "alpha = 1.0"),
    _fused_matmul("alpha", (2, 3, 4), (2, 4, 3), lambda a, b: 0.5 * a @ b, "alpha = 0.5"),
    _fused_matmul("transA", (2, 4, 3), (4, 5), lambda a, b: a.mT @ b, "transA = 1"),
    _fused_matmul("transB", (2, 3, 4), (5, 4), lambda a, b: 2 * a @ b.mT, "transB = 1, alpha = 2.0"),
    _fused_matmul("both", (2, 4, 3), (2, 5, 4), lambda a, b: a.mT @ b.mT, "transA = 1, transB = 1"),
    _fused_matmul(
        "transBatchA", (3, 2, 4), (2, 4, 5), lambda a, b: a.movedim(0, 1) @ b, "transBatchA = 1, transA = 0"
    ),
    _fused_matmul(
        "all",
        (3, 2, 4),
        (5, 2, 4),
        lambda a, b: a.movedim(0, 1) @ b.movedim(0, 1).mT,
        "transBatchA = 1, transBatchB = 1, transB = 1",
    ),
    MS("TransposeMatMul", "Y = com.microsoft.TransposeMatMul<transA = 1>(A, B)", {"A": (3, 2), "B": (3, 4)},
       lambda a, b: a.mT @ b),
    _nbits(4, zeros=False),
    _nbits(4, zeros=True),
]  # fmt: skip

# ---- sums with normalization -----------------------------------------------------------------------------------------


def _layer_norm(x, gamma, beta=None, epsilon=1e-12):
    return functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)


def _rms_norm(x, gamma, epsilon):
    return functional.rms_norm(x, gamma.shape, gamma, epsilon)


EMBEDDED = {"ids": np.array([[1, 0, 4], [2, 2, 3]], np.int32), "segments": np.array([[0, 0, 1], [1, 0, 1]], np.int32)}
TABLES = {"words": (5, 4), "positions": (3, 4), "kinds": (2, 4), "gamma": (4,), "beta": (4,)}


def _embed(words, positions, kinds, gamma, beta):
    ids, segments = (torch.tensor(EMBEDDED[name]).long() for name in ("ids", "segments"))
    return _layer_norm(words[ids] + positions[:3] + kinds[segments], gamma, beta)


NORMS = [
    MS(
        "SkipLayerNormalization",
        "Y = com.microsoft.SkipLayerNormalization<epsilon = 1e-5>(X, skip, gamma, beta)",
        {"X": (2, 3, 4), "skip": (2, 3, 4), "gamma": (4,), "beta": (4,)},
        lambda x, skip, gamma, beta: _layer_norm(x + skip, gamma, beta, 1e-5),
    ),
    MS(
        "SkipLayerNormalization",
        "Y, mean, var, Z = com.microsoft.SkipLayerNormalization(X, skip, gamma, , bias)",
        {"X": (2, 3, 4), "skip": (2, 3, 4), "gamma": (4,), "bias": (4,)},
        lambda x, skip, gamma, bias: (_layer_norm(x + skip + bias, gamma), x + skip + bias),
        outputs=("Y", "Z"),
        name="sum",
    ),
    MS(
        "SkipSimplifiedLayerNormalization",
        "Y = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 1e-5>(X, skip, gamma)",
        {"X": (2, 3, 4), "skip": (2, 3, 4), "gamma": (4,)},
        lambda x, skip, gamma: _rms_norm(x + skip, gamma, 1e-5),
    ),
    MS(
        "SkipSimplifiedLayerNormalization",
        "Y, mean, var, Z = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 1e-5>(X, skip, gamma, bias)",
        {"X": (2, 3, 4), "skip": (2, 3, 4), "gamma": (4,), "bias": (4,)},
        lambda x, skip, gamma, bias: (_rms_norm(x + skip + bias, gamma, 1e-5), x + skip + bias),
        outputs=("Y", "Z"),
        name="sum",
        too_old="onnxruntime 1.19 forgets the bias",
    ),
    MS(
        "SimplifiedLayerNormalization",
        "Y = SimplifiedLayerNormalization<epsilon = 1e-5>(X, gamma)",
        {"X": (2, 3, 4), "gamma": (4,)},
        lambda x, gamma: _rms_norm(x, gamma, 1e-5),
    ),
    MS(
        "SimplifiedLayerNormalization",
        "Y = SimplifiedLayerNormalization<axis = 1>(X, gamma)",
        {"X": (2, 3, 4), "gamma": (3, 4)},
        lambda x, gamma: _rms_norm(x, gamma, 1e-5),
        name="axis",
    ),
    MS(
        "EmbedLayerNormalization",
        "Y, M = com.microsoft.EmbedLayerNormalization(ids, segments, words, positions, kinds, gamma, beta)",
        TABLES,
        _embed,
        others=EMBEDDED,
        dynamic=("none",),  # onnxruntime wants to know every size of the tables
    ),
    MS(
        "EmbedLayerNormalization",
        "Y, M = com.microsoft.EmbedLayerNormalization(ids, , words, positions, , gamma, beta, , places)",
        {name: shape for name, shape in TABLES.items() if name != "kinds"},
        lambda words, positions, gamma, beta: _layer_norm(
            words[torch.tensor(EMBEDDED["ids"]).long()] + positions[torch.tensor([[2, 1, 0], [0, 0, 1]])], gamma, beta
        ),
        others={"ids": EMBEDDED["ids"], "places": np.array([[2, 1, 0], [0, 0, 1]], np.int32)},
        dynamic=("none",),
        name="positions",
    ),
]

CASES = [*ALONE, *PRODUCTS, *NORMS]
