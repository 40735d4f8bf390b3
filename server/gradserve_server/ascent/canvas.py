"""What an ascent changes, and how the model sees it: a canvas writes the model's input and steps by the gradient of it.

`PixelCanvas` is the fast one: the image has the model's size, and all around the model is two fused kernels. `PaintedCanvas`
is for everything else: numbers that pixels are made of, transforms, another size. `ascent.resident` has the one whose images
stay on a device.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gradserve import Noise
from gradserve.parameterizations import Pixels, Squash
from gradserve.transforms import Jitter, JitterKind
from gradserve_server.ascent.alpha import Transparency
from gradserve_server.ascent.bounds import Bounds
from gradserve_server.ascent.parameters.image import Painter
from gradserve_server.ascent.penalties import added, values_and_gradients
from gradserve_server.ascent.projection import Ball
from gradserve_server.ascent.regularizers import Regularization
from gradserve_server.ascent.shared import SharedNumbers
from gradserve_server.ascent.spec import BALL, NOISE, AscentSpec
from gradserve_server.ascent.transforms.draws import stream
from gradserve_server.ascent.transforms.geometry import Range
from gradserve_server.ascent.transforms.view import View, Views
from gradserve_server.kernels import Ascender, AscentState, Layout
from gradserve_server.runtime.exchange import Exchange

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


_PLANE_AXES = 2
"""Of what the kernels can roll: images, and signals, which are images of one row."""


class Canvas(Protocol):
    """What an ascent changes."""

    exchange: Exchange
    """Where it meets the model."""
    optimizer: AscentState
    penalty: Float64 | None
    """What the image itself adds to the value of what was shown, [count]; its gradient is in every step."""

    def show(self, index: int, *, plain: bool) -> None:
        """Writes the model's input for a step; plain: without transforms."""

    def show_picture(self, picture: Float32) -> None:
        """Writes the model's input for another image, without transforms. No step may follow it."""

    def step(self, held: Mask | None) -> Float64:
        """Changes all images but those held, by the gradient of what was shown, and returns the length of each one's."""

    def norms(self) -> Float64:
        """Those lengths, without a step."""

    def seen(self) -> Float32:
        """What was shown: the model's input, on this side."""

    def moved(self, norms: Float64) -> Mask:
        """Which images the model's gradient moved, given those lengths: it is not zero everywhere."""

    def unseen(self) -> None:
        """Notes that what was shown has not been run, and never will be: its gradient is not a number."""

    def picture(self) -> Float32:
        """The image as it is now, in pixel space, [count, C, H, W]; a transparent one has its alpha as one more channel."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that a step reads and writes, by name; to be read only."""

    def take(self, name: str, array: npt.NDArray[Any]) -> None:
        """Puts a copy of an array in the place of one of `arrays`."""

    def fits(self, name: str, array: npt.NDArray[Any]) -> str:
        """What is wrong with an array that should take the place of one of `arrays`; "" for nothing."""


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


def is_plain(spec: AscentSpec) -> bool:
    """Whether the image has the model's size, and is rolled at most."""
    in_planes = not spec.jitter or len(spec.pixels.sizes) <= _PLANE_AXES
    as_large = spec.image.planar_shape == spec.pixels.planar_shape
    is_alone = not (spec.transforms or spec.penalties or spec.regularizers or spec.shared) and spec.alpha is None
    return spec.parameterization == Pixels() and is_alone and as_large and in_planes


def around(spec: AscentSpec) -> Ascender:
    """Around the model: pixels to its input, and steps of pixels."""
    low, high = _cut_at(spec)
    return Ascender(
        spec.pixels.planar_shape,
        rule=spec.optimizer,
        mean=spec.pixels.mean,
        scale=spec.pixels.scale,
        layout=Layout(spec.pixels.layout),
        normalization=spec.gradient_normalization,
        weight_decay=spec.weight_decay,
        low=low,
        high=high,
    )


def _cut_at(spec: AscentSpec) -> tuple[float, float]:
    """Where a step cuts all pixels off alike: nowhere if something comes before the bounds, or these are arrays."""
    low, high = spec.bounds
    if spec.projection is not None or spec.regularizers or isinstance(low, np.ndarray) or isinstance(high, np.ndarray):
        return -np.inf, np.inf
    return low, high


