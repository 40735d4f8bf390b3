"""What is done to images after each step (Yosinski et al. 2015, section 3; optimize/gradient_optimizer.py of their toolbox).

With x the image after the step, less the mean, and g the gradient that the step was made by:

    GaussianBlur(r, every)   x = x * G, channel by channel, after steps 1, 1 + every, 1 + 2 every, ...
    SmallNorms(p)            x = 0 at pixels where sqrt(sum over the channels of x²) < its p-th percentile
    SmallContributions(p)    x = 0 at pixels where |sum over the channels of x g| < its p-th percentile

G(i) is exp(-i² / 2r²) for |i| <= 4r + 1/2, divided by its sum, with the image mirrored beyond its edge: SciPy's
`gaussian_filter`, which the toolbox calls. All in float64, an image at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent
from gradserve.parameterizations import Alpha, Parameterization, Pixels, Shared
from gradserve.regularizers import GaussianBlur, Regularizer, SmallContributions, SmallNorms
from gradserve_server.ascent.pixels import PixelSpace
from gradserve_server.ascent.ranges import LARGEST_COUNT, number, whole

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_MOST = 16
"""Regularizers of one ascent."""
_LARGEST_RADIUS = 64.0
"""Pixels."""
_TRUNCATE = 4.0
"""Standard deviations, to where the filter goes."""
_ALL = 100.0


def check_regularizers(
    given: Any, parameterization: Parameterization, shared: Sequence[Shared], alpha: Alpha | None
) -> tuple[Regularizer, ...]:
    """Makes sure that regularizers are some, in range, and that there is an image to change.

    Raises:
        InvalidAscent: They are not.
    """
    known = get_args(Regularizer)
    if not isinstance(given, Sequence) or not all(type(one) in known for one in given) or len(given) > _MOST:
        names = ", ".join(kind.__name__ for kind in known)
        msg = f"regularizers: expected a sequence of at most {_MOST} of {names}, got {given!r}"
        raise InvalidAscent(msg)
    for one in given:
        what = f"regularizers: {type(one).__name__}"
        if isinstance(one, GaussianBlur):
            number(f"{what}.radius", one.radius, np.finfo(float).tiny, _LARGEST_RADIUS)
            whole(f"{what}.every", one.every, 1, LARGEST_COUNT)
        else:
            number(f"{what}.percentile", one.percentile, 0.0, _ALL)
    if given and (parameterization != Pixels() or shared or alpha is not None):
        what = "shared" if shared else "alpha" if alpha is not None else str(parameterization)
        msg = f"regularizers: expected the parameterization Pixels() alone, whose numbers are the image, got {what}"
        raise InvalidAscent(msg)
    return tuple(given)


class Regularization:
    """All that is done after a step.

    Args:
        regularizers: In order.
        space: Of the images.
    """

    def __init__(self, regularizers: Sequence[Regularizer], space: PixelSpace) -> None:
        self._regularizers, self._sizes = regularizers, space.sizes
        self._mean = space.mean.astype(np.float64).reshape(-1, *[1] * len(space.sizes))

    def apply(self, images: Float32, gradient: Float32, which: npt.NDArray[np.bool_], index: int) -> None:
        """Changes images in place.

        Args:
            images: [count, C, H, W], after a step.
            gradient: That it was made by, shaped like them.
            which: Those that have moved; the others stay as they are, to the bit.
            index: The steps before it.
        """
        for n in np.flatnonzero(which):
            x = images[n].reshape(-1, *self._sizes) - self._mean
            g = gradient[n].reshape(x.shape).astype(np.float64)
            for one in self._regularizers:
                x = _CHANGES[type(one)](one, x, g, index)
            images[n] = (x + self._mean).reshape(images[n].shape)


def _blurred(blur: GaussianBlur, x: Float64, _g: Float64, index: int) -> Float64:
    if index % blur.every:
        return x
    reach = int(_TRUNCATE * blur.radius + 0.5)
    weights = np.exp(-np.square(np.arange(-reach, reach + 1) / blur.radius) / 2)
    weights /= weights.sum()
    for axis in range(1, x.ndim):
        wide = np.moveaxis(np.pad(x, [(reach, reach) if a == axis else (0, 0) for a in range(x.ndim)], "symmetric"), axis, 0)
        size = x.shape[axis]
        x = np.moveaxis(sum(weight * wide[i : i + size] for i, weight in enumerate(weights)), 0, axis)
    return x


def _without_small(x: Float64, sizes: Float64, percentile: float) -> Float64:
    return np.where(sizes < np.percentile(sizes, percentile), 0.0, x)


def _norms(small: SmallNorms, x: Float64, _g: Float64, _index: int) -> Float64:
    return _without_small(x, np.sqrt(np.square(x).sum(axis=0)), small.percentile)


def _contributions(small: SmallContributions, x: Float64, g: Float64, _index: int) -> Float64:
    return _without_small(x, np.abs((x * g).sum(axis=0)), small.percentile)


_CHANGES: Mapping[type[Any], Callable[[Any, Float64, Float64, int], Float64]] = {
    GaussianBlur: _blurred,
    SmallNorms: _norms,
    SmallContributions: _contributions,
}
"""What becomes of x, [C, sizes], by g after so many steps."""
