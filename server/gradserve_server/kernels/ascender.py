"""The fused kernels around the model in a gradient ascent: `Ascender.prepare` before, `Ascender.step` after.

One step of an ascent is two calls, each one or two sweeps over memory, without the GIL:

    ascender = Ascender((3, 224, 224), rule=Adam(0.05), mean=mean, scale=1 / std, low=0, high=1)
    state = ascender.new_state(samples=1)
    for offsets in jitters:
        ascender.prepare(image, offsets, model_input)
        gradient = run_the_model(model_input)
        norms = ascender.step(image, gradient, offsets, state)

The image lives in *pixel space*: float32, C-contiguous, planar `[N, C, H, W]`, whatever the model's layout.
An input that is no image is passed as `[N, 1, 1, L]`. Results are bit-identical for every SIMD target and every
number of threads, and the samples of a batch do not see one another.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradserve.ascents import GradientNormalization
from gradserve.optimizers import Adam, AdamW, Momentum, NAdam, Optimizer, RmsProp, Sgd
from gradserve_server import _core

FloatArray = npt.NDArray[np.float32]
"""float32 array."""


class Layout(StrEnum):
    """Memory order of the model's input buffer."""

    NCHW = "NCHW"
    NHWC = "NHWC"


@dataclass(slots=True)
class AscentState:
    """What an optimizer remembers of one ascent between steps (`Ascender.new_state` makes it).

    Attributes:
        steps: Steps taken so far; t is one more.
        first_moment: m, float32 `[N, C, H, W]`; None where the optimizer has none.
        second_moment: v, float32 `[N, C, H, W]`; None where the optimizer has none.
    """

    steps: int = 0
    first_moment: FloatArray | None = None
    second_moment: FloatArray | None = None

    def arrays(self) -> dict[str, FloatArray]:
        """The arrays in it by name, to be read and written."""
        named = {"first_moment": self.first_moment, "second_moment": self.second_moment}
        return {name: array for name, array in named.items() if array is not None}


