"""What stands around the model in an ascent, as graphs of standard operators: for images that stay on a device.

`before` makes the model's input of the image, `after` the next image of the model's gradient, and `merge` keeps some images
as they were. The formulas are those of the kernels on the processor (csrc/kernels/ascent.h), in float32 throughout. Sums of
squares are taken of values divided by the largest of them: they neither overflow nor vanish where the values themselves do
not.

All shapes but the number of images are part of a graph, and none is computed while it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.ascents import GradientNormalization
from gradserve.optimizers import Adam, AdamW, Momentum, NAdam, RmsProp, Sgd
from gradserve.projections import L2Ball, LInfBall
from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.load import MAX_IR_VERSION

OPSET = 18
"""The first in which every Reduce operator takes its axes as an input; each onnxruntime that we take has it."""

IMAGE, FIRST, SECOND = "image", "first_moment", "second_moment"
"""What one step leaves to the next, float32 [N, C, H, W]."""

BATCH, GRADIENT = "batch", "gradient"
"""The model's input, and what it makes of it, [N, *model_shape]."""

ROWS, COLUMNS = "rows", "columns"
"""Where each row of a rolled image comes from, as the place of its first pixel, int32 [N, H, 1], and each column, int32
[N, 1, W]: `places`."""

RULE = "rule"
"""The numbers of a step, float32 [RULE_SIZE]: `kernels.Ascender.rule`."""

RULE_SIZE = 8
"""How many these are."""

LOW, HIGH, CENTRE = "low", "high", "centre"
"""Bounds of each value, [C, H, W], where they are not two numbers; and what a ball is around, [N, C, H, W]."""

LARGEST, LENGTH = "largest", "length"
"""Of each image's gradient with respect to pixels, float32 [N]: the largest magnitude, and the Euclidean length over it."""

HELD, OLD, NEW = "held", "old: ", "new: "
"""Of `merge`: which images stay, bool [N, 1, 1, 1], and the prefixes of what there was and what a step made of it."""

_PLANE = (1, 2, 3)
"""The axes of one image."""

_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True)
class StepForm:
    """All that two steps have in common."""

    planar_shape: tuple[int, int, int]
    """C, H, W."""
    model_shape: tuple[int, ...]
    """Of one sample, as the model takes it."""
    layout: str
    """"NHWC": the model's last axis is that of the channels."""
    mean: tuple[float, ...]
    """Of each channel, or of all."""
    scale: tuple[float, ...]
    """The same."""
    optimizer: type[Any]
    normalization: GradientNormalization
    rolls: bool
    """Whether the model sees images rolled."""
    decays: bool
    """Whether a step takes away from the distance to the mean."""
    bounds: tuple[float, float] | None
    """None: arrays."""
    projection: type[Any] | None
    radius: float = 0.0

    @property
    def state(self) -> tuple[str, ...]:
        """What one step leaves to the next."""
        return (IMAGE, *_OPTIMIZERS[self.optimizer].moments)

    @property
    def rolled_by(self) -> tuple[str, ...]:
        """What says how images are rolled."""
        return (ROWS, COLUMNS) if self.rolls else ()

    @property
    def confined_by(self) -> tuple[str, ...]:
        """The arrays that say where images may be; they are the same in all steps."""
        return ((LOW, HIGH) if self.bounds is None else ()) + ((CENTRE,) if self.projection is not None else ())


def places(offsets: npt.NDArray[np.int32], planar_shape: tuple[int, int, int]) -> dict[str, npt.NDArray[np.int32]]:
    """What the graphs are told of `np.roll(image[n], offsets[n], axis=(1, 2))`.

    Computed here, because a GPU would need a dozen calls for it.

    Args:
        offsets: [N, 2], for rows and columns: their negatives undo it.
        planar_shape: C, H, W.
    """
    _, height, width = planar_shape
    down, right = offsets[:, :1], offsets[:, 1:]
    rows, columns = (np.arange(height) - down) % height * width, (np.arange(width) - right) % width
    return {ROWS: rows.astype(np.int32)[:, :, None], COLUMNS: columns.astype(np.int32)[:, None, :]}


# ---- the graphs ------------------------------------------------------------------------------------------------------


