"""How pictures are laid out."""

from dataclasses import dataclass

__all__ = ["Style"]


@dataclass(frozen=True)
class Style:
    """How pictures are laid out."""

    zoom: int | None = None
    """Each pixel as so many, each way; by default as many as `images.VIEW_SIZE` allows."""
    columns: int | None = None
    """Of a contact sheet; by default what suits."""
    film: bool = False
    """Whether every frame is shown: side by side, or where the file can, one after the other."""
    frames_per_second: float = 12.0
    """Of what moves."""
