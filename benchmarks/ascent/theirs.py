"""The same loops in PyTorch, as fast as they can be written there."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from speed.suite import SUITE
from torch import Tensor
from torch.nn import functional
from turns import Ready

from .loops import CASES, FOURIER, FOURIER_RATE, HIGH, LOW, PIXEL_RATE, PIXELS, UNIT, Case

MIDDLE = (LOW + HIGH) / 2


@dataclass(frozen=True)
class Setting:
    """A way to run PyTorch."""

    compiled: bool
    channels_last: bool
    fused: bool = True
    """Whether the transforms are sampled once, by one matrix, or one after the other, as libraries do."""

    def __str__(self) -> str:
        parts = ("compiled" if self.compiled else "eager", "channels last" * self.channels_last)
        return ", ".join(filter(None, (*parts, "" if self.fused else "a transform at a time")))


_EACH = [Setting(compiled, last) for compiled in (False, True) for last in (False, True)]
SETTINGS = {
    PIXELS: _EACH,
    # Compiling the network alone gains nothing over compiling all of a fused step.
    FOURIER: [*_EACH, *(replace(each, fused=False) for each in _EACH if not each.compiled)],
}


def steps(image: NDArray[np.float32], case: str, loop: str, setting: Setting, threads: int) -> Ready:
    """A loop from an image [1, C, H, W]; its report is the gradient of the logit there."""
    torch.set_num_threads(threads)
    form = torch.channels_last if setting.channels_last else torch.contiguous_format
    network = SUITE[case].folded().to(memory_format=form)

    def logit(x: Tensor) -> Tensor:
        logits: Tensor = network(x.to(memory_format=form))
        return logits[:, UNIT].sum()

    x = torch.from_numpy(image).requires_grad_()
    step = _LOOPS[loop](x.detach(), CASES[case], logit, setting)

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - started

    return run, lambda: torch.autograd.grad(logit(x), x)[0].contiguous().numpy()


Logit = Callable[[Tensor], Tensor]


def _pixels(image: Tensor, case: Case, logit: Logit, setting: Setting) -> Callable[[], None]:
    random = np.random.default_rng(0)
    value = torch.compile(logit) if setting.compiled else logit
    x = image.clone()

    def step() -> None:
        nonlocal x
        down, right = (int(shift) for shift in random.integers(-case.jitter, case.jitter + 1, 2))
        shifted = x.roll((down, right), (2, 3)).requires_grad_()
        g = torch.autograd.grad(value(shifted), shifted)[0].roll((-down, -right), (2, 3))
        x = (x + PIXEL_RATE * g / g.std(correction=0)).clamp_(LOW, HIGH)

    return step


def _fourier(image: Tensor, case: Case, logit: Logit, setting: Setting) -> Callable[[], None]:
    random = np.random.default_rng(0)
    height, width = case.shape[1:]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = math.sqrt(height * width) / torch.sqrt(rows**2 + columns**2).clamp_(min=1 / max(height, width)) / 4
    share = ((image - LOW) / (HIGH - LOW)).clamp_(1e-4, 1 - 1e-4)
    colours = torch.tensor(case.colours) if case.colours else torch.eye(case.shape[0])
    mixed = torch.einsum("ij,njhw->nihw", torch.linalg.inv(colours), torch.logit(share))
    spectrum = torch.view_as_real(torch.fft.rfft2(mixed) / scale).clone().requires_grad_()
    optimizer = torch.optim.Adam([spectrum], FOURIER_RATE, maximize=True, fused=True)

    def paint(numbers: Tensor) -> Tensor:
        picture = torch.fft.irfft2(torch.view_as_complex(numbers) * scale, (height, width))
        if case.colours:
            picture = torch.einsum("ij,njhw->nihw", colours, picture)
        return LOW + (HIGH - LOW) * torch.sigmoid(picture)

    def at_once(numbers: Tensor, affine: Tensor) -> Tensor:
        grid = functional.affine_grid(affine, [1, *case.shape], align_corners=False)
        seen = functional.grid_sample(paint(numbers) - MIDDLE, grid, align_corners=False)
        return logit(seen + MIDDLE)

    def one_at_a_time(numbers: Tensor, draw: "_Draw") -> Tensor:
        return logit(_crop(draw.apply(paint(numbers)), height, width))

    value: Callable[[Tensor, Any], Tensor] = at_once if setting.fused else one_at_a_time
    if setting.compiled:
        value = torch.compile(value)

    def step() -> None:
        draw = _Draw.of(case, random)
        optimizer.zero_grad()
        value(spectrum, draw.matrix(height, width) if setting.fused else draw).backward()
        optimizer.step()

    return step


_LOOPS: dict[str, Callable[[Tensor, Case, Logit, Setting], Callable[[], None]]] = {PIXELS: _pixels, FOURIER: _fourier}


@dataclass(frozen=True)
class _Draw:
    """What the transforms of one step are."""

    pad: int
    shifts: tuple[tuple[int, int, int], ...]
    """Each: by how much the image shrinks, and how far down and right the window is."""
    scale: float
    degrees: float

    @staticmethod
    def of(case: Case, random: np.random.Generator) -> "_Draw":
        view = case.view
        shifts = tuple((size, *(int(n) for n in random.integers(0, size + 1, 2))) for size in view.shifts)
        return _Draw(view.pad, shifts, random.uniform(*view.scale), random.uniform(-view.degrees, view.degrees))

    def matrix(self, height: int, width: int) -> Tensor:
        """Where a pixel of the result looks in the picture, in `affine_grid`'s coordinates: all transforms as one.

        Frames and windows around the centre move nothing; a window elsewhere moves it by its distance from there.
        """
        down, right = (sum(shift[i] - shift[0] / 2 for shift in self.shifts) for i in (1, 2))
        angle = math.radians(self.degrees)
        cos, sin = math.cos(angle) / self.scale, math.sin(angle) / self.scale
        ratio = height / width
        return torch.tensor([[[cos, -sin * ratio, 2 * right / width], [sin / ratio, cos, 2 * down / height]]])

    def apply(self, x: Tensor) -> Tensor:
        """One transform after the other, as Lucent writes them."""
        x = functional.pad(x, [self.pad] * 4, value=MIDDLE)
        x = _window(x, *self.shifts[0])
        x = functional.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        angle = math.radians(self.degrees)
        ratio = x.shape[2] / x.shape[3]
        cos, sin = math.cos(angle), math.sin(angle)
        turned = torch.tensor([[[cos, -sin * ratio, 0.0], [sin / ratio, cos, 0.0]]])
        grid = functional.affine_grid(turned, list(x.shape), align_corners=False)
        x = functional.grid_sample(x - MIDDLE, grid, align_corners=False) + MIDDLE
        return _window(x, *self.shifts[1])


def _window(x: Tensor, size: int, down: int, right: int) -> Tensor:
    return x[:, :, down : x.shape[2] - size + down, right : x.shape[3] - size + right]


def _crop(x: Tensor, height: int, width: int) -> Tensor:
    """A window around the centre; where the image is smaller, a frame."""
    top, left = (height - x.shape[2]) // 2, (width - x.shape[3]) // 2
    return functional.pad(x, [left, width - x.shape[3] - left, top, height - x.shape[2] - top], value=MIDDLE)
