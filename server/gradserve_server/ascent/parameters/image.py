"""The pixels that numbers stand for, and the way back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent
from gradserve.parameterizations import Parameterization, Squash
from gradserve_server.ascent.parameters.spatial import SPATIAL, Shape
from gradserve_server.ascent.transforms.geometry import Range

Float32 = npt.NDArray[np.float32]

_NEAREST = 1e-4
"""How near to a bound, as a share of the range, a pixel may be whose number is looked for: at the bound it is infinite."""


@dataclass(frozen=True)
class _Curve:
    """A squash from any number x to a share of the range, and what belongs to it."""

    share: Callable[[Float32], Float32]
    slope: Callable[[Float32], Float32]
    """From the share."""
    inverse: Callable[[Float32], Float32]


def _half_tanh(x: Float32) -> Float32:
    """From 0 to 1."""
    share: Float32 = (np.tanh(x) + np.float32(1)) * np.float32(0.5)
    return share


SQUASHES: Mapping[Squash, _Curve] = {
    # The slope of a cut is 1 everywhere: beyond a bound the update, not the gradient, is what is cut off.
    Squash.CLIP: _Curve(lambda x: np.clip(x, 0, 1), np.ones_like, lambda share: share),
    # 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, which cannot overflow.
    Squash.SIGMOID: _Curve(
        lambda x: _half_tanh(x * np.float32(0.5)),
        lambda share: share * (1 - share),
        lambda share: np.log(share / (1 - share)),
    ),
    Squash.TANH: _Curve(_half_tanh, lambda share: 2 * share * (1 - share), lambda share: np.arctanh(2 * share - 1)),
}


class Painter:
    """Numbers [N, K] to pixels [N, C, H, W] within bounds, and gradients back.

    Args:
        parameterization: What the numbers are.
        shape: Of an image: C, then its sizes.
        pixels: The bounds, as finite numbers or [C, H, W].

    Raises:
        InvalidAscent: They do not go together.
    """

    def __init__(self, parameterization: Parameterization, shape: Shape, pixels: Range) -> None:
        self._spatial = SPATIAL[type(parameterization)](parameterization, shape)
        self._curve, self._shape = SQUASHES[Squash(parameterization.squash)], shape
        self._planar = shape[0], prod(shape[1:-1]), shape[-1]
        if not (np.all(np.isfinite(pixels.low)) and np.all(np.isfinite(pixels.high)) and np.all(pixels.width > 0)):
            got = f"{np.min(pixels.low)} to {np.max(pixels.high)}"
            msg = f"parameterization: expected finite bounds with room between for {parameterization.squash}, got {got}"
            raise InvalidAscent(msg)
        self._low, self._width = np.float32(pixels.low), np.float32(pixels.width)
        self._mixing = _mixing(parameterization, shape[0])

    @property
    def length(self) -> int:
        """K."""
        return self._spatial.length

    def paint(self, theta: Float32, shared: Float32 | None = None) -> Float32:
        """The pixels.

        Args:
            theta: The numbers.
            shared: Added to the picture that they make, before its colours; [N, C, H, W].
        """
        picture = self._spatial.picture(theta).reshape(-1, *self._planar)
        if shared is not None:
            picture = picture + shared
        return self._curve.share(self._mixed(picture)) * self._width + self._low

    def pull_back(self, theta: Float32, painted: Float32, gradient: Float32) -> Float32:
        """The gradient with respect to the numbers.

        Args:
            theta: The numbers.
            painted: What `paint` made of them.
            gradient: With respect to the pixels.
        """
        return self.from_picture(theta, self.to_picture(painted, gradient))

    def to_picture(self, painted: Float32, gradient: Float32) -> Float32:
        """The first half of that: the gradient with respect to the picture before its colours, [N, C, H, W]."""
        back = gradient * self._curve.slope((painted - self._low) / self._width) * self._width
        if self._mixing is not None:
            back = _mix(self._mixing.T, back)
        return back

    def from_picture(self, theta: Float32, gradient: Float32) -> Float32:
        """The second half: from there to the numbers."""
        return np.ascontiguousarray(self._spatial.pull_back(theta, gradient.reshape(-1, *self._shape)), np.float32)

    def numbers(self, pixels: Float32) -> Float32:
        """Numbers that stand for an image, as nearly as there are such."""
        share = np.clip((pixels - self._low) / self._width, _NEAREST, 1 - _NEAREST)
        picture = self._curve.inverse(share)
        if self._mixing is not None:
            picture = _mix(np.linalg.inv(self._mixing), picture)
        return np.ascontiguousarray(self._spatial.numbers(picture.astype(np.float32).reshape(-1, *self._shape)), np.float32)

    def _mixed(self, picture: Float32) -> Float32:
        return picture if self._mixing is None else _mix(self._mixing, picture)


def _mixing(parameterization: Parameterization, channels: int) -> Float32 | None:
    if not parameterization.colours:
        return None
    matrix = np.asarray(parameterization.colours, np.float32)
    if matrix.shape != (channels, channels) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
        msg = f"colours: expected an invertible matrix of {channels}x{channels}, got {matrix.tolist()}"
        raise InvalidAscent(msg)
    return matrix


def _mix(matrix: Float32, picture: Float32) -> Float32:
    """Channel i of the result is the sum over j of matrix[i, j] times channel j, in that order."""
    mixed = np.zeros_like(picture)
    for i, row in enumerate(matrix):
        for j, weight in enumerate(row):
            mixed[:, i] += weight * picture[:, j]
    return mixed