def before(form: StepForm) -> ir.Model:
    """The graph from `IMAGE` and `rolled_by` to `BATCH`."""
    graph = _Graph("before_the_model")
    image, *rolled = (graph.input(name, form) for name in (IMAGE, *form.rolled_by))
    g = graph.emitter
    if form.rolls:
        image = _rolled(g, image, rolled, form)
    image = (image - _channels(g, form.mean)) * _channels(g, form.scale)
    if form.layout == "NHWC":
        image = g.transpose(image, [0, 2, 3, 1])
    return graph.model({BATCH: g.reshape(image, -1, *form.model_shape)}, {BATCH: ("N", *form.model_shape)})


def after(form: StepForm) -> ir.Model:
    """The graph from `GRADIENT`, the state, `RULE`, `rolled_by` and `confined_by` to the next state, `LARGEST` and `LENGTH`.

    An image whose gradient is not finite (without normalization: is longer than float32 holds) stays as it was.
    """
    graph = _Graph("after_the_model")
    names = (GRADIENT, RULE, *form.state, *form.rolled_by, *form.confined_by)
    x = {name: graph.input(name, form) for name in names}
    g = graph.emitter
    slope = _planar(g, x[GRADIENT], form)
    if form.rolls:
        slope = _rolled(g, slope, [x[name] for name in form.rolled_by], form)
    slope = slope * _channels(g, form.scale)
    ratio, largest, length = _scaled(g, slope)
    normalized = _normalized(g, slope, ratio, length, form)
    rule = _Rule(*g.op("Split", x[RULE], outputs=RULE_SIZE, num_outputs=RULE_SIZE, axis=0))
    move, moments = _OPTIMIZERS[form.optimizer].step(g, normalized, x, rule)
    image = x[IMAGE] + move
    if form.decays:
        mean = _channels(g, form.mean)
        image = mean + rule.keep * (image - mean)
    image = _confined(g, image, form, x)
    # Of what is not finite the length is not either, and a comparison with NaN is false.
    steps = largest * length if form.normalization is GradientNormalization.NONE else length
    is_finite = g.op("And", steps <= float(_FLOAT32.max), largest <= float(_FLOAT32.max))
    made = {**moments, IMAGE: image}
    outputs = {f"{NEW}{name}": g.where(is_finite, made[name], x[name]) for name in form.state}
    outputs |= {name: g.reshape(value, -1) for name, value in ((LARGEST, largest), (LENGTH, length))}
    shapes = {f"{NEW}{name}": ("N", *form.planar_shape) for name in form.state}
    return graph.model(outputs, shapes | dict.fromkeys((LARGEST, LENGTH), ("N",)))


def merge(form: StepForm) -> ir.Model:
    """The graph from `HELD` and the state before and after a step to what is left: the old of those held."""
    graph = _Graph("merge")
    held = graph.input(HELD, form)
    g = graph.emitter
    outputs = {name: g.where(held, *(graph.input(f"{which}{name}", form) for which in (OLD, NEW))) for name in form.state}
    return graph.model(outputs, dict.fromkeys(form.state, ("N", *form.planar_shape)))


class _Graph:
    """A graph in the making."""

    def __init__(self, name: str) -> None:
        self._graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name)
        self.emitter = Emitter(self._graph, OPSET, "")

    def input(self, name: str, form: StepForm) -> Expr:
        """One more input."""
        dtype, shape = _INPUTS.get(name, (ir.DataType.FLOAT, None))
        if shape is None:
            shape = ("N", *(form.model_shape if name == GRADIENT else form.planar_shape))
        elif name in (LOW, HIGH):
            shape = form.planar_shape
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self._graph.inputs.append(value)
        return self.emitter.of(value)

    def model(self, outputs: Mapping[str, Expr], shapes: Mapping[str, tuple[int | str, ...]]) -> ir.Model:
        """The graph that has these outputs."""
        for name, made in outputs.items():
            out = self.emitter.op("Identity", made)
            out.value.name, out.value.shape = name, ir.Shape(shapes[name])
            self._graph.outputs.append(out.value)
        self._graph.extend(self.emitter.nodes)
        return ir.Model(self._graph, ir_version=MAX_IR_VERSION, producer_name="gradserve")


