"""Resize is linear and works on one axis after the other: Y = W_h X W_w^T, so dX = W_h^T dY W_w.

The matrices come from Resize itself, applied to identity matrices: then they are what the runtime really does, whatever the
mode, the rounding of coordinates and the sizes, which may be known only in the run. Enlarging by whole numbers, as networks
mostly do, has faster forms: sums over blocks (nearest) and a strided convolution (linear, cubic).
"""

from collections.abc import Mapping, Sequence
from math import ceil, floor, prod
from typing import Any

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Array, Emitter, Expr
from gradserve_server.graph.autodiff.moving import fold, place
from gradserve_server.graph.autodiff.rules import Cotangent, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

NOT_WEIGHING = ("axes", "extrapolation_value", "keep_aspect_ratio_policy")
"""Attributes that do not say how values are weighed. What is filled in outside X does not depend on X."""
CENTERED = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
"""Coordinate modes that are one where one enlarges by whole numbers."""
BLOCKS = {*((mode, f"round_prefer_{way}") for mode in CENTERED for way in ("floor", "ceil")), ("asymmetric", "floor")}
"""Coordinate mode and nearest_mode where enlarging by whole numbers makes blocks of equal values."""
SUPPORT = {"linear": 1, "cubic": 2}
"""How far away a value still counts."""


def _policy_practicable(n: Site) -> str | None:
    return "keep_aspect_ratio_policy of more than three axes" if _keeps_ratio(n) and len(_axes(n)) > 3 else None


