"""Pictures to pixels and back, as the model's `ImageDescription` says: its layout, channel order, range and size.

Pixels are one image without a batch axis, float32, in the described range, in the model's layout and channel order: what
`ascend` starts from and gives back. `ImageDescription.normalize` makes them the model input.

    pixels = load("seven.png", description, size=(28, 28))
    save("again.png", pixels, description)
"""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gradserve.descriptions import ImageDescription, TensorDescription
from gradserve.errors import InvalidTensor

__all__ = [
    "FORMATS",
    "VIEW_SIZE",
    "contact_sheet",
    "enlarge",
    "from_picture",
    "gradient_picture",
    "gradient_scale",
    "is_picture",
    "is_signed",
    "load",
    "may_be_picture",
    "opaque",
    "picture_axes",
    "picture_size",
    "save",
    "stored",
    "to_picture",
    "write",
]

Picture = Image.Image
Array = npt.NDArray[Any]

VIEW_SIZE = 224
"""Pictures smaller than this are enlarged for viewing."""

_MODES = {"GREY": "L", "RGB": "RGB", "BGR": "RGB"}
"""Pillow's mode of each channel order."""
_LEVELS = 255
_PLANES = (1, 3)
"""Numbers of channels that make a picture."""
_IMAGE_RANK = 3

# ---- pictures to pixels ----------------------------------------------------------------------------------------------


def load(path: str | Path, description: ImageDescription, size: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
    """A picture file as pixels; turned upright first if the camera says so. See `from_picture`.

    Raises:
        OSError: No such file, or not a picture.
    """
    with Image.open(path) as picture:
        return from_picture(ImageOps.exif_transpose(picture), description, size)


def from_picture(
    picture: Picture, description: ImageDescription, size: tuple[int, int] | None = None
) -> npt.NDArray[np.float32]:
    """A picture as pixels.

    Colours become grey, where the model wants that, by the luma of ITU-R 601; what is transparent is laid over white.
    A picture of another shape is cropped around its centre, then resized: a whole multiple of the size is averaged block
    by block (so that an enlarged picture comes back exactly), anything else is bicubic with antialiasing.

    Args:
        picture: In any mode.
        description: What the model takes.
        size: Height and width to make it; the picture's own by default.

    Returns:
        [C, H, W] or [H, W, C], as the description's layout has it.
    """
    flat = _fit(opaque(picture), size).convert(_MODES[description.channels])
    levels = np.atleast_3d(np.asarray(flat, np.float32))
    pixels = levels / np.float32(_LEVELS) * np.float32(description.high - description.low) + np.float32(description.low)
    if description.channels == "BGR":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels if description.layout == "NHWC" else pixels.transpose(2, 0, 1))


def opaque(picture: Picture) -> Picture:
    """A picture over white where it is transparent; grey stays grey, and 16 bits become 8."""
    if picture.mode.startswith("I"):  # 16 bits, which `convert` would clip
        return Image.fromarray((np.asarray(picture).astype(np.float64) / 257).round().clip(0, _LEVELS).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture if picture.mode == "L" else picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _fit(picture: Picture, size: tuple[int, int] | None) -> Picture:
    if size is None:
        return picture
    height, width = size
    scale = min(picture.width / width, picture.height / height)
    crop_width, crop_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (picture.width - crop_width) // 2, (picture.height - crop_height) // 2
    picture = picture.crop((left, top, left + crop_width, top + crop_height))
    if picture.size == (width * int(scale), height * int(scale)):
        return picture.reduce(int(scale))
    return picture.resize((width, height), Image.Resampling.BICUBIC)


# ---- pixels to pictures ----------------------------------------------------------------------------------------------


def to_picture(
    pixels: npt.ArrayLike,
    description: ImageDescription | None = None,
    *,
    stretch: bool = False,
    alpha: npt.ArrayLike | None = None,
) -> Picture:
    """Pixels as an 8-bit picture: `low` is black, `high` is white, what lies outside is clipped.

    Args:
        pixels: [C, H, W] or [H, W, C], as the description's layout has it.
        description: None where the model has none: then the layout is taken to be [C, H, W] and the picture stretched.
        stretch: Whether the smallest and largest pixel become black and white instead.
        alpha: How opaque each pixel is, 0 to 1, [H, W]; None makes an opaque picture.

    Raises:
        InvalidTensor: Not the rank or number of channels of a picture.
    """
    planes = _planes(pixels, description)
    if description is None or stretch:
        low, high = float(planes.min()), float(planes.max())
    else:
        low, high = description.low, description.high
    # All alike has no contrast to show: middle grey.
    shares = (planes - low) / (high - low) if high > low else np.full_like(planes, 0.5)
    levels = np.nan_to_num(shares * _LEVELS).round().clip(0, _LEVELS).astype(np.uint8)
    if description is not None and description.channels == "BGR":
        levels = levels[..., ::-1]
    picture = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else np.ascontiguousarray(levels))
    if alpha is not None:
        opacity = (np.asarray(alpha, np.float32) * _LEVELS).round().clip(0, _LEVELS).astype(np.uint8)
        picture.putalpha(Image.fromarray(opacity))
    return picture


