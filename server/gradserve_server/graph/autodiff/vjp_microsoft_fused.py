"""What onnxruntime's optimizer makes of several standard operators: products with activations, sums with normalization."""

from collections.abc import Callable, Mapping, Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import MICROSOFT, Cotangent, Rule, expansion, lookup, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.autodiff.vjp_activations import STEEP
from gradserve_server.graph.autodiff.vjp_microsoft import like

V1 = (1,)

# ---- activations at the end of a product -----------------------------------------------------------------------------
# The value before the activation is not there, and computing it again would double the forward pass. But the slope of
# each of them follows from the value after it. At kinks it is 0.


def _positive(g: Emitter, x: Expr) -> Expr:
    """1 where x > 0, else 0; see `vjp_activations.relu`."""
    return g.op("HardSigmoid", x, alpha=STEEP, beta=0.0)


def _clip(g: Emitter, y: Expr, low: float, high: float) -> Expr:
    return _positive(g, y - low) * _positive(g, high - y)


Slope = Callable[[Emitter, Expr, Sequence[float]], Expr]

SLOPES: Mapping[str, tuple[Slope, tuple[float, ...]]] = {
    "Relu": (lambda g, y, p: _positive(g, y), ()),  # noqa: ARG005
    "Tanh": (lambda g, y, p: 1 - y * y, ()),  # noqa: ARG005
    "Sigmoid": (lambda g, y, p: y * (1 - y), ()),  # noqa: ARG005
    "LeakyRelu": (lambda g, y, p: g.where(y > 0, g.const(1, y.dtype), p[0]), (0.01,)),
    "Clip": (lambda g, y, p: _clip(g, y, p[0], p[1]), (-3.4e38, 3.4e38)),
    "HardSigmoid": (lambda g, y, p: _clip(g, y, 0, 1) * p[0], (0.2, 0.5)),
    "Elu": (lambda g, y, p: g.where(y > 0, 1, y + p[0]), (1.0,)),
    "Selu": (lambda g, y, p: g.where(y > 0, p[1], y + p[0] * p[1]), (1.67326319217681884765625, 1.05070102214813232421875)),
    "Softplus": (lambda g, y, p: 1 - g.op("Exp", -y), ()),  # noqa: ARG005
    "Softsign": (lambda g, y, p: g.op("Abs", y) * (g.op("Abs", y) - 2) + 1, ()),  # noqa: ARG005
    "ThresholdedRelu": (lambda g, y, p: g.where(y.equals(0), g.const(0, y.dtype), 1), (1.0,)),  # noqa: ARG005
}
"""The slope of each activation as a function of its output and its parameters, and what those are by default.

(1 - |y|)^2 of Softsign is written as |y| (|y| - 2) + 1.
"""


def _activation(n: Site) -> tuple[str, list[float]]:
    """Its name, and its parameters: a list in FusedConv, attributes of their own in FusedGemm."""
    name = n.string("activation", "")
    defaults = SLOPES[name][1] if name in SLOPES else ()
    names = ("activation_alpha", "activation_gamma" if name == "Selu" else "activation_beta")
    listed = n.node.attributes.get("activation_params")
    given = list(listed.as_floats()) if listed is not None else []
    return name, [given[i] if i < len(given) else n.number(names[i], default) for i, default in enumerate(defaults)]


def _invertible(n: Site) -> str | None:
    name, parameters = _activation(n)
    if name and name not in SLOPES:
        return f"no rule for the activation '{name}'"
    if name == "LeakyRelu" and parameters[0] < 0:
        return "the slope of a LeakyRelu with a negative alpha does not follow from its output"
    return None


def _before_activation(g: Emitter, n: Pull) -> Expr:
    """What flows back into the value before the activation."""
    name, parameters = _activation(n)
    return n.dy * SLOPES[name][0](g, n.y, parameters) if name else n.dy


def _product(g: Emitter, n: Pull, op_type: str, attributes: Sequence[str], dy: Expr) -> list[Cotangent]:
    """The cotangents of a standard product of the first three inputs. Nothing reads the product itself: it is dropped."""
    given = {name: n.node.attributes[name].value for name in attributes if name in n.node.attributes}
    product = g.op(op_type, *n.inputs[:3], **given).value.producer()
    assert product is not None
    rule = lookup(product, g.opset)
    assert isinstance(rule, Rule)
    cotangents: list[Cotangent] = list(rule.pull(g, Pull(g, product, [dy], n.wanted)))
    return cotangents + [None] * (3 - len(cotangents))


CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@vjp("FusedConv", since=V1, domain=MICROSOFT, refuse=(_invertible, like("Conv")))
def fused_conv(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = f(Conv(X, W, B) + Z):  dZ = dY * f'(Y), and the others as Conv's of dZ."""
    dz = _before_activation(g, n)
    return [*_product(g, n, "Conv", CONV, dz), dz]


@vjp("FusedGemm", since=V1, domain=MICROSOFT, refuse=(_invertible, like("Gemm")))
def fused_gemm(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = f(Gemm(A, B, C)):  as Gemm's of dY * f'(Y)."""
    return _product(g, n, "Gemm", ("alpha", "beta", "transA", "transB"), _before_activation(g, n))


# ---- products of transposed matrices ---------------------------------------------------------------------------------


def _ranks_known(n: Site) -> str | None:
    return None if all(x is None or x.shape is not None for x in n.inputs) else "ranks not known before the run"


def _permuted(g: Emitter, x: Expr, trans: int, trans_batch: int) -> Expr:
    """[b.., m, k] from [m, b.., k] (`trans_batch`), then the last two axes swapped (`trans`)."""
    if x.rank < 2:
        return x
    axes = list(range(x.rank))
    axes = [*axes[1:-1], 0, axes[-1]] if trans_batch else axes
    return g.transpose(x, [*axes[:-2], axes[-1], axes[-2]] if trans else axes)


@expansion("FusedMatMul", "TransposeMatMul", since=V1, domain=MICROSOFT, refuse=_ranks_known)
def fused_matmul(g: Emitter, n: Site) -> Sequence[Expr]:
    """Y = alpha A' B' with A' = A or A transposed. What the backward pass transposes is merged with it."""
    a = _permuted(g, n.input(0), n.integer("transA", 0), n.integer("transBatchA", 0))
    b = _permuted(g, n.input(1), n.integer("transB", 0), n.integer("transBatchB", 0))
    return (g.op("MatMul", a, b) * n.number("alpha", 1.0),)


def _other_format(n: Site) -> str | None:
    if n.integer("bits", 4) not in (4, 8):
        return f"no rule for {n.integer('bits', 4)} bits"
    if n.has(4):
        return "no rule for blocks in another order (g_idx)"
    if n.integer("weight_prepacked", 0):
        return "no rule for prepacked weights"
    if n.integer("accuracy_level", 0) == 4 and not n.emitter.straight_through:
        return "accuracy_level 4 rounds the activations to 8 bits, so the value moves in steps"
    return rank_known(n)


@expansion("MatMulNBits", since=V1, domain=MICROSOFT, refuse=_other_format)
def matmul_nbits(g: Emitter, n: Site) -> Sequence[Expr]:
    """Y = A W^T + bias, where W = (q - zero point) * scale of each block of a row."""
    y = g.op("MatMul", n.x, g.transpose(_dequantized(g, n), [1, 0]))
    return (y if n.optional(5) is None else y + n.optional(5),)


def _dequantized(g: Emitter, n: Site) -> Expr:
    """W [N, K]: two values in a byte, the lower bits first."""
    bits, rows, columns, block = (n.integer(name, 4) for name in ("bits", "N", "K", "block_size"))
    blocks = -(-columns // block)

    def unpacked(packed: Expr, *sizes: int) -> Expr:
        numbers = g.cast(packed, n.x.dtype)
        if bits == 4:
            high = g.op("Floor", numbers / 16)
            numbers = g.concat(*(g.unsqueeze(half, [-1]) for half in (numbers - high * 16, high)), axis=-1)
        return g.reshape(numbers, rows, *sizes)

    values = unpacked(n.input(1), blocks, block)
    zero: Expr | float = 2.0 ** (bits - 1)
    if (given := n.optional(3)) is not None:
        whole = given if given.dtype == n.x.dtype else unpacked(given, -1)
        zero = g.reshape(whole if given.dtype == n.x.dtype else g.slice(whole, [0], [blocks], [1]), rows, blocks, 1)
    weights = (values - zero) * g.reshape(n.input(2), rows, blocks, 1)
    return g.slice(g.reshape(weights, rows, -1), [0], [columns], [1])


# ---- sums with normalization -----------------------------------------------------------------------------------------


def _moments_are_unread(n: Site) -> str | None:
    moments = [out.value for out in n.outputs[1:3]]
    read = any(value.uses() or value.is_graph_output() for value in moments)
    return "a graph that reads mean or inv_std_var" if read else None


def _skipped(n: Site, bias: int) -> Expr:
    """input + skip + bias."""
    total = n.x + n.input(1)
    return total if n.optional(bias) is None else total + n.optional(bias)


@expansion("SkipLayerNormalization", since=V1, domain=MICROSOFT, refuse=(rank_known, _moments_are_unread))
def skip_layer_normalization(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """Y = LayerNormalization(h) and h = input + skip + bias, over the last axis."""
    total = _skipped(n, 4)
    y = g.op("LayerNormalization", total, n.input(2), n.optional(3), axis=-1, epsilon=n.number("epsilon", 1e-12))
    return y, None, None, total


@expansion("EmbedLayerNormalization", since=V1, domain=MICROSOFT, refuse=_ranks_known)
def embed_layer_normalization(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """Y = LayerNormalization(h) and h = word[ids] + position[0, 1, ..] + segment[segment ids]."""
    ids = n.input(0)
    positions = n.optional(8)
    if positions is None:
        length = g.squeeze(g.size(ids, 1), [0])
        positions = g.op("Range", g.const(0), length, g.const(1))
    total = g.op("Gather", n.input(2), ids) + g.op("Gather", n.input(3), positions)
    if n.has(1):
        total = total + g.op("Gather", n.input(4), n.input(1))
    y = g.op("LayerNormalization", total, n.input(5), n.input(6), axis=-1, epsilon=n.number("epsilon", 1e-12))
    return y, None, total


def _rms_pull(g: Emitter, x: Expr, scale: Expr, dy: Expr, axis: int, epsilon: float) -> tuple[Expr, Callable[[], Expr]]:
    """Y = x r scale with r = 1 / sqrt(mean x^2 + epsilon):  dx = r (dn - n mean(dn n)), dscale = sum dY n.

    Here n = x r and dn = dY scale; means are over the axes from `axis` on, the sum over those before it.
    """
    axes = list(range(axis, x.rank))
    root = 1 / g.op("Sqrt", g.reduce("ReduceMean", x * x, axes) + epsilon)
    normal, dn = x * root, dy * scale
    dx = root * (dn - normal * g.reduce("ReduceMean", dn * normal, axes))
    return dx, lambda: g.unbroadcast(dy * normal, scale)


@vjp("SimplifiedLayerNormalization", since=V1, domain=MICROSOFT, refuse=(rank_known, _moments_are_unread))
def simplified_layer_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X r scale:  see `_rms_pull`. Registered by onnxruntime in the default domain, which onnx knows nothing of."""
    return _rms_pull(g, n.x, n.input(1), n.dy, n.axis, n.number("epsilon", 1e-5))


@vjp("SkipSimplifiedLayerNormalization", since=V1, domain=MICROSOFT, refuse=(rank_known, _moments_are_unread))
def skip_simplified_layer_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = h r gamma and h = input + skip + bias:  dh is that of `_rms_pull` and what flows into h as an output."""
    total = n.outputs[3] if len(n.outputs) > 3 and n.outputs[3].value.name else _skipped(n, 3)
    dtotal = n.cotangents[3] if len(n.cotangents) > 3 else None
    dgamma: Cotangent = None
    if n.cotangents[0] is not None:
        dnormal, dgamma = _rms_pull(g, total, n.input(2), n.dy, n.x.rank - 1, n.number("epsilon", 1e-12))
        dtotal = dnormal if dtotal is None else dnormal + dtotal
    assert dtotal is not None
    flowing = dtotal
    return (
        lambda: g.unbroadcast(flowing, n.x),
        lambda: g.unbroadcast(flowing, n.input(1)),
        dgamma if dgamma is not None else lambda: g.zeros_like(n.input(2)),
        lambda: g.unbroadcast(flowing, n.input(3)),
    )
