"""Published procedures that are more than one ascent. Each takes a client or an engine, and is an iterator of reports."""

from gradserve.recipes.deepdream import Dream, deepdream

__all__ = ["Dream", "deepdream"]