class Ascender:
    """Everything around the model in one ascent, bound to its settings.

    It holds no state of the ascent and no scratch memory: one `Ascender` may serve any number of ascents and
    threads at a time, as long as they work on different arrays.

    Args:
        sample_shape: `(C, H, W)` of one sample in pixel space; the number of samples is free at each call.
        rule: How g becomes the update u, and the learning rate, unless `step` is given one.
        mean: Subtracted by `prepare`, and where weight decay pulls to; a number, or one per channel.
        scale: Multiplied by `prepare`, so usually 1 / standard deviation; a number, or one per channel.
        layout: Memory order of the model's buffer.
        normalization: What the gradient of each sample is divided by.
        weight_decay: In [0, 1]: part of the distance to `mean` that each step takes away. At 0 the decay is
            skipped altogether. AdamW has its own, and takes no other.
        low: Lower bound of the pixels; -inf for none.
        high: Upper bound of the pixels; inf for none.
        simd: One of `simd_targets()`; None takes the best. All give the same bits: this is for tests.
        threads: Threads per call, however small the work; None takes `num_threads()` for a large batch
            (2**18 values or more) and the calling thread alone otherwise.

    Raises:
        ValueError: An argument is out of its range.
    """

    __slots__ = ("_decay", "_kernel", "_moments", "_rule", "_sample_shape")

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        *,
        rule: Optimizer,
        mean: npt.ArrayLike = 0.0,
        scale: npt.ArrayLike = 1.0,
        layout: Layout = Layout.NCHW,
        normalization: GradientNormalization = GradientNormalization.NONE,
        weight_decay: float = 0.0,
        low: float = -math.inf,
        high: float = math.inf,
        simd: str | None = None,
        threads: int | None = None,
    ) -> None:
        if not 0 <= weight_decay <= 1:
            msg = f"weight_decay: expected a number in [0, 1], got {weight_decay}"
            raise ValueError(msg)
        if not low <= high:
            msg = f"low: expected a number <= high = {high}, got {low}"
            raise ValueError(msg)
        if len(sample_shape) != 3 or min(sample_shape) < 1:
            msg = f"sample_shape: expected three positive sizes (C, H, W), got {sample_shape}"
            raise ValueError(msg)
        if type(rule) not in _RULES:
            msg = f"rule: expected one of {', '.join(kind.__name__ for kind in _RULES)}, got {type(rule).__name__}"
            raise TypeError(msg)
        if isinstance(rule, AdamW) and weight_decay:
            msg = f"weight_decay: expected 0, because AdamW has its own, got {weight_decay}"
            raise ValueError(msg)
        _check_rule(rule)
        kind = _RULES[type(rule)]
        self._sample_shape, self._rule, self._decay, self._moments = sample_shape, rule, weight_decay, kind.moments
        numbers: dict[str, Any] = {"beta1": 0.0, "beta2": 0.0, "epsilon": 1.0, "momentum_decay": 0.0}
        numbers |= {"epsilon_hat": False, "nesterov": False}
        numbers |= {name: getattr(rule, field) for name, field in kind.numbers.items()}
        self._kernel = _core.Ascender(
            sample_shape=sample_shape,
            layout=str(layout),
            mean=_per_channel("mean", mean, sample_shape[0]),
            scale=_per_channel("scale", scale, sample_shape[0]),
            normalization=str(normalization),
            optimizer=kind.name,
            **numbers,
            low=low,
            high=high,
            simd=simd,
            threads=threads,
        )

    def new_state(self, samples: int) -> AscentState:
        """The state of an ascent that has taken no step yet."""
        shape = (samples, *self._sample_shape)
        first, second = (np.zeros(shape, np.float32) if wanted else None for wanted in self._moments)
        return AscentState(0, first, second)

    def prepare(self, image: FloatArray, offsets: npt.NDArray[np.int32] | None, out: FloatArray) -> None:
        """Writes the jittered, normalized image into the model's input buffer.

        `out[n, c, (y + dy) % H, (x + dx) % W] = (image[n, c, y, x] - mean[c]) * scale[c]`, that is
        `np.roll(image[n], offsets[n], axis=(1, 2))`, normalized.

        Args:
            image: `[N, C, H, W]`; only read.
            offsets: int32 `[N, 2]`, the (dy, dx) of each sample, any integers; None for no jitter.
            out: `[N, C, H, W]`, or `[N, H, W, C]` if the layout is NHWC; a contiguous slice of a larger batch
                will do.

        Raises:
            TypeError: An argument is no array.
            ValueError: An array has the wrong dtype, shape or memory order, is read-only, or overlaps
                another.
        """
        self._kernel.prepare(image, offsets, out)

    def step(
        self,
        image: FloatArray,
        gradient: FloatArray,
        offsets: npt.NDArray[np.int32] | None,
        state: AscentState,
        learning_rate: float | None = None,
    ) -> npt.NDArray[np.float64]:
        """Takes one ascent step, in place: the adjoint of `prepare`, then the update.

        1. `d[n, c, y, x] = scale[c] * gradient[n, c, (y + dy) % H, (x + dx) % W]`
        2. `g = d / statistic(d)`, see `gradserve.GradientNormalization`; 0 where the statistic is 0
        3. `u = g`, or the optimizer's direction
        4. `p = p + learning_rate * u`
        5. `p = mean[c] + (1 - weight_decay) * (p - mean[c])`
        6. `p = clip(p, low, high)`

        A sample whose d is not finite (NaN, infinity, or without normalization more than float32 holds) is
        left untouched, image and moments; its norm is NaN or infinite, and the caller should stop it.

        Args:
            image: `[N, C, H, W]`, updated in place.
            gradient: With respect to the model's buffer, and in its layout.
            offsets: The ones that `prepare` was called with.
            state: From `new_state(N)`, updated in place.
            learning_rate: Of this step; None takes the rule's, which then must be a number.

        Returns:
            float64 `[N]`: the L2 norm of d of each sample, before normalization.

        Raises:
            TypeError: An argument is no array.
            ValueError: An array has the wrong dtype, shape or memory order, is read-only, or overlaps
                another; nothing was changed.
        """
        rate, decay = self._rates(learning_rate)
        moments = state.first_moment, state.second_moment
        norms = self._kernel.step(image, gradient, offsets, *moments, state.steps + 1, rate, decay)
        state.steps += 1
        return norms

    def rule(self, steps: int, learning_rate: float | None = None) -> FloatArray:
        """The numbers of a step as the formulas of csrc/kernels/ascent.h take them: for who takes it elsewhere.

        Args:
            steps: Taken so far.
            learning_rate: See `step`.

        Returns:
            float32 [8]: the rate of what the optimizer remembers (of g where it remembers no mean), with the correction for
            its start; that of g itself; beta1, 1 - beta1, beta2, 1 - beta2; epsilon; 1 - weight_decay.

        Raises:
            ValueError: See `step`.
        """
        return self._kernel.rule(steps + 1, *self._rates(learning_rate))

    def _rates(self, learning_rate: float | None) -> tuple[float, float]:
        """The learning rate and the weight decay of a step, as the kernel takes them."""
        rate = self._rule.learning_rate if learning_rate is None else learning_rate
        if not (isinstance(rate, (int, float)) and abs(rate) <= _FLOAT32.max):
            msg = f"learning_rate: expected a number that is finite in float32, got {rate}"
            raise ValueError(msg)
        decay = self._decay
        if isinstance(self._rule, AdamW):
            # Before the update, not after it: what is kept afterwards divides the rate.
            decay = min(max(rate * self._rule.weight_decay, 0.0), 1.0)
            rate = rate / (1 - decay) if decay < 1 else 0.0
        return rate, decay


