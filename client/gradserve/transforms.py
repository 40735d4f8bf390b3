"""What happens to an image on its way to the model in each step of an ascent, so that it does not overfit to pixels.

    transforms=[Pad(12), Jitter(8), Scale(Uniform(0.9, 1.1)), Rotate(Uniform(-10, 10)), Jitter(4)]

They apply in order; each image draws its own numbers in each step, from the seed of the ascent. Where the result has another
size than the model's input, it is resized to it. The gradient takes the exact adjoint of what was drawn.

Sizes are in pixels, colours in the described pixel range, angles in degrees, counterclockwise. All sampling is bilinear.
"""

from dataclasses import dataclass
from enum import StrEnum

from gradserve.numbers import Choice, Spread

__all__ = [
    "Affine",
    "Alignment",
    "Blur",
    "Border",
    "Crop",
    "Flip",
    "Jitter",
    "JitterKind",
    "Noisy",
    "Pad",
    "RandomCrop",
    "Resize",
    "Rotate",
    "Scale",
    "Transform",
]


class Border(StrEnum):
    """What lies beyond the edge of an image."""

    FILL = "fill"
    """One colour."""
    WRAP = "wrap"
    """The other side."""
    EDGE = "edge"
    """The nearest pixel."""
    REFLECT = "reflect"
    """The image mirrored at its outermost pixel, which is not repeated."""


class Alignment(StrEnum):
    """Which position of the old image a pixel of the resized one looks at; `ratio` is old size / new size."""

    HALF_PIXEL = "half_pixel"
    """ratio (x + 1/2) - 1/2: the corners of the corner pixels meet (torch, onnx)."""
    CORNERS = "corners"
    """x (old - 1) / (new - 1): the centres of the corner pixels meet (torch's align_corners)."""
    ASYMMETRIC = "asymmetric"
    """ratio x: the first pixels meet (TensorFlow 1, and so Lucid)."""


class JitterKind(StrEnum):
    """What a random shift does at the edges."""

    ROLL = "roll"
    """Up to `size` each way; what leaves on one side enters on the other."""
    CROP = "crop"
    """A window smaller by `size`, anywhere (Lucid)."""
    TRANSLATE = "translate"
    """Up to `size` each way; what enters is the colour `fill`."""


@dataclass(frozen=True)
class Pad:
    """A frame around the image."""

    size: int
    border: Border = Border.FILL
    fill: float | None = None
    """Its colour; by default the middle of the pixel range."""


@dataclass(frozen=True)
class Jitter:
    """A random shift by whole pixels."""

    size: int
    kind: JitterKind = JitterKind.CROP
    fill: float | None = None
    """The colour that enters; by default the middle of the pixel range."""


@dataclass(frozen=True)
class Scale:
    """Another size: each side times a factor, rounded down to whole pixels."""

    factor: Spread
    alignment: Alignment = Alignment.HALF_PIXEL


@dataclass(frozen=True)
class Rotate:
    """Around the centre; the size stays."""

    degrees: Spread
    fill: float | None = None
    """What enters at the corners; by default the middle of the pixel range."""


@dataclass(frozen=True)
class Affine:
    """Around the centre: enlarged by `scale`, sheared, rotated, then moved; the size stays."""

    scale: Spread = 1.0
    shear: Spread = 0.0
    """Degrees by which columns lean."""
    degrees: Spread = 0.0
    down: Spread = 0.0
    """Pixels."""
    right: Spread = 0.0
    """Pixels."""
    border: Border = Border.FILL
    fill: float | None = None


@dataclass(frozen=True)
class Crop:
    """A window around the centre, of this size; where the image is smaller, a frame."""

    height: int
    width: int
    fill: float | None = None


@dataclass(frozen=True)
class RandomCrop:
    """A square window, resized to the size of the image (MACO)."""

    size: Spread
    """Its side, as a share of the image's."""
    centre: Spread = 0.5
    """As a share of the image's size, drawn for each axis; the window may reach over the edge."""
    fill: float | None = None


@dataclass(frozen=True)
class Resize:
    """To a size."""

    height: int
    width: int
    alignment: Alignment = Alignment.HALF_PIXEL


@dataclass(frozen=True)
class Flip:
    """Left to right."""

    probability: float = 0.5


@dataclass(frozen=True)
class Blur:
    """A Gaussian, cut off after `radius` pixels and scaled to a sum of 1."""

    sigma: Spread
    """Pixels."""
    radius: int = 4
    border: Border = Border.EDGE


@dataclass(frozen=True)
class Noisy:
    """Gaussian noise plus evenly spread noise, new for each value; the gradient passes unchanged."""

    standard_deviation: float = 0.0
    """As a share of the width of the pixel range."""
    half_width: float = 0.0
    """The same: the even part lies within this, each way."""


Transform = Pad | Jitter | Scale | Rotate | Affine | Crop | RandomCrop | Resize | Flip | Blur | Noisy

LUCID = (
    Pad(12),
    Jitter(8),
    Scale(Choice(tuple(1 + (i - 5) / 50 for i in range(11))), Alignment.ASYMMETRIC),
    Rotate(Choice((*range(-10, 11), *[0.0] * 5)), fill=0.0),
    Jitter(4),
)
"""Lucid's `standard_transforms` (optvis/transform.py)."""