_INPUTS: Mapping[str, tuple[ir.DataType, tuple[int | str, ...] | None]] = {
    ROWS: (ir.DataType.INT32, ("N", "H", 1)),
    COLUMNS: (ir.DataType.INT32, ("N", 1, "W")),
    RULE: (ir.DataType.FLOAT, (RULE_SIZE,)),
    HELD: (ir.DataType.BOOL, ("N", 1, 1, 1)),
    LOW: (ir.DataType.FLOAT, ()),
    HIGH: (ir.DataType.FLOAT, ()),
}
"""Inputs that are not float32 of the image's shape, or the model's."""


# ---- their parts -----------------------------------------------------------------------------------------------------


def _channels(g: Emitter, numbers: tuple[float, ...]) -> Expr | float:
    """One for each channel of [N, C, H, W]."""
    return numbers[0] if len(set(numbers)) == 1 else g.const(np.asarray(numbers, np.float32).reshape(-1, 1, 1))


def _planar(g: Emitter, x: Expr, form: StepForm) -> Expr:
    channels, height, width = form.planar_shape
    if form.layout == "NHWC":
        return g.transpose(g.reshape(x, -1, height, width, channels), [0, 3, 1, 2])
    return g.reshape(x, -1, channels, height, width)


def _rolled(g: Emitter, image: Expr, rolled: Sequence[Expr], form: StepForm) -> Expr:
    """Each image with its rows and columns from elsewhere."""
    channels, height, width = form.planar_shape
    rows, columns = rolled
    at = g.op("Expand", g.reshape(rows + columns, -1, 1, height * width), g.ints(1, channels, 1))
    moved = g.op("GatherElements", g.reshape(image, -1, channels, height * width), at, axis=2)
    return g.reshape(moved, -1, channels, height, width)


def _scaled(g: Emitter, x: Expr) -> tuple[Expr, Expr, Expr]:
    """Values over the largest magnitude of an image, that, and the Euclidean length over it."""
    largest = g.reduce("ReduceMax", g.op("Abs", x), _PLANE)
    ratio = x / g.where(largest > 0, largest, 1)
    return ratio, largest, g.op("Sqrt", _sum(g, ratio * ratio))


def _sum(g: Emitter, x: Expr) -> Expr:
    """Over each image. Row by row, because a million numbers added to one sum would lose half of float32's digits."""
    return g.sum(g.sum(x, _PLANE[-1:]), _PLANE[:-1])


def _normalized(g: Emitter, slope: Expr, ratio: Expr, length: Expr, form: StepForm) -> Expr:
    """g of `GradientNormalization`.

    Args:
        g: Emits.
        slope: d, the gradient with respect to pixels.
        ratio: d over its largest magnitude.
        length: Of that, [N, 1, 1, 1].
        form: The step's.
    """
    match form.normalization:
        case GradientNormalization.NONE:
            return slope
        case GradientNormalization.SIGN:
            return g.op("Sign", slope)
        case GradientNormalization.MIN_MAX:
            low, high = (g.reduce(kind, ratio, _PLANE) for kind in ("ReduceMin", "ReduceMax"))
            return _over(g, ratio - low, high - low)
        case _:
            return _over(g, ratio, _STATISTICS[form.normalization](g, ratio, length, prod(form.planar_shape)))


def _over(g: Emitter, x: Expr, by: Expr) -> Expr:
    """The quotient; 0 where it would be by 0."""
    return x * g.where(by > 0, g.op("Reciprocal", g.where(by > 0, by, 1)), 0)


def _deviation(g: Emitter, ratio: Expr, length: Expr, count: int) -> Expr:  # noqa: ARG001
    offset = ratio - _sum(g, ratio) / count  # a quotient: of equal values it is that value, and nothing deviates from it
    return g.op("Sqrt", _sum(g, offset * offset) / count)


_STATISTICS: Mapping[GradientNormalization, Callable[[Emitter, Expr, Expr, int], Expr]] = {
    GradientNormalization.STD: _deviation,
    GradientNormalization.RMS: lambda _, ratio, length, count: length * float(count**-0.5),  # noqa: ARG005
    GradientNormalization.L2: lambda _, ratio, length, count: length,  # noqa: ARG005
    GradientNormalization.MEAN_ABS: lambda g, ratio, length, count: _sum(g, g.op("Abs", ratio)) / count,  # noqa: ARG005
}
"""What a gradient is divided by, of the gradient over its largest magnitude, the length of that, and how many it has."""


