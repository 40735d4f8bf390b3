"""The command `gradserve`: serve a model, look into it, ask it for predictions, gradients and pictures."""

from gradserve.cli.app import main

__all__ = ["main"]
