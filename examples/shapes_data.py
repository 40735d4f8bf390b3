"""Generated pictures of twelve shapes, in colour, for what ten grey digits cannot show.

Shape and colour are independent: both colours of a picture are drawn, and differ in lightness. Needs numpy and pillow.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

IMAGE_SIZE = 48
SUPERSAMPLING = 4
CONTRAST = 0.35
"""Smallest difference in lightness between shape and ground, of 1."""


class Shapes(NamedTuple):
    """Pixels in [0, 1], shape [N, 3, 48, 48], float32, RGB, and their labels, shape [N], int64."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]


Pen = ImageDraw.ImageDraw
Points = list[tuple[float, float]]


def _polygon(points: Points) -> Callable[[Pen, float], None]:
    """Draws a polygon given around the origin, in units of half the picture."""

    def draw(pen: Pen, half: float) -> None:
        pen.polygon([(half + x * half, half + y * half) for x, y in points], fill=255)

    return draw


def _regular(corners: int, inner: float = 1.0) -> Points:
    """A regular polygon that stands on a side; a star where the inner corners are nearer."""
    count = corners * (2 if inner < 1 else 1)
    radii = [1.0, inner] if inner < 1 else [1.0]
    turns = [(2 * math.pi * i / count, radii[i % len(radii)]) for i in range(count)]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for angle, radius in turns]


def _ellipse(pen: Pen, half: float, radius: float, fill: int, right: float = 0.0) -> None:
    x = half + right * half
    pen.ellipse([x - radius * half, half - radius * half, x + radius * half, half + radius * half], fill=fill)


def _circle(pen: Pen, half: float) -> None:
    _ellipse(pen, half, 0.95, 255)


def _ring(pen: Pen, half: float) -> None:
    _ellipse(pen, half, 0.95, 255)
    _ellipse(pen, half, 0.5, 0)


def _crescent(pen: Pen, half: float) -> None:
    _ellipse(pen, half, 0.95, 255)
    _ellipse(pen, half, 0.8, 0, right=0.45)


def _heart(pen: Pen, half: float) -> None:
    angles = np.linspace(0, 2 * np.pi, 100)
    x = np.sin(angles) ** 3
    y = -(13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)) / 16
    _polygon(list(zip(x.tolist(), y.tolist(), strict=True)))(pen, half)


def _spiral(pen: Pen, half: float) -> None:
    angles = np.linspace(0.0, 5.2 * np.pi, 200)
    radius = 0.9 * angles / angles[-1]
    points = zip(half + half * radius * np.cos(angles), half + half * radius * np.sin(angles), strict=True)
    pen.line([(float(x), float(y)) for x, y in points], fill=255, width=round(half * 0.22), joint="curve")


def _stripes(pen: Pen, half: float) -> None:
    for i in range(4):
        top = (0.04 + 0.52 * i) * half
        pen.rectangle([0.05 * half, top, 1.95 * half, top + 0.27 * half], fill=255)


def _checkers(pen: Pen, half: float) -> None:
    side = half / 2
    for row in range(4):
        for column in range(4):
            if (row + column) % 2 == 0:
                pen.rectangle([column * side, row * side, (column + 1) * side - 1, (row + 1) * side - 1], fill=255)


SHAPES: dict[str, Callable[[Pen, float], None]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _polygon([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),
    "triangle": _polygon(_regular(3)),
    "star": _polygon(_regular(5, 0.42)),
    "plus": _polygon(
        [
            (sx * x, sy * y)
            for sx, sy, order in ((1, -1, 1), (1, 1, -1), (-1, 1, 1), (-1, -1, -1))
            for x, y in [(0.3, 0.95), (0.3, 0.3), (0.95, 0.3)][::order]
        ]
    ),
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _polygon([(-1, -0.28), (0.1, -0.28), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.28), (-1, 0.28)]),
    "spiral": _spiral,
    "stripes": _stripes,
    "checkers": _checkers,
}
"""How each is drawn into a square of twice `half` pixels, in the order of the labels."""
LABELS = tuple(SHAPES)


def draw(label: int, random: np.random.Generator) -> NDArray[np.float32]:
    """One picture [3, 48, 48]: size, place, turn, both colours and some noise are drawn."""
    size = IMAGE_SIZE * SUPERSAMPLING
    side = round(size * random.uniform(0.55, 0.85))
    stamp = Image.new("L", (side, side))
    SHAPES[LABELS[label]](ImageDraw.Draw(stamp), side / 2)
    stamp = stamp.rotate(random.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)
    room = max(size - stamp.width, 0)
    left, top = (round(room / 2 + random.uniform(-0.5, 0.5) * min(room, 0.15 * size)) for _ in range(2))
    canvas = Image.new("L", (size, size))
    canvas.paste(stamp, (left, top))
    mask = np.asarray(canvas.filter(ImageFilter.GaussianBlur(1)).resize((IMAGE_SIZE,) * 2, Image.Resampling.BOX), np.float32)
    mask = mask / 255
    while True:
        ground, figure = random.uniform(0, 1, (2, 3, 1, 1)).astype(np.float32)
        if abs(float(ground.mean() - figure.mean())) >= CONTRAST:
            break
    right, down = random.uniform(-0.15, 0.15, (2, 1)) * np.linspace(-1, 1, IMAGE_SIZE)
    light = (down[:, None] + right).astype(np.float32)
    noise = random.normal(0, random.uniform(0, 0.06), (3, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)
    return (ground + (figure - ground) * mask + light + noise).clip(0, 1)


def generate(count: int, seed: int) -> Shapes:
    """So many pictures, as many of each shape."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(LABELS)
    return Shapes(np.stack([draw(int(label), random) for label in labels]).astype(np.float32), labels.astype(np.int64))


def load(seed: int = 0) -> tuple[Shapes, Shapes]:
    """A training set of 4800 and a test set of 1200."""
    return generate(4800, 2 * seed), generate(1200, 2 * seed + 1)