def _confined(g: Emitter, image: Expr, form: StepForm, x: Mapping[str, Expr]) -> Expr:
    """In the ball, and then within the bounds."""
    if form.projection is not None:
        offset = image - x[CENTRE]
        image = x[CENTRE] + _BALLS[form.projection](g, offset, form.radius)
    if form.bounds is None:
        return g.op("Min", g.op("Max", image, x[LOW]), x[HIGH])
    low, high = (bound if np.isfinite(bound) else None for bound in form.bounds)
    return image if low is None and high is None else g.op("Clip", image, low, high)


def _in_l2_ball(g: Emitter, offset: Expr, radius: float) -> Expr:
    ratio, largest, length = _scaled(g, offset)
    return g.where(largest * length > radius, ratio * (radius / g.where(length > 0, length, 1)), offset)


_BALLS: Mapping[type[Any], Callable[[Emitter, Expr, float], Expr]] = {
    LInfBall: lambda g, offset, radius: g.op("Clip", offset, -radius, radius),
    L2Ball: _in_l2_ball,
}
"""How an offset from the centre is brought into a ball."""


# ---- optimizers ------------------------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    """The numbers of a step, in the order of `kernels.Ascender.rule`."""

    rate: Expr
    gradient_rate: Expr
    beta1: Expr
    one_minus_beta1: Expr
    beta2: Expr
    one_minus_beta2: Expr
    epsilon: Expr
    keep: Expr


Moments = Mapping[str, Expr]
"""What an optimizer remembers, by name."""


def _first(x: Expr, old: Moments, rule: _Rule) -> Expr:
    return rule.beta1 * old[FIRST] + rule.one_minus_beta1 * x


def _second(x: Expr, old: Moments, rule: _Rule) -> Expr:
    return rule.beta2 * old[SECOND] + rule.one_minus_beta2 * x * x


def _root(g: Emitter, second: Expr, rule: _Rule) -> Expr:
    return g.op("Sqrt", second) + rule.epsilon


def _sgd(_: Emitter, x: Expr, old: Moments, rule: _Rule) -> tuple[Expr, Moments]:
    return rule.rate * x, old


def _momentum(_: Emitter, x: Expr, old: Moments, rule: _Rule) -> tuple[Expr, Moments]:
    m = rule.beta1 * old[FIRST] + x
    return rule.rate * m + rule.gradient_rate * x, {FIRST: m}


def _rmsprop(g: Emitter, x: Expr, old: Moments, rule: _Rule) -> tuple[Expr, Moments]:
    v = _second(x, old, rule)
    return rule.rate * x / _root(g, v, rule), {SECOND: v}


def _adam(g: Emitter, x: Expr, old: Moments, rule: _Rule) -> tuple[Expr, Moments]:
    m, v = _first(x, old, rule), _second(x, old, rule)
    return rule.rate * m / _root(g, v, rule), {FIRST: m, SECOND: v}


def _nadam(g: Emitter, x: Expr, old: Moments, rule: _Rule) -> tuple[Expr, Moments]:
    m, v = _first(x, old, rule), _second(x, old, rule)
    return (rule.rate * m + rule.gradient_rate * x) / _root(g, v, rule), {FIRST: m, SECOND: v}


class _Optimizer(NamedTuple):
    moments: tuple[str, ...]
    step: Callable[[Emitter, Expr, Moments, _Rule], tuple[Expr, Moments]]
    """What is added to the image, and the moments after it."""


_OPTIMIZERS: Mapping[type[Any], _Optimizer] = {
    Sgd: _Optimizer((), _sgd),
    Momentum: _Optimizer((FIRST,), _momentum),
    RmsProp: _Optimizer((SECOND,), _rmsprop),
    Adam: _Optimizer((FIRST, SECOND), _adam),
    AdamW: _Optimizer((FIRST, SECOND), _adam),
    NAdam: _Optimizer((FIRST, SECOND), _nadam),
}
