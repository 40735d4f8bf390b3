"""Objectives, with the names that a model's graph has for their layers."""

from dataclasses import replace

from gradserve.objectives import Objective, Term, terms_of
from gradserve_server.runtime.model import Model


def resolved(model: Model, objective: Objective) -> list[tuple[float, Term]]:
    """The terms of an objective, each with the layer's name as the graph has it.

    Raises:
        UnknownLayer: The model has no such layer.
    """
    return [(scale, replace(term, layer=model.resolve(term.layer))) for scale, term in terms_of(objective)]
