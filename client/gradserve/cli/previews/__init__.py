"""The latest images of ascents, drawn in the terminal while they change.

    previews.Strip(runs, width, height, previews.drawer("auto", console))

A drawer is one way to draw: half blocks, which every terminal with 24-bit colours can show, or one of three protocols for
pictures. These are a few lines each, written here because no library fits: term-image asks for a Pillow before 11;
textual-image asks the terminal when it is imported and writes kitty's pictures to standard output, which is for results.
"""

from gradserve.cli.previews.drawing import Drawer
from gradserve.cli.previews.strip import Strip
from gradserve.cli.previews.terminals import AUTO, DRAWERS, drawer

__all__ = ["AUTO", "DRAWERS", "Drawer", "Strip", "drawer"]
