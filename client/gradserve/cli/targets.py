"""Objectives, as the command line names them."""

from collections.abc import Sequence

from gradserve import Objective, objectives
from gradserve.cli.backend import Verbs


def parse(verbs: Verbs, model: str, version: str, texts: Sequence[str]) -> list[Objective]:
    """The objectives of a model that texts name. See `gradserve.objectives.parse`."""
    ranks = {layer.name: len(layer.shape) for layer in verbs.layers(model, version=version) if layer.shape}
    return [objectives.parse(text, ranks) for text in texts]
