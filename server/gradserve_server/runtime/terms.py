"""Objectives on a model: with the names that its graph has for their layers, and what its graphs are fed for them."""

from collections.abc import Mapping, Sequence

from gradserve.errors import InvalidObjective
from gradserve.objectives import Objective
from gradserve_server.graph.derivatives import Product, Wanted
from gradserve_server.graph.objectives import Terms, Weights, heads
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.questions import Question
from gradserve_server.runtime.session import Array


def resolved(model: Model, objective: Objective) -> Terms:
    """The terms of an objective.

    Raises:
        UnknownLayer: The model has no such layer.
        InvalidObjective: No term is on a layer.
    """
    return Terms.of(objective, model.resolve)


def asked(
    model: Model, objective: Objective, feeds: Mapping[str, Array], wrt: Sequence[str], product: Product = Product.VJP
) -> Question:
    """What an objective outside an ascent asks of a model; the same as the last time, if it was asked before.

    Args:
        model: Is asked.
        objective: What is differentiated.
        feeds: The model's inputs, checked.
        wrt: With respect to what; to all that matters, if nothing is named.
        product: What is made of the derivative.

    Raises:
        UnknownLayer: The model has no such layer.
        UnknownInput: A name in `wrt` that is neither an input nor a layer.
        NotDifferentiable: No float input reaches any of the layers.
        InvalidObjective: A term does not fit its layer, or is none outside an ascent.
        TooLarge: It has too many parts, or too large ones.
    """

    def make() -> Question:
        terms = resolved(model, objective)
        if product is Product.VJP:
            terms.check_constant()
        else:
            terms.check_graph("a Hessian-vector product")
        starts = model.wrt(wrt, terms.layers)
        wanted = Wanted(starts, heads(terms.of_layers), product)
        return Question(terms, wanted, weights_of(model, terms, feeds, starts[0]).all())

    if not isinstance(objective, Objective):
        return make()  # which says what is wrong with it
    said = tuple((scale, type(term), *vars(term).values()) for scale, term in objective.terms)
    shapes = tuple(array.shape for array in feeds.values())
    return model.questions.get((said, shapes, tuple(wrt), product), make)


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
