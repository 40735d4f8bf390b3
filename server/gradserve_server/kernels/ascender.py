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
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from gradserve import Adam, GradientNormalization, Sgd
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
        steps: Steps taken so far; Adam's t is one more.
        first_moment: Adam's m, float32 `[N, C, H, W]`; None for SGD.
        second_moment: Adam's v, float32 `[N, C, H, W]`; None for SGD.
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
        rule: How g becomes the update u, and the learning rate.
        mean: Subtracted by `prepare`, and where weight decay pulls to; a number, or one per channel.
        scale: Multiplied by `prepare`, so usually 1 / standard deviation; a number, or one per channel.
        layout: Memory order of the model's buffer.
        normalization: What the gradient of each sample is divided by.
        weight_decay: In [0, 1]: part of the distance to `mean` that each step takes away. At 0 the decay is
            skipped altogether.
        low: Lower bound of the pixels; -inf for none.
        high: Upper bound of the pixels; inf for none.
        simd: One of `simd_targets()`; None takes the best. All give the same bits: this is for tests.
        threads: Threads per call, however small the work; None takes `num_threads()` for a large batch
            (2**18 values or more) and the calling thread alone otherwise.

    Raises:
        ValueError: An argument is out of its range.
    """

    __slots__ = ("_kernel", "_needs_moments", "_sample_shape")

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        *,
        rule: Sgd | Adam,
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
        if not isinstance(rule, Sgd | Adam):
            msg = f"rule: expected Sgd or Adam, got {type(rule).__name__}"
            raise TypeError(msg)
        # The kernel reads Adam's numbers only when the optimizer is Adam.
        adam = rule if isinstance(rule, Adam) else Adam(rule.learning_rate)
        _check_rule(adam)
        self._sample_shape = sample_shape
        self._needs_moments = isinstance(rule, Adam)
        self._kernel = _core.Ascender(
            sample_shape=sample_shape,
            layout=str(layout),
            mean=_per_channel("mean", mean, sample_shape[0]),
            scale=_per_channel("scale", scale, sample_shape[0]),
            normalization=str(normalization),
            optimizer="adam" if self._needs_moments else "sgd",
            learning_rate=adam.learning_rate,
            beta1=adam.beta1,
            beta2=adam.beta2,
            epsilon=adam.epsilon,
            weight_decay=weight_decay,
            low=low,
            high=high,
            simd=simd,
            threads=threads,
        )

    def new_state(self, samples: int) -> AscentState:
        """The state of an ascent that has taken no step yet."""
        if not self._needs_moments:
            return AscentState()
        shape = (samples, *self._sample_shape)
        return AscentState(0, np.zeros(shape, np.float32), np.zeros(shape, np.float32))

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
    ) -> npt.NDArray[np.float64]:
        """Takes one ascent step, in place: the adjoint of `prepare`, then the update.

        1. `d[n, c, y, x] = scale[c] * gradient[n, c, (y + dy) % H, (x + dx) % W]`
        2. `g = d / statistic(d)`, see `gradserve.GradientNormalization`; 0 where the statistic is 0
        3. `u = g`, or Adam's direction
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

        Returns:
            float64 `[N]`: the L2 norm of d of each sample, before normalization.

        Raises:
            TypeError: An argument is no array.
            ValueError: An array has the wrong dtype, shape or memory order, is read-only, or overlaps
                another; nothing was changed.
        """
        norms = self._kernel.step(image, gradient, offsets, state.first_moment, state.second_moment, state.steps + 1)
        state.steps += 1
        return norms


_FLOAT32 = np.finfo(np.float32)


def _check_rule(rule: Adam) -> None:
    """Learning rate and epsilon finite in float32, epsilon positive there too (0 / 0 otherwise), betas in [0, 1)."""
    if not abs(rule.learning_rate) <= _FLOAT32.max:
        msg = f"learning_rate: expected a number that is finite in float32, got {rule.learning_rate}"
        raise ValueError(msg)
    for name, beta in (("beta1", rule.beta1), ("beta2", rule.beta2)):
        if not 0 <= beta < 1:
            msg = f"{name}: expected a number in [0, 1), got {beta}"
            raise ValueError(msg)
    if not _FLOAT32.smallest_subnormal <= rule.epsilon <= _FLOAT32.max:
        msg = f"epsilon: expected a number that is positive and finite in float32, got {rule.epsilon}"
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
