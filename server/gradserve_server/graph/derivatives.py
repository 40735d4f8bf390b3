"""What can be asked of a model, and the graph that answers: cut, differentiated, with its objective in front.

| backend | made by | for |
|---|---|---|
| training | onnxruntime-training's builder, lowered | J^T v of inputs, where every operator on the path is verified |
| portable | our reverse walk | everything that the table in `autodiff.rules` covers |

`auto` takes the first where it is installed and can, else the second.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import onnx_ir as ir

from gradserve.errors import BackendMissing, UnsupportedGradient
from gradserve_server.graph.autodiff import ort_training, path
from gradserve_server.graph.autodiff.judge import Judge, PortableJudge
from gradserve_server.graph.autodiff.portable import build_hvp, build_jvp, build_vjp
from gradserve_server.graph.autodiff.training_ops import TrainingJudge
from gradserve_server.graph.inference_form.to_float32 import to_float32
from gradserve_server.graph.objectives import Head, append_heads
from gradserve_server.graph.subgraph import cut
from gradserve_server.graph.values import opset_of

_log = logging.getLogger(__name__)


TRAINING_BYTES = 256 * 2**20
"""Weights up to which `auto` uses the training backend: its builder takes and gives whole serialized models, at several
times their memory and never above protobuf's 2 GiB."""


class Backend(StrEnum):
    """Who makes a gradient."""

    AUTO = "auto"
    TRAINING = "training"
    PORTABLE = "portable"


class Product(StrEnum):
    """What is made of the derivative."""

    VJP = "vjp"
    """J^T v, or with heads the gradient of an objective."""
    JVP = "jvp"
    """J t."""
    HVP = "hvp"
    """H t of an objective."""


@dataclass(frozen=True)
class Wanted:
    """What a graph is made for. Everything else (indices, directions, cotangents) is an input of it."""

    wrt: tuple[str, ...]
    """Inputs, or layers; none where only the values of the targets are wanted."""
    targets: tuple[Head, ...] | tuple[str, ...]
    """Heads for an objective; names of layers otherwise."""
    product: Product = Product.VJP

    @property
    def layers(self) -> list[str]:
        """The layers where the graph is cut."""
        return list(dict.fromkeys(t.layer if isinstance(t, Head) else t for t in self.targets))

    @property
    def heads(self) -> list[Head]:
        """The parts of the objective."""
        return [target for target in self.targets if isinstance(target, Head)]


@dataclass(frozen=True)
class Choice:
    """Which backend, and why."""

    backend: Backend
    reason: str


@dataclass(frozen=True)
class Derived:
    """A graph that answers."""

    model: ir.Model
    choice: Choice


def derive(model: ir.Model, wanted: Wanted, backend: Backend = Backend.AUTO) -> Derived:
    """Makes the graph.

    Args:
        model: In inference form. Not changed.
        wanted: What for.
        backend: Who makes it.

    Raises:
        NotDifferentiable: A target does not depend on what is differentiated with respect to.
        UnsupportedGradient: Nodes on the way have no gradient; the text names them.
        BackendMissing: The training backend is asked for and not installed.
    """
    if not wanted.wrt:
        return Derived(cut(model, wanted.layers), Choice(backend, "no gradient is wanted"))
    choice = choose(model, wanted, backend)
    path.check(model, wanted.wrt, wanted.layers, judge_of(choice.backend, model))
    try:
        return Derived(_build(cut(model, wanted.layers), wanted, choice.backend), choice)
    except UnsupportedGradient as error:
        if backend is not Backend.AUTO or choice.backend is Backend.PORTABLE:
            raise
        _log.warning("the portable backend steps in: %s", error)
        instead = Choice(Backend.PORTABLE, f"{error}")
        path.check(model, wanted.wrt, wanted.layers, judge_of(instead.backend, model))
        return Derived(_build(cut(model, wanted.layers), wanted, instead.backend), instead)


def choose(model: ir.Model, wanted: Wanted, backend: Backend) -> Choice:
    """The backend for a request, with the reason."""
    if backend is not Backend.AUTO:
        _can(wanted, backend, model)
        return Choice(backend, "asked for")
    reason = _why_not_training(model, wanted)
    if reason is not None:
        return Choice(Backend.PORTABLE, reason)
    return Choice(Backend.TRAINING, "every operator on the path is on its verified list")


def judge_of(backend: Backend, model: ir.Model) -> Judge:
    """Who knows what a backend can differentiate."""
    return (TrainingJudge if backend is Backend.TRAINING else PortableJudge)(model, opset_of(model))


def _why_not_training(model: ir.Model, wanted: Wanted) -> str | None:
    reason = _never_by_training(model, wanted)
    if reason is None:
        reason = _not_here(model)
    if reason is not None:
        return reason
    reached = path.reach(model, wanted.wrt, judge_of(Backend.TRAINING, model)).problems
    values = ir.convenience.create_value_mapping(model.graph)
    problems = dict.fromkeys(problem for layer in wanted.layers for problem in reached.get(values[layer], ()))
    return "; ".join(problems) or None


def _not_here(model: ir.Model) -> str | None:
    if not ort_training.available():
        return "onnxruntime-training is not installed"
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    if weights > TRAINING_BYTES:
        return f"its weights take {weights / 2**20:.0f} MiB, and the training backend would copy them several times"
    return None


def _never_by_training(model: ir.Model, wanted: Wanted) -> str | None:
    if wanted.product is not Product.VJP:
        return f"the training backend makes no {wanted.product}"
    inputs = {value.name for value in model.graph.inputs}
    layers = [name for name in wanted.wrt if name not in inputs]
    return f"'{layers[0]}' is a layer, and the training backend differentiates inputs only" if layers else None


def _can(wanted: Wanted, backend: Backend, model: ir.Model) -> None:
    if backend is not Backend.TRAINING:
        return
    if (reason := _never_by_training(model, wanted)) is not None:
        raise UnsupportedGradient(reason)
    if not ort_training.available():
        msg = "gradients: expected the wheel onnxruntime-training; install gradserve-server[training]"
        raise BackendMissing(msg)


def _build(graph: ir.Model, wanted: Wanted, backend: Backend) -> ir.Model:
    to_float32(graph, interface=True)  # half numbers would lose the small ones of a gradient
    if wanted.product is Product.JVP:
        return build_jvp(graph, wanted.wrt)
    make = ort_training.build_vjp if backend is Backend.TRAINING else build_vjp
    model = make(graph, wanted.wrt)
    if wanted.heads:
        append_heads(model, wanted.heads)
    return build_hvp(model, wanted.wrt) if wanted.product is Product.HVP else model


def layer_backends(model: ir.Model, wrt: Sequence[str], backend: Backend) -> dict[ir.Value, tuple[Choice, tuple[str, ...]]]:
    """For each value that depends on `wrt`: the backend that a gradient of it would get, and what stands in its way."""
    portable = path.reach(model, wrt, judge_of(Backend.PORTABLE, model)).problems
    training = path.reach(model, wrt, judge_of(Backend.TRAINING, model)).problems
    not_here = _not_here(model)
    found = {}
    for value in portable:
        why_not = not_here or "; ".join(training.get(value, ()))
        if backend is Backend.AUTO:
            choice = (
                Choice(Backend.PORTABLE, why_not)
                if why_not
                else Choice(Backend.TRAINING, "every operator on the path is on its verified list")
            )
        else:
            choice = Choice(backend, "asked for")
        problems = training.get(value, ()) if choice.backend is Backend.TRAINING else portable[value]
        found[value] = (choice, problems)
    return found