def save(path: str | Path, pixels: npt.ArrayLike, description: ImageDescription | None = None) -> None:
    """Writes pixels as a picture file. See `to_picture` and `write`."""
    write(path, to_picture(pixels, description))


FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
    # Nothing else in the table changes a pixel; this loses as little as JPEG can without being as large as PNG.
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}
"""How pictures are written, by the ending of their file: Pillow's format and its settings."""


def write(path: str | Path, picture: Picture) -> None:
    """Writes a picture: by the table above, or as Pillow does where it has another ending."""
    path = Path(path)
    kind, settings = FORMATS.get(path.suffix.lower(), (None, {}))
    _storable(picture, kind).save(path, kind, **settings)


def stored(picture: Picture, suffix: str) -> Picture:
    """A picture as it is once it has been written to a file with that ending, and read."""
    kind, settings = FORMATS[suffix]
    file = io.BytesIO()
    _storable(picture, kind).save(file, kind, **settings)
    return Image.open(file)


def _storable(picture: Picture, kind: str | None) -> Picture:
    return opaque(picture) if kind == "JPEG" else picture  # which knows no transparency


def is_picture(shape: Sequence[Any], description: ImageDescription | None = None) -> bool:
    """Whether arrays of that shape, without the batch axis, can be shown: three axes, one of 1 or 3 channels."""
    if len(shape) != _IMAGE_RANK:
        return False
    return shape[2 if description is not None and description.layout == "NHWC" else 0] in _PLANES


def may_be_picture(tensor: TensorDescription) -> bool:
    """Whether images of a model input can be shown: a size that the model leaves open may be right."""
    shape = [size if isinstance(size, int) else _PLANES[0] for size in tensor.shape[1:]]
    return is_picture(shape, tensor.image)


def picture_axes(tensor: TensorDescription) -> tuple[int, int]:
    """Which axes of a model input are rows and columns.

    Raises:
        InvalidTensor: It takes no images.
    """
    if len(tensor.shape) != 1 + _IMAGE_RANK:
        msg = f"input '{tensor.name}': expected one that takes images, [N,C,H,W] or [N,H,W,C], got {list(tensor.shape)}"
        raise InvalidTensor(msg)
    return (1, 2) if tensor.image is not None and tensor.image.layout == "NHWC" else (2, 3)


def picture_size(tensor: TensorDescription) -> tuple[int, int] | None:
    """The height and width of a described model input; None where the model leaves one of them open.

    Raises:
        InvalidTensor: It takes no images.
    """
    height, width = (tensor.shape[axis] for axis in picture_axes(tensor))
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _planes(pixels: npt.ArrayLike, description: ImageDescription | None) -> npt.NDArray[np.float64]:
    """[H, W, C]."""
    array = np.asarray(pixels, np.float64)
    if not is_picture(array.shape, description):
        layout = "[H, W, C]" if description is not None and description.layout == "NHWC" else "[C, H, W]"
        msg = f"picture: expected {layout} with 1 or 3 channels, got {list(array.shape)}"
        raise InvalidTensor(msg)
    return array if description is not None and description.layout == "NHWC" else array.transpose(1, 2, 0)


# ---- gradients -------------------------------------------------------------------------------------------------------

_SIGNED = ("#053061", "#2166ac", "#4393c3", "#92c5de", "#ffffff", "#f4a582", "#d6604d", "#b2182b", "#67001f")
"""-1 to 1, with 0 white: blue lowers the objective, red raises it (ColorBrewer's RdBu)."""
_MAGNITUDE = ("#ffffff", "#dadaeb", "#9e9ac8", "#6a51a3", "#3f007d", "#1b0036")
"""0 to 1, from white to near black (ColorBrewer's Purples)."""


