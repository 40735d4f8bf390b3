"""Objectives, as the command line names them."""

from collections.abc import Sequence

from gradserve import Objective, objectives
from gradserve.cli.backend import Verbs


def parse(verbs: Verbs, model: str, version: str, texts: Sequence[str]) -> list[Objective]:
    """The objectives of a model that texts name. See `gradserve.objectives.parse`."""
    ranks = {layer.name: len(layer.shape) for layer in verbs.layers(model, version=version) if layer.shape}
    return [_parse(text, ranks) for text in texts]


def _parse(text: str, ranks: dict[str, int]) -> Objective:
    objective = objectives.parse(text, ranks)
    ((_, term),) = objective.terms
    if isinstance(term, objectives.Unit) and term.layer not in ranks:
        # Of unknown rank, or a name from before the model was rewritten. A channel is right for both: of a layer [N, K] it
        # is the unit.
        return objectives.channel(term.layer, term.index)
    return objective
