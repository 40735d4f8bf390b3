"""Pixel space: where the image that an ascent changes lives, and how it becomes the model's input.

    model input = (pixel - mean) / std, channel by channel, in the model's layout

The image is planar, [N, C, H, W], because every later stage works on planes; the kernels write the model's layout. By the
rank of the model's input:

| input | is | plane of each channel | sizes |
|---|---|---|---|
| [N], [N, L] | a vector: one channel | 1, L | L |
| [N, C, L] | a signal | 1, L | L |
| [N, C, H, W] | an image | H, W | H, W |
| [N, C, D, H, W] and more | a volume | D H, W | D, H, W |

The layout "NHWC" says that channels come last, whatever the rank.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from gradserve import ImageDescription
from gradserve.errors import InvalidAscent

IMAGE_RANK = 3
"""Axes of one image without the batch axis."""

_SIGNAL_RANK = 2
"""The same of what has a channel axis, at least."""

_IMAGE_AXES, _VOLUME_AXES = 2, 3
"""Of a channel."""


@dataclass(frozen=True)
class PixelSpace:
    """The shapes of one sample on both sides, and the normalization between them."""

    description: ImageDescription | None
    """None: pixels are the model's input."""
    model_shape: tuple[int, ...]
    """Of one sample, as the model takes it."""

    def __post_init__(self) -> None:
        if self.description is None:
            return
        channels = self.planar_shape[0]
        for name, values in (("mean", self.description.mean), ("std", self.description.std)):
            if len(values) not in (1, channels):
                msg = f"image description: expected 1 or {channels} numbers for {name}, got {len(values)}"
                raise InvalidAscent(msg)

    @property
    def is_image(self) -> bool:
        """Whether it has rows and columns."""
        return len(self.model_shape) == IMAGE_RANK

    @property
    def layout(self) -> str:
        """Of the model's input."""
        return self.description.layout if self.description is not None and len(self.model_shape) > 1 else "NCHW"

    @property
    def channels(self) -> int:
        """C."""
        if len(self.model_shape) < _SIGNAL_RANK:
            return 1
        return self.model_shape[-1 if self.layout == "NHWC" else 0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of a channel, one for each axis."""
        if len(self.model_shape) < _SIGNAL_RANK:
            return self.model_shape or (1,)
        return self.model_shape[:-1] if self.layout == "NHWC" else self.model_shape[1:]

    @property
    def planar_shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        *rows, columns = self.sizes
        return self.channels, prod(rows), columns

    @property
    def spelled(self) -> str:
        """What the input is, for errors."""
        axes = ",".join("DHW"[-len(self.sizes) :]) if _IMAGE_AXES <= len(self.sizes) <= _VOLUME_AXES else "L"
        kind = {1: "a signal", _IMAGE_AXES: "an image"}.get(len(self.sizes), "a volume")
        return "a vector [N,L]" if len(self.model_shape) < _SIGNAL_RANK else f"{kind} [N,C,{axes}]"

    @property
    def mean(self) -> npt.NDArray[np.float32]:
        """[C], or one number for all."""
        return _per_channel(self.description.mean if self.description else (0.0,))

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """1 / std: [C], or one number for all."""
        return np.float32(1) / _per_channel(self.description.std if self.description else (1.0,))

    def to_planar(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[N, *model_shape] as [N, C, H, W]."""
        if self.layout == "NHWC":
            images = np.moveaxis(images, -1, 1)
        return np.ascontiguousarray(images).reshape(-1, *self.planar_shape)

    def from_planar(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[N, C, H, W] as [N, *model_shape]; always a copy."""
        if self.layout == "NHWC":
            return np.moveaxis(images.reshape(len(images), self.channels, *self.sizes), 1, -1).copy()
        return images.copy().reshape(-1, *self.model_shape)

    def buffer(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A view of the model's batch as the kernels take it: [N, C, H, W] or [N, H, W, C]."""
        channels, height, width = self.planar_shape
        return batch.reshape(-1, *((height, width, channels) if self.layout == "NHWC" else (channels, height, width)))


def _per_channel(values: tuple[float, ...]) -> npt.NDArray[np.float32]:
    array = np.asarray(values, np.float32)
    return array if len(array) > 1 else array.reshape(())