class StartingImage:
    """The image itself as what changes: where it begins, where it must stay."""

    def __init__(self, spec: AscentSpec) -> None:
        self._bounds = spec.bounds
        self._is_cut = not spec.regularizers and not any(isinstance(bound, np.ndarray) for bound in spec.bounds)
        self._regularization = Regularization(spec.regularizers, spec.image)
        self._ball = None if spec.projection is None else Ball(spec.projection, spec.start, spec.bounds)
        seeds = [stream(spec.seed, image, BALL) for image in range(spec.count)]
        self.pixels = spec.start.copy() if self._ball is None else self._ball.first(seeds)

    def regularize(self, norms: Float64, gradient: Float32, index: int) -> None:
        """What `regularizers` ask for after a step by gradients of these lengths; one that is not finite was no step."""
        self._regularization.apply(self.pixels, gradient, np.isfinite(norms), index)

    def confine(self, norms: Float64) -> None:
        """Brings it back after a step by gradients of these lengths."""
        if self._ball is not None:
            self._ball.project(self.pixels, np.isfinite(norms))
        elif not self._is_cut:
            np.clip(self.pixels, *self._bounds, out=self.pixels)

    def fits(self, array: npt.NDArray[Any]) -> str:
        """What is wrong with pixels that should take its place."""
        if wrong := within(array, self._bounds):
            return wrong
        return "" if self._ball is None or self._ball.holds(array) else "expected values near the start, got others"


class Rolls:
    """By how much the images of an ascent are rolled in each step."""

    def __init__(self, spec: AscentSpec) -> None:
        self._spec, self._jitter, self._next = spec, spec.offsets(), 0

    def at(self, index: int) -> npt.NDArray[np.int32] | None:
        """Of a step, [count, 2] (rows, columns); None where images are not rolled. Quickest in the order of steps."""
        if index != self._next:
            self._jitter = self._spec.offsets(index)
        self._next = index + 1
        return next(self._jitter)


