"""What the commands say: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 160
"""Columns of a table that goes to a file or another program."""


def show(*parts: RenderableType) -> None:
    """Prints a result; without colours and trailing blanks where it goes to a file or another program."""
    out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    if out.is_terminal:
        out.print(*parts, sep="\n")
        return
    with out.capture() as text:
        out.print(*parts, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.get().splitlines()))


def progress() -> Console:
    """Standard error, as it is now."""
    return Console(stderr=True, highlight=False, markup=False)


def note(text: str) -> None:
    """One line that is no result."""
    progress().print(Text(f"gradserve: {text}", style="dim"), soft_wrap=True)


def fail(text: str) -> None:
    """One line that says what went wrong."""
    line = Text.assemble(("gradserve: error: ", "bold red"), " ".join(text.split()))
    progress().print(line, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> Table:
    """A table; the columns named in `right` hold numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell if isinstance(cell, str) else number(cell)) for cell in row))
    return made


def number(value: float | None) -> str:
    """Whole numbers in full, others with five digits."""
    if value is None:
        return ""
    return str(value) if isinstance(value, (int, np.integer)) else f"{value:.5g}"


def shape(sizes: Sequence[int | str | None]) -> str:
    """As in [N,1,28,28]; ? is unknown."""
    return f"[{','.join('?' if size is None else str(size) for size in sizes)}]"


def print_json(value: Any) -> None:
    """One JSON document. What JSON has no word for (NaN, infinity) becomes null."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