_FLOAT32 = np.finfo(np.float32)


class _Rule(NamedTuple):
    """An optimizer as the kernel takes it."""

    name: str
    moments: tuple[bool, bool]
    """Whether it remembers m, and v."""
    numbers: Mapping[str, str]
    """The kernel's name of each of its fields."""


_ADAM = {"beta1": "beta1", "beta2": "beta2", "epsilon": "epsilon"}

_RULES: Mapping[type[Any], _Rule] = {
    Sgd: _Rule("sgd", (False, False), {}),
    Momentum: _Rule("momentum", (True, False), {"beta1": "momentum", "nesterov": "nesterov"}),
    RmsProp: _Rule("rmsprop", (False, True), {"beta2": "decay", "epsilon": "epsilon"}),
    Adam: _Rule("adam", (True, True), _ADAM | {"epsilon_hat": "epsilon_hat"}),
    AdamW: _Rule("adam", (True, True), _ADAM),
    NAdam: _Rule("nadam", (True, True), _ADAM | {"momentum_decay": "momentum_decay"}),
}

_RANGES: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "momentum": ("a number in [0, 1)", lambda value: 0 <= value < 1),
    "decay": ("a number in [0, 1)", lambda value: 0 <= value < 1),
    "beta1": ("a number in [0, 1)", lambda value: 0 <= value < 1),
    "beta2": ("a number in [0, 1)", lambda value: 0 <= value < 1),
    # 0 / 0 otherwise.
    "epsilon": (
        "a number that is positive and finite in float32",
        lambda value: bool(_FLOAT32.smallest_subnormal <= value <= _FLOAT32.max),
    ),
    "momentum_decay": ("a finite number of 0 or more", lambda value: 0 <= value < math.inf),
    "weight_decay": ("a finite number of 0 or more", lambda value: 0 <= value < math.inf),
}
"""What the fields of optimizers may be."""


def _check_rule(rule: Optimizer) -> None:
    rate = rule.learning_rate
    if isinstance(rate, (int, float)) and not abs(rate) <= _FLOAT32.max:
        msg = f"learning_rate: expected a number that is finite in float32, got {rate}"
        raise ValueError(msg)
    for name, value in vars(rule).items():
        expected, fits = _RANGES.get(name, ("", lambda _: True))
        if not fits(value):
            msg = f"{name}: expected {expected}, got {value}"
            raise ValueError(msg)


def _per_channel(name: str, value: npt.ArrayLike, channels: int) -> FloatArray:
    """The value as float32 `[channels]`."""
    array = np.asarray(value, np.float64)
    if array.shape not in ((), (channels,)):
        msg = f"{name}: expected a number or {channels} numbers, got shape {list(array.shape)}"
        raise ValueError(msg)
    if not np.all(np.abs(array) <= _FLOAT32.max):
        msg = f"{name}: expected numbers that are finite in float32, got {value!r}"
        raise ValueError(msg)
    return np.ascontiguousarray(np.broadcast_to(array, (channels,)), np.float32)
