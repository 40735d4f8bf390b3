"""Objectives on a model: with the names that its graph has for their layers, and what its graphs are fed for them."""

from collections.abc import Mapping

from gradserve.errors import InvalidObjective
from gradserve.objectives import Objective
from gradserve_server.graph.objectives import Terms, Weights
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.session import Array


def resolved(model: Model, objective: Objective) -> Terms:
    """The terms of an objective.

    Raises:
        UnknownLayer: The model has no such layer.
        InvalidObjective: No term is on a layer.
    """
    return Terms.of(objective, model.resolve)


def weights_of(model: Model, terms: Terms, feeds: Mapping[str, Array], wrt: str) -> Weights:
    """The run-time inputs of the objective, for layers that have one entry for each sample of the input `wrt`.

    Raises:
        InvalidObjective: A term does not fit its layer.
    """
    shapes = model.layer_shapes(terms.layers, dict(feeds))
    samples = (feeds[wrt].shape if wrt in feeds else model.layer_shapes([wrt], dict(feeds))[wrt])[:1]
    for layer, shape in shapes.items():
        if not samples or shape[:1] != samples:
            expected = f"{samples[0]} along axis 0, one for each sample" if samples else "an input with a batch axis"
            msg = f"layer '{layer}': expected {expected}, got shape {list(shape)}"
            raise InvalidObjective(msg)
    return Weights(terms.of_layers, shapes, {layer: model.dtype(layer) for layer in shapes})


def rewrite(fed: Mapping[str, Array], weights: Mapping[str, Array]) -> None:
    """Puts other weights into the arrays that a run reads."""
    for name, array in weights.items():
        fed[name][...] = array
