"""What ascents looked like on their way: GIF and WebP by Pillow, MP4 by ffmpeg."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradserve import images
from gradserve.errors import BackendMissing
from gradserve.outputs import stills
from gradserve.outputs.style import Style
from gradserve.runs import Run

__all__ = ["encoder", "write"]

_LAST_SECONDS = 2.0
"""How long the last frame stays, before it all begins again."""


def write(path: Path, runs: Sequence[Run], style: Style) -> None:
    """Writes an animation: each frame is a picture or a contact sheet. A run that ended early stays as it is."""
    frames = list(_frames(runs, style))
    if path.suffix.lower() == ".mp4":
        _write_mp4(path, frames, style)
        return
    each = round(1000 / style.frames_per_second)
    durations = [each] * (len(frames) - 1) + [round(1000 * _LAST_SECONDS)]
    quality: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **quality)


def encoder() -> Any:
    """The module `imageio_ffmpeg`.

    Raises:
        BackendMissing: It is not installed.
    """
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        msg = 'an .mp4 file needs imageio-ffmpeg: pip install "gradserve[video]"; .gif and .webp need nothing'
        raise BackendMissing(msg) from error
    return imageio_ffmpeg


def _frames(runs: Sequence[Run], style: Style) -> Iterator[images.Picture]:
    for number in range(max(len(run.frames) for run in runs)):
        rows = [
            [run.tile(index, run.frames[min(number, len(run.frames) - 1)], style.zoom)]
            for run in runs
            for index in range(run.count)
        ]
        yield images.opaque(stills.laid_out(rows, runs, style)).convert("RGB")


def _write_mp4(path: Path, frames: Sequence[images.Picture], style: Style) -> None:
    """H.264, whose colours are stored for blocks of 2 x 2 pixels: what is odd gets one more white row or column."""
    height, width = (size + size % 2 for size in (frames[0].height, frames[0].width))
    shown = np.full((len(frames), height, width, 3), 255, np.uint8)
    for levels, frame in zip(shown, frames, strict=True):
        levels[: frame.height, : frame.width] = np.asarray(frame)
    held = np.repeat(shown[-1:], round(_LAST_SECONDS * style.frames_per_second), axis=0)
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {style.frames_per_second} -i -"
    coded = "-c:v libx264 -pix_fmt yuv420p -crf 16"
    command = [encoder().get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw.split(), *coded.split(), str(path)]
    done = subprocess.run(command, input=shown.tobytes() + held.tobytes(), capture_output=True, check=False)
    if done.returncode:
        msg = f"{path}: ffmpeg ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
        raise OSError(msg)
