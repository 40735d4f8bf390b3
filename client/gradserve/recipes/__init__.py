"""Published procedures that are more than one ascent, or need something before it. Each takes a client or an engine."""

from gradserve.recipes.deepdream import Dream, deepdream
from gradserve.recipes.photographs import caricature, inversion

__all__ = ["Dream", "caricature", "deepdream", "inversion"]
