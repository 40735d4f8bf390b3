"""What ascents have made, as files: `write("seven.png", [run])`. The ending of the file says what it is."""

from collections.abc import Callable, Sequence
from pathlib import Path

from gradserve import images
from gradserve.descriptions import TensorDescription
from gradserve.errors import InvalidParameter, InvalidTensor
from gradserve.outputs import films, numbers, plots, stills
from gradserve.outputs.style import Style
from gradserve.runs import Run

__all__ = ["ENDINGS", "FILMS", "PICTURES", "Style", "check", "write"]

PICTURES = tuple(images.FORMATS)
"""Endings of a picture, or a contact sheet of several. With `Style.film`, .webp moves, and the others show every frame."""

FILMS = (".gif", ".mp4")
"""Endings of what moves in any case."""

_SHOWN = (*PICTURES, *FILMS)

ENDINGS: dict[str, Callable[[Path, Sequence[Run], Style], None]] = {
    **dict.fromkeys(PICTURES, stills.write),
    ".webp": lambda path, runs, style: (films.write if style.film else stills.write)(path, runs, style),
    ".gif": films.write,
    ".mp4": films.write,
    ".npy": numbers.write_npy,
    ".npz": numbers.write_npz,
    ".csv": numbers.write_csv,
    ".svg": plots.write,
    ".pdf": plots.write,
}
"""Who writes a file: pictures; films; images as arrays (.npz: with every frame and value); values by step; their plot."""


def check(path: Path, tensor: TensorDescription) -> None:
    """Makes sure, before there is anything to write, that a file can be written.

    Raises:
        InvalidParameter: No such ending.
        InvalidTensor: A picture of something that is none.
        BackendMissing: A library is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        msg = f"output '{path}': expected a file name that ends in {', '.join(ENDINGS)}, got '{suffix}'"
        raise InvalidParameter(msg)
    if suffix in _SHOWN and not images.may_be_picture(tensor):
        msg = (
            f"output '{path}': input '{tensor.name}' {list(tensor.shape)} is no picture of 1 or 3 channels; "
            "write .npy, .npz or .csv"
        )
        raise InvalidTensor(msg)
    if suffix == ".mp4":
        films.encoder()
    if suffix in (".svg", ".pdf"):
        plots.figure()


def write(path: str | Path, runs: Sequence[Run], style: Style | None = None) -> None:
    """Writes what runs have made.

    Args:
        path: Its ending is one of `ENDINGS`.
        runs: Those that have ended.
        style: How pictures are laid out.

    Raises:
        InvalidParameter: No such ending.
        InvalidTensor: A picture of something that is none.
        BackendMissing: A library is missing.
    """
    path, style = Path(path), style or Style()
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        msg = f"output '{path}': expected a file name that ends in {', '.join(ENDINGS)}, got '{suffix}'"
        raise InvalidParameter(msg)
    ENDINGS[suffix](path, runs, style)
