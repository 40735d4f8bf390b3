"""Inference form: the same predictions, and nothing in the graph that a training run would change.

Two stages, so that the second can be checked against the first by running both:

1. *Switch*: what the file left in training form is put into inference form (`switch_mode`), or refused; an opset that the
   runtime does not load is lowered, and the operator Gradient expanded, for without that nothing runs; integers are divided
   by 0 without a crash (`guard_integer_division`).
2. *Rewrite*: constants lifted, Dropout and Identity gone, BatchNormalization folded or made one Mul and one Add, an opset
   without gradient rules raised. No output may change by more than rounding.
"""

from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    RemoveUnusedNodesPass,
)

from gradserve.errors import GradserveError, InvalidModel
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.inference_form.convert_opset import CannotConvert, convert_opset
from gradserve_server.graph.inference_form.drop_identities import drop_identities
from gradserve_server.graph.inference_form.expand_gradient import expand_gradient, has_gradient
from gradserve_server.graph.inference_form.fold_batchnorm import fold_batchnorm
from gradserve_server.graph.inference_form.fold_integers import fold_integers
from gradserve_server.graph.inference_form.guard_integer_division import guard_integer_division
from gradserve_server.graph.inference_form.loop_shapes import loop_shapes
from gradserve_server.graph.inference_form.switch_mode import switch_mode
from gradserve_server.graph.values import opset_of

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


def to_inference_form(source: ir.Model, newest_opset: int | None = None) -> InferenceForm:
    """Puts a model into inference form.

    Args:
        source: Not changed.
        newest_opset: The newest that the runtime loads; None for no limit.

    Raises:
        InvalidModel: A node is in training form and cannot be switched, the runtime's opset cannot express it, or the graph
            makes no sense; the text says why.
        UnsupportedGradient: An operator Gradient asks for what has none.
    """
    try:
        return _rewritten(source, newest_opset)
    except GradserveError:
        raise
    except Exception as error:  # a broken graph breaks a pass anywhere, each with an exception of its own
        msg = f"expected a graph that can be put into inference form, got {type(error).__name__}: {error}"
        raise InvalidModel(msg) from error


def _rewritten(source: ir.Model, newest_opset: int | None) -> InferenceForm:
    reference = source.clone()
    # Lifting first, because switching must see whether a mode or a statistic is a constant.
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(reference)
    # Subgraphs are copied to differentiate them; what they hold is not.
    LiftSubgraphInitializersToMainGraphPass()(reference)
    rewrites = switch_mode(reference)
    infer_shapes(reference)
    if newest_opset is not None and opset_of(reference) > newest_opset:
        rewrites += _lowered(reference, newest_opset)
    if has_gradient(reference):
        rewrites += _raised(reference)
        rewrites += expand_gradient(reference)
    rewrites += _guarded(reference)
    model = reference.clone()
    renames = Renames()
    rewrites += drop_identities(model, renames.same)
    rewrites += fold_batchnorm(model, renames.folded)
    rewrites += _raised(model)
    rewrites += fold_integers(model)
    RemoveUnusedNodesPass()(model)
    loop_shapes(model)
    infer_shapes(model)
    return InferenceForm(reference, model, renames, tuple(rewrites))


def _lowered(model: ir.Model, newest: int) -> list[str]:
    try:
        done = convert_opset(model, newest=newest)
    except CannotConvert as error:
        msg = f"expected a model for opset {newest}, the newest of the installed onnxruntime, or older: {error}"
        raise InvalidModel(msg) from error
    infer_shapes(model)
    return done


def _guarded(model: ir.Model) -> list[str]:
    if done := guard_integer_division(model):
        infer_shapes(model)
    return done


def _raised(model: ir.Model) -> list[str]:
    try:
        done = convert_opset(model)
    except CannotConvert as error:
        return [f"kept opset {opset_of(model)}, for which there are no gradients: {error}"]
    if done:
        infer_shapes(model)
    return done
