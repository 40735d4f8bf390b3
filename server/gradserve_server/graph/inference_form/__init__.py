"""Inference form: the same predictions, and nothing in the graph that a training run would change.

Two stages, so that the second can be checked against the first by running both:

1. *Switch*: what the file left in training form is put into inference form (`switch_mode`), or refused.
2. *Rewrite*: constants lifted, Dropout and Identity gone, BatchNormalization folded or made one Mul and one Add.
   No output may change by more than rounding.
"""

from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    RemoveUnusedNodesPass,
)

from gradserve.errors import InvalidModel
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.inference_form.drop_identities import drop_identities
from gradserve_server.graph.inference_form.fold_batchnorm import fold_batchnorm
from gradserve_server.graph.inference_form.switch_mode import switch_mode

__all__ = ["InferenceForm", "Renames", "to_inference_form"]


@dataclass
class Renames:
    """What became of tensor names that the rewriting took away."""

    same: dict[str, str] = field(default_factory=dict)
    """Removed name -> the name left that holds the same value."""
    folded: dict[str, str] = field(default_factory=dict)
    """Removed name -> the nearest name left; its value is another."""


@dataclass(frozen=True)
class InferenceForm:
    """A model in both stages."""

    reference: ir.Model
    """Stage 1: the predictions that stage 2 must reproduce."""
    model: ir.Model
    """Stage 2: what is served."""
    renames: Renames
    rewrites: tuple[str, ...]
    """What was changed, in words."""


def to_inference_form(source: ir.Model) -> InferenceForm:
    """Puts a model into inference form. The source is not changed.

    Raises:
        InvalidModel: A node is in training form and cannot be switched, or the graph makes no sense; the text says why.
    """
    try:
        return _rewritten(source)
    except InvalidModel:
        raise
    except Exception as error:  # a broken graph breaks a pass anywhere, each with an exception of its own
        msg = f"expected a graph that can be put into inference form, got {type(error).__name__}: {error}"
        raise InvalidModel(msg) from error


def _rewritten(source: ir.Model) -> InferenceForm:
    reference = source.clone()
    # Lifting first, because switching must see whether a mode or a statistic is a constant.
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(reference)
    # Subgraphs are copied to differentiate them; what they hold is not.
    LiftSubgraphInitializersToMainGraphPass()(reference)
    rewrites = switch_mode(reference)
    infer_shapes(reference)
    model = reference.clone()
    renames = Renames()
    rewrites += drop_identities(model, renames.same)
    rewrites += fold_batchnorm(model, renames.folded)
    RemoveUnusedNodesPass()(model)
    infer_shapes(model)
    return InferenceForm(reference, model, renames, tuple(rewrites))
