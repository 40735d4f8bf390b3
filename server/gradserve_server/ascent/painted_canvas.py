"""The canvas of everything else: numbers that pixels are made of, transforms on the way to the model, another size."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import Noise
from gradserve.parameterizations import Pixels, Squash
from gradserve.transforms import Jitter, JitterKind
from gradserve_server.ascent.alpha import Transparency
from gradserve_server.ascent.canvas import (
    Float32,
    Float64,
    Mask,
    StartingImage,
    around,
    cut_at,
    lengths,
    optimizer_arrays,
    within,
)
from gradserve_server.ascent.parameters.image import Painter
from gradserve_server.ascent.penalties import added, values_and_gradients
from gradserve_server.ascent.shared import SharedNumbers
from gradserve_server.ascent.spec import NOISE, AscentSpec
from gradserve_server.ascent.transforms.draws import stream
from gradserve_server.ascent.transforms.geometry import Range
from gradserve_server.ascent.transforms.view import View, Views
from gradserve_server.kernels import Ascender
from gradserve_server.runtime.exchange import Exchange


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
            self._numbers, (low, high) = self._image.pixels, cut_at(spec)
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
        return norms > 0 if self.penalty is None else (self._gradient != 0).reshape(len(norms), -1).any(axis=1)

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
