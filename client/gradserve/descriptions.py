"""What a model is made of, as `inspect` and `layers` tell it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent

__all__ = ["ImageDescription", "Layer", "ModelDescription", "ModelState", "ModelStatus", "TensorDescription"]

Dimension = int | str | None
"""A size, a symbol such as "N", or unknown."""


@dataclass(frozen=True)
class ImageDescription:
    """How pixels become a model input: `input = (pixel - mean) / std`, channel by channel."""

    layout: str = "NCHW"
    """"NCHW" or "NHWC"."""
    channels: str = "RGB"
    """"GREY", "RGB" or "BGR": what the model takes, in order."""
    low: float = 0.0
    """Smallest pixel value."""
    high: float = 1.0
    """Largest pixel value."""
    mean: tuple[float, ...] = (0.0,)
    """In pixel units; one for each channel, or one for all."""
    std: tuple[float, ...] = (1.0,)
    """In pixel units; one for each channel, or one for all."""

    def normalize(self, pixels: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Pixels in the model's layout and channel order, as the model input; the same bytes as `ascend` computes."""
        scale = np.float32(1) / self._along(self.std)
        return np.asarray((np.asarray(pixels, np.float32) - self._along(self.mean)) * scale, np.float32)

    def denormalize(self, inputs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """A model input as pixels: the inverse of `normalize`."""
        return np.asarray(np.asarray(inputs, np.float32) * self._along(self.std) + self._along(self.mean), np.float32)

    def _along(self, per_channel: tuple[float, ...]) -> npt.NDArray[Any]:
        values = np.asarray(per_channel, np.float32)
        if values.size == 1:
            return values.reshape(())  # of inputs of any rank
        return values.reshape(-1, 1, 1) if self.layout == "NCHW" else values


@dataclass(frozen=True)
class TensorDescription:
    """An input or output of a model."""

    name: str
    dtype: str
    """NumPy's name."""
    shape: tuple[Dimension, ...]
    image: ImageDescription | None = None
    """None where the model does not say, and for outputs."""
    labels: tuple[str, ...] = ()
    """What each index means; empty where the model does not say, and for inputs."""


@dataclass(frozen=True)
class ModelDescription:
    """A served model."""

    name: str
    version: str
    sha256: str
    """Of the model file."""
    opset: int
    """Of the default domain."""
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    rewrites: tuple[str, ...] = field(default=())
    """What was changed to put the graph into inference form, in words."""
    rewrite_error: float = 0.0
    """Largest difference that made to an output, relative to its largest value, on a random batch."""
    backend: str = "auto"
    """Who makes the gradients: "auto", "training" or "portable"; with "auto" each layer has its own."""
    backend_reason: str = ""

    def input(self, name: str) -> TensorDescription:
        """The input of that name."""
        return next(tensor for tensor in self.inputs if tensor.name == name)

    def changing_input(self, name: str = "") -> TensorDescription:
        """The input that an ascent changes.

        Args:
            name: Which; by default the only one of float32.

        Raises:
            InvalidAscent: There is none, or more than one.
        """
        found = [t for t in self.inputs if (t.name == name if name else t.dtype == "float32")]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"'{tensor.name}' {tensor.dtype}" for tensor in self.inputs)
        msg = f"input: expected the name of one float32 input among {known}, got {name or 'none'}"
        raise InvalidAscent(msg)


@dataclass(frozen=True)
class Layer:
    """A tensor inside a model that objectives and `activations` can name."""

    name: str
    op: str
    """The operator that makes it."""
    dtype: str
    shape: tuple[Dimension, ...]
    differentiable: bool
    """Whether its gradient with respect to some float input can be asked for."""
    reason: str = ""
    """Why not."""
    backend: str = ""
    """Who makes its gradient: "training" or "portable"; empty where there is none."""
    backend_reason: str = ""
    """Why that one."""


class ModelState(StrEnum):
    """What can become of a version in a model repository; the names are Triton's."""

    UNKNOWN = "UNKNOWN"
    """It was never loaded."""
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    """New calls do not find it, and those that have it end."""
    UNAVAILABLE = "UNAVAILABLE"
    """It was unloaded, or cannot be loaded; the reason says which."""


@dataclass(frozen=True)
class ModelStatus:
    """A version of a model in the server's repository, as `models` tells it."""

    name: str
    version: str
    """Empty where none is known: the model was never loaded, or cannot even be read."""
    state: ModelState
    reason: str = ""
    """Why it is not ready; of a version that is, why the latest attempt to replace it failed."""
    memory_bytes: int = 0
    """What it takes of the server's memory: weights and plans, as the server counts them."""