@vjp("Resize", since=(18, 19), refuse=(rank_known, _policy_practicable), lacks={1: "roi", 2: "scales"})
def resize(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = W^T dY along each axis."""
    scales = _scales(n)
    factors = _whole_factors(n, scales)
    mode, coordinates = n.string("mode", "nearest"), n.string("coordinate_transformation_mode", "half_pixel")
    if factors and mode == "nearest" and (coordinates, n.string("nearest_mode", "round_prefer_floor")) in BLOCKS:
        return (g.op("AveragePool", n.dy, kernel_shape=factors, strides=factors) * prod(factors),)
    clamped = n.integer("antialias", 0) == n.integer("exclude_outside", 0) == 0
    if factors and mode in SUPPORT and clamped and coordinates in (*CENTERED, "asymmetric"):
        return (_convolved(g, n, factors),)
    dx = n.dy
    for axis, scale in scales.items():
        if scale != 1 or _crops(n):
            dx = _product(g, n, dx, axis)
    return (g.reshape_like(dx, n.x),)


# ---- what is known before the run ------------------------------------------------------------------------------------


def _axes(n: Site) -> list[int]:
    return [axis % n.x.rank for axis in n.integers("axes", range(n.x.rank))]


def _has_scales(n: Site) -> bool:
    return n.has(2) and n.input(2).shape != (0,)


def _keeps_ratio(n: Site) -> bool:
    """Whether one scale for all axes is computed from the sizes."""
    return not _has_scales(n) and n.string("keep_aspect_ratio_policy", "stretch") != "stretch" and len(_axes(n)) > 1


def _crops(n: Site) -> bool:
    return n.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def _scales(n: Site) -> Mapping[int, float | None]:
    """For each axis that may be resized, by how much; None where that is known only in the run."""
    axes = _axes(n)
    if _has_scales(n):
        known = n.constant(2)
        return dict(zip(axes, [None] * len(axes) if known is None else known.tolist(), strict=True))
    if _keeps_ratio(n):
        return dict.fromkeys(axes)
    scales: dict[int, float | None] = {}
    for axis in axes:
        size, made = n.x.shape[axis], n.y.shape[axis] if n.y.shape else None  # type: ignore[index]
        ratio = made / size if isinstance(size, int) and isinstance(made, int) and size else None
        scales[axis] = 1.0 if size is not None and size == made else ratio
    return scales


def _whole_factors(n: Site, scales: Mapping[int, float | None]) -> list[int] | None:
    """For each axis after batch and channels, the whole number that it is enlarged by; None where it is not."""
    factors = [scales.get(axis, 1.0) for axis in range(n.x.rank)]
    if n.x.rank not in (3, 4, 5) or _crops(n) or any(factor is None or factor < 1 or factor % 1 for factor in factors):
        return None
    whole = [int(factor) for factor in factors if factor is not None]
    return whole[2:] if whole[:2] == [1, 1] and max(whole) > 1 else None


# ---- by matrices -----------------------------------------------------------------------------------------------------


def _product(g: Emitter, n: Pull, dy: Expr, axis: int) -> Expr:
    """W^T dY along one axis."""
    if axis == dy.rank - 1:
        return g.op("MatMul", dy, _matrix(g, n, axis, transposed=False))
    matrix = _matrix(g, n, axis, transposed=True)
    if axis == dy.rank - 2:
        return g.op("MatMul", matrix, dy)
    before, after = g.sizes(dy, range(axis)), g.sizes(dy, range(axis + 1, dy.rank))
    rows = g.op("Reshape", dy, g.concat(before, g.size(dy, axis), g.reduce("ReduceProd", after, [0])), allowzero=1)
    return g.op("Reshape", g.op("MatMul", matrix, rows), g.concat(before, g.size(n.x, axis), after), allowzero=1)


def _matrix(g: Emitter, n: Pull, axis: int, *, transposed: bool) -> Expr:
    """W of one axis, [out, in], or transposed, [in, out]: an identity matrix, resized along one axis."""
    axes, weighing = _axes(n), {name: a.value for name, a in n.node.attributes.items() if name not in NOT_WEIGHING}
    size, own = g.size(n.x, axis), axes.index(axis)
    identity = g.op("EyeLike", g.op("ConstantOfShape", g.concat(size, size)))
    if _keeps_ratio(n):
        matrix = _with_ratio(g, n, identity, own, weighing)
        return matrix if transposed else g.transpose(matrix, [1, 0])

    def pair(mine: Expr, other: Expr) -> Expr:
        return g.concat(*((other, mine) if transposed else (mine, other)))

    one = g.const([1.0], ir.DataType.FLOAT)
    scales = sizes = roi = None
    if _has_scales(n):
        scales = pair(_at(g, n.input(2), own), one)
    else:
        sizes = pair(g.size(n.y, axis), size)
    if _crops(n):
        start, end = _at(g, n.input(1), own), _at(g, n.input(1), own + len(axes))
        zero = g.const([0.0], start.dtype)
        roi = g.concat(pair(start, zero), pair(end, g.const([1.0], start.dtype)))
    return g.cast(g.op("Resize", identity, roi, scales, sizes, **weighing), n.dy.dtype)


def _with_ratio(g: Emitter, n: Pull, identity: Expr, own: int, weighing: Mapping[str, Any]) -> Expr:
    """W^T where all axes decide about the scale: they all take part, as [1, in, *axes], then only one is left."""
    axes = _axes(n)
    inner = [1] * len(axes)
    inner[own] = -1
    rows = g.op("Reshape", identity, g.concat(1, g.size(n.x, axes[own]), *inner))
    basis = g.op("Expand", rows, g.concat(1, 1, *(g.size(n.x, axis) for axis in axes)))
    policy = n.string("keep_aspect_ratio_policy", "stretch")
    spatial = [2 + i for i in range(len(axes))]
    roi = n.input(1) if _crops(n) else None
    made = g.op("Resize", basis, roi, None, n.input(3), axes=spatial, keep_aspect_ratio_policy=policy, **weighing)
    others = [0, *(2 + i for i in range(len(axes)) if i != own)]
    return g.squeeze(g.slice(made, [0] * len(others), [1] * len(others), others), others)


def _at(g: Emitter, vector: Expr, index: int) -> Expr:
    known = vector.constant
    return g.const(known[index : index + 1]) if known is not None else g.slice(vector, [index], [index + 1], [0])


# ---- enlarging by whole numbers --------------------------------------------------------------------------------------


def _convolved(g: Emitter, n: Pull, factors: Sequence[int]) -> Expr:
    """Linear and cubic: Y is a transposed convolution of X with its edges repeated, so dY comes back by the convolution."""
    mode, centered = n.string("mode", "linear"), n.string("coordinate_transformation_mode", "half_pixel") in CENTERED
    border = [SUPPORT[mode] if factor > 1 else 0 for factor in factors]
    kernels = [_kernel(factor, mode, n.number("cubic_coeff_a", -0.75), centered=centered) for factor in factors]
    before = [factor * width - first for factor, width, (first, _) in zip(factors, border, kernels, strict=True)]
    after = [
        factor * (width - 1) + first + len(weights)
        for factor, width, (first, weights) in zip(factors, border, kernels, strict=True)
    ]
    kernel = np.ones(())
    for _, weights in kernels:
        kernel = np.multiply.outer(kernel, weights)
    channels = n.x.shape[1] if n.x.shape else None
    groups = channels if isinstance(channels, int) else 1
    dy = n.dy if isinstance(channels, int) else g.op("Reshape", n.dy, g.concat(-1, 1, g.sizes(n.dy, range(2, n.dy.rank))))
    weight = g.const(np.broadcast_to(kernel, (groups, 1, *kernel.shape)), n.dy.dtype)
    dx = g.op("Conv", dy, weight, group=groups, strides=list(factors), pads=[*before, *after])
    spatial = [axis for axis, width in enumerate(border, 2) if width]
    for axis in spatial:
        width = border[axis - 2]
        dx = fold(g, dx, axis, g.size(n.x, axis), (width, width), "edge")
    return g.reshape_like(place(g, dx, spatial, [(-border[axis - 2],) * 2 for axis in spatial]), n.x)


def _kernel(factor: int, mode: str, a: float, *, centered: bool) -> tuple[int, Array]:
    """How much X[i] counts in Y[factor * i + first], Y[factor * i + first + 1], ...: (first, weights)."""
    if factor == 1:
        return 0, np.ones(1)
    center, reach = (factor - 1) / 2 if centered else 0.0, factor * SUPPORT[mode]
    offsets = np.arange(floor(center - reach) + 1, ceil(center + reach))
    t = np.abs(offsets - center) / factor
    if mode == "linear":
        return int(offsets[0]), 1 - t
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    return int(offsets[0]), np.where(t <= 1, near, far)