def is_signed(gradient: npt.ArrayLike, description: ImageDescription | None = None) -> bool:
    """Whether `gradient_picture` shows signs: there is one channel."""
    return bool(_planes(gradient, description).shape[-1] == 1)


def gradient_scale(gradient: npt.ArrayLike) -> float:
    """The magnitude that has the fullest colour in `gradient_picture`: the largest."""
    return float(np.abs(np.asarray(gradient, np.float64)).max(initial=0.0))


def gradient_picture(
    gradient: npt.ArrayLike, description: ImageDescription | None = None, *, scale: float | None = None
) -> Picture:
    """The gradient of one image as a picture, with 0 as white.

    One channel is signed: red where brighter raises the objective, blue where brighter lowers it. Of several channels each
    pixel shows the largest magnitude, in purple.

    Args:
        gradient: [C, H, W] or [H, W, C], as the description's layout has it.
        description: Of the input; None means [C, H, W].
        scale: The magnitude that has the fullest colour; by default `gradient_scale(gradient)`.
    """
    planes = _planes(gradient, description)
    scale = gradient_scale(planes) if scale is None else scale
    shares = np.nan_to_num(planes / scale if scale > 0 else np.zeros_like(planes))
    if planes.shape[-1] == 1:
        return _coloured(shares[..., 0], _SIGNED, low=-1.0)
    return _coloured(np.abs(shares).max(axis=-1), _MAGNITUDE, low=0.0)


def _coloured(values: npt.NDArray[np.float64], stops: Sequence[str], *, low: float) -> Picture:
    colours = np.array([list(bytes.fromhex(stop[1:])) for stop in stops], np.float64)
    positions = np.linspace(low, 1.0, len(stops))
    channels = [np.interp(values, positions, colours[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


# ---- for viewing -----------------------------------------------------------------------------------------------------

_GAP = 12
_FONT_SIZE = 13
_LINE_HEIGHT = 17
_INK, _FRAME, _PAPER = "#333333", "#cccccc", "#ffffff"


def enlarge(picture: Picture, factor: int | None = None) -> Picture:
    """A small picture with each pixel as a square of `factor` pixels; by default as large as `VIEW_SIZE` allows."""
    factor = max(1, VIEW_SIZE // max(picture.size)) if factor is None else factor
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def contact_sheet(tiles: Sequence[tuple[Picture, str] | None], columns: int | None = None) -> Picture:
    """Pictures in a grid, row by row, each with its caption below.

    Args:
        tiles: Pictures and captions; None leaves a gap. A caption may have several lines; a line wider than its picture is
            shortened.
        columns: By default as many as make the grid about square and leave the fewest gaps.
    """
    shown = [tile for tile in tiles if tile is not None]
    if not shown:
        msg = "contact sheet: expected at least one picture, got none"
        raise ValueError(msg)
    columns = _columns(len(tiles)) if columns is None else columns
    rows = math.ceil(len(tiles) / columns)
    width = max(picture.width for picture, _ in shown)
    height = max(picture.height for picture, _ in shown)
    lines = max(len(caption.splitlines()) for _, caption in shown)
    pitch_x, pitch_y = width + _GAP, height + _GAP + lines * _LINE_HEIGHT
    sheet = Image.new("RGB", (columns * pitch_x + _GAP, rows * pitch_y + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for index, tile in enumerate(tiles):
        if tile is None:
            continue
        picture, caption = tile
        left, top = _GAP + index % columns * pitch_x, _GAP + index // columns * pitch_y
        x, y = left + (width - picture.width) // 2, top + (height - picture.height) // 2
        draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=_FRAME)
        sheet.paste(opaque(picture).convert("RGB"), (x, y))
        for number, line in enumerate(caption.splitlines()):
            text = _shortened(line, lambda text: draw.textlength(text, font) <= width)
            draw.text((left + width / 2, top + height + 4 + number * _LINE_HEIGHT), text, fill=_INK, font=font, anchor="ma")
    return sheet


def _columns(count: int) -> int:
    square = math.sqrt(count)
    return min(range(math.ceil(square), math.ceil(1.6 * square) + 1), key=lambda columns: (-count % columns, columns))


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as much of its two ends as fits around an ellipsis: names differ in either."""
    if fits(text):
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if fits(short):
            return short
    return "…"