class PixelCanvas:
    """An image as large as the model's input, rolled at most; without penalties."""

    penalty: Float64 | None = None

    def __init__(self, spec: AscentSpec, batch: Float32, gradient: Float32) -> None:
        self._spec, self._ascender = spec, around(spec)
        self._shown, self._raw = batch, gradient
        self._batch = spec.pixels.buffer(batch)
        self._gradient = spec.pixels.buffer(gradient)
        self._image = StartingImage(spec)
        self.optimizer = self._ascender.new_state(spec.count)
        self._offsets: npt.NDArray[np.int32] | None = None
        self._rolls = Rolls(spec)
        self.exchange = Exchange(batch, gradient)

    def show(self, index: int, *, plain: bool) -> None:
        """See `Canvas`."""
        self._offsets = None if plain else self._rolls.at(index)
        self._ascender.prepare(self._image.pixels, self._offsets, self._batch)

    def show_picture(self, picture: Float32) -> None:
        """See `Canvas`."""
        self._ascender.prepare(picture, None, self._batch)

    def step(self, held: Mask | None) -> Float64:
        """See `Canvas`."""
        rate = self._spec.learning_rate(self.optimizer.steps)
        if held is not None:
            lengths_held = self._lengths(self._raw[held])
            self._raw[held] = np.nan  # the kernel leaves such images as they are
        norms = self._ascender.step(self._image.pixels, self._gradient, self._offsets, self.optimizer, rate)
        self._image.confine(norms)
        if held is not None:
            norms[held] = lengths_held
        return norms

    def norms(self) -> Float64:
        """See `Canvas`."""
        return self._lengths(self._raw)

    def seen(self) -> Float32:
        """See `Canvas`."""
        return self._shown

    def moved(self, norms: Float64) -> Mask:
        """See `Canvas`."""
        return norms > 0

    def unseen(self) -> None:
        """See `Canvas`."""
        self._raw.fill(np.nan)

    def picture(self) -> Float32:
        """See `Canvas`."""
        return self._image.pixels

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `Canvas`."""
        return {"image": self._image.pixels, **optimizer_arrays(self.optimizer)}

    def take(self, name: str, array: npt.NDArray[Any]) -> None:
        """See `Canvas`."""
        self.arrays()[name][...] = array

    def fits(self, name: str, array: npt.NDArray[Any]) -> str:
        """See `Canvas`."""
        return self._image.fits(array) if name == "image" else ""

    def _lengths(self, gradient: Float32) -> Float64:
        pixels = self._spec.pixels
        return lengths(pixels.to_planar(gradient).astype(np.float64) * np.float64(pixels.scale).reshape(-1, 1, 1))


class PaintedCanvas:
    """Numbers of any kind, and transforms on the way to the model."""

    def __init__(self, spec: AscentSpec, batch: Float32, gradient: Float32) -> None:
        self._spec, self._batch, self._gradient = spec, spec.pixels.buffer(batch), gradient
        self._shown, self._around = batch, around(spec)
        self.exchange = Exchange(batch, gradient)
        scale = spec.pixels.scale.reshape(-1, 1, 1)
        self._scale = None if (scale == 1).all() else scale
        roll = (Jitter(spec.jitter, JitterKind.ROLL),) if spec.jitter else ()
        self._views = Views(
            (*roll, *spec.transforms),
            seed=spec.seed,
            count=spec.count,
            sizes=spec.image.sizes,
            target=spec.pixels.sizes,
            pixels=Range(*spec.bounds),
            progress=spec.progress,
            max_pixels=spec.max_pixels,
            fuse=not spec.resample_each,
        )
        self._view: View = self._views.plain()
        squash = Squash(spec.parameterization.squash)
        is_image = isinstance(spec.parameterization, Pixels) and squash is Squash.CLIP and not spec.parameterization.colours
        is_image = is_image and not spec.shared and spec.alpha is None
        self._painter: Painter | None = None
        self._image: StartingImage | None = None
        if is_image:
            self._image = StartingImage(spec)
            self._numbers, (low, high) = self._image.pixels, _cut_at(spec)
        else:
            self._painter = Painter(spec.parameterization, (spec.image.channels, *spec.image.sizes), Range(*spec.bounds))
            self._numbers, (low, high) = _first_numbers(spec, self._painter), (-np.inf, np.inf)
        self._transparency: Transparency | None = None
        if spec.alpha is not None:
            self._transparency = Transparency(spec.alpha, spec.parameterization, spec.image, spec.bounds, spec.seed)
            deviation = spec.origin.standard_deviation if isinstance(spec.origin, Noise) else Noise().standard_deviation
            alpha = self._transparency.numbers(spec.count, deviation).reshape(spec.count, 1, 1, -1)
            self._numbers = np.concatenate([self._numbers, alpha], axis=3)
        self._index = 0
        self._ascender = Ascender(
            self._numbers.shape[1:],
            rule=spec.optimizer,
            mean=spec.pixels.mean if is_image else 0.0,
            normalization=spec.gradient_normalization,
            weight_decay=spec.weight_decay,
            low=low,
            high=high,
        )
        self.optimizer = self._ascender.new_state(spec.count)
        self._shared = _shared(spec) if spec.shared else None
        self._painted: Float32 | None = None  # until the numbers change
        self.penalty: Float64 | None = None
        self._pull: Float32 | None = None
        """The gradient of the penalties with respect to the pixels."""

    def show(self, index: int, *, plain: bool) -> None:
        """See `Canvas`."""
        self._view = self._views.plain() if plain else self._views.at(index)
        self._index = index
        self._around.prepare(self._view.forward(self._seen(self.picture())), None, self._batch)

    def show_picture(self, picture: Float32) -> None:
        """See `Canvas`."""
        self._around.prepare(self._views.plain().forward(self._seen(picture)), None, self._batch)

    def step(self, held: Mask | None) -> Float64:
        """See `Canvas`."""
        rate, slope = self._spec.learning_rate(self.optimizer.steps), self._slope()
        if held is not None:
            lengths_held, slope = lengths(slope[held].astype(np.float64)), slope.copy()
            slope[held] = np.nan  # the kernel leaves such images as they are
        norms = self._ascender.step(self._numbers, slope, None, self.optimizer, rate)
        if self._shared is not None:
            self._shared.step(np.isfinite(norms), self.optimizer.steps, rate)
        self._painted = None
        if self._image is not None:
            self._image.regularize(norms, slope, self.optimizer.steps - 1)
            self._image.confine(norms)
        if held is not None:
            norms[held] = lengths_held
        return norms

    def norms(self) -> Float64:
        """See `Canvas`."""
        return lengths(self._slope().astype(np.float64))

    def seen(self) -> Float32:
        """See `Canvas`."""
        return self._shown

    def moved(self, norms: Float64) -> Mask:
        """See `Canvas`."""
        # Penalties move an image that the model does not.
        return norms > 0 if self.penalty is None else self._gradient.reshape(len(norms), -1).any(axis=1)

    def unseen(self) -> None:
        """See `Canvas`."""
        self._gradient.fill(np.nan)

    def picture(self) -> Float32:
        """See `Canvas`."""
        if self._painter is None:
            return self._numbers
        if self._painted is None:
            numbers = self._numbers.reshape(self._spec.count, -1)
            shared = None if self._shared is None else self._shared.picture()
            self._painted = self._painter.paint(numbers[:, : self._painter.length], shared)
            if self._transparency is not None:
                alpha = self._transparency.painter.paint(numbers[:, self._painter.length :])
                self._painted = np.concatenate([self._painted, alpha], axis=1)
        return self._painted

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `Canvas`."""
        shared = {} if self._shared is None else self._shared.arrays()
        return {"numbers": self._numbers, **optimizer_arrays(self.optimizer), **shared}

    def take(self, name: str, array: npt.NDArray[Any]) -> None:
        """See `Canvas`."""
        self.arrays()[name][...] = array

    def fits(self, name: str, array: npt.NDArray[Any]) -> str:
        """See `Canvas`."""
        if name != "numbers":
            return ""
        return self._image.fits(array) if self._image is not None else within(array, (-np.inf, np.inf))

    def _slope(self) -> Float32:
        """The gradient with respect to the numbers, shaped like them."""
        gradient, back = self._spec.pixels.to_planar(self._gradient), None
        if self._scale is not None:
            gradient = gradient * self._scale
        gradient = self._view.adjoint(gradient)
        if self._transparency is not None:
            gradient, back = self._transparency.pull_back(gradient)
        if self._pull is not None:
            gradient = added(gradient, self._pull)
        if self._painter is not None:
            gradient = self._pulled_back(self._painter, gradient, back)
        return np.ascontiguousarray(gradient).reshape(self._numbers.shape)

    def _pulled_back(self, painter: Painter, gradient: Float32, back: Float32 | None) -> Float32:
        """From pixels, and from alpha, to numbers."""
        numbers, picture = self._numbers.reshape(self._spec.count, -1), self.picture()
        length, channels = painter.length, self._spec.image.channels
        gradient = painter.to_picture(picture[:, :channels], gradient)
        if self._shared is not None:
            self._shared.gradient = gradient
        pixels = painter.from_picture(numbers[:, :length], gradient)
        if self._transparency is None or back is None:
            return pixels
        alpha = self._transparency.painter.pull_back(numbers[:, length:], picture[:, channels:], back)
        return np.concatenate([pixels, alpha], axis=1)

    def _seen(self, picture: Float32) -> Float32:
        """What is to be seen of a picture: over its background, if it is transparent. Notes what it adds by itself."""
        spec, alpha = self._spec, None
        image = picture
        if self._transparency is not None:
            image, alpha = np.split(picture, [spec.image.channels], axis=1)
        self.penalty = None
        if spec.penalties:
            self.penalty, self._pull = values_and_gradients(spec.penalties, image, spec.progress(self._index))
        if self._transparency is None or alpha is None:
            return picture
        more = self._transparency.penalty(alpha)
        self.penalty = more if self.penalty is None else added(self.penalty, more)
        return self._transparency.over(image, alpha, self._index)


