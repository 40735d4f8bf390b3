"""Which canvas an ascent has."""

import numpy as np

from gradserve_server.ascent.canvas import Canvas, Float32, is_plain
from gradserve_server.ascent.painted_canvas import PaintedCanvas
from gradserve_server.ascent.pixel_canvas import PixelCanvas
from gradserve_server.ascent.resident_canvas import ResidentCanvas
from gradserve_server.ascent.spec import AscentSpec
from gradserve_server.runtime.device import Device


def canvas_on(device: Device, spec: AscentSpec, batch: Float32) -> Canvas:
    """The canvas of an ascent whose model runs on a device.

    Args:
        device: Where.
        spec: What to do.
        batch: The model's input, to be written where the arithmetic around the model is the processor's.

    Raises:
        InvalidAscent: Settings that do not go together.
    """
    return ResidentCanvas(spec, device) if stays(spec, device) else canvas_of(spec, batch, np.empty_like(batch))


def stays(spec: AscentSpec, device: Device) -> bool:
    """Whether an ascent has its images on the device: those that are what the model sees, but for being rolled."""
    return device is not Device.CPU and is_plain(spec)


def canvas_of(spec: AscentSpec, batch: Float32, gradient: Float32) -> Canvas:
    """The canvas of an ascent whose arithmetic around the model is the processor's.

    Args:
        spec: What to do.
        batch: The model's input, to be written.
        gradient: With respect to it, to be read.

    Raises:
        InvalidAscent: Settings that do not go together.
    """
    return PixelCanvas(spec, batch, gradient) if is_plain(spec) else PaintedCanvas(spec, batch, gradient)