def _shared(spec: AscentSpec) -> SharedNumbers:
    deviation = spec.origin.standard_deviation if isinstance(spec.origin, Noise) else 0.0
    return SharedNumbers(
        spec.shared,
        spec.image,
        spec.count,
        seed=spec.seed,
        deviation=deviation,
        rule=spec.optimizer,
        normalization=spec.gradient_normalization,
        weight_decay=spec.weight_decay,
    )


def _first_numbers(spec: AscentSpec, painter: Painter) -> Float32:
    """[count, 1, 1, K]: of an image that was given, or random ones."""
    if isinstance(spec.origin, Noise):
        seeds = [stream(spec.seed, image, NOISE) for image in range(spec.count)]
        drawn = [np.random.Generator(np.random.Philox(seed)).standard_normal(painter.length, np.float32) for seed in seeds]
        numbers = np.stack(drawn) * np.float32(spec.origin.standard_deviation)
    else:
        numbers = painter.numbers(spec.start)
    return np.ascontiguousarray(numbers, np.float32).reshape(spec.count, 1, 1, -1)


def optimizer_arrays(state: AscentState) -> dict[str, npt.NDArray[Any]]:
    """What an optimizer remembers, as checkpoints call it."""
    return {f"optimizer: {name}": array for name, array in state.arrays().items()}


def lengths(gradient: Float64) -> Float64:
    """Euclidean, of each image's."""
    norms: Float64 = np.sqrt(np.square(gradient).sum(axis=(1, 2, 3)))
    return norms


def within(array: npt.NDArray[Any], bounds: Bounds) -> str:
    """What is wrong with values that should lie within bounds."""
    low, high = bounds
    inside = np.array_equal(np.clip(array, low, high), array)
    return "" if inside else f"expected values from {np.min(low):g} to {np.max(high):g}, got others"
