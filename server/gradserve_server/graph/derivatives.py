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
from typing import NamedTuple

import onnx_ir as ir

from gradserve.errors import BackendMissing, UnsupportedGradient
from gradserve_server.graph.autodiff import ort_training, path
from gradserve_server.graph.autodiff.judge import Judge, PortableJudge
from gradserve_server.graph.autodiff.portable import build_hvp, build_jvp, build_vjp
from gradserve_server.graph.autodiff.training_ops import TrainingJudge
from gradserve_server.graph.dense_convolutions import to_products
from gradserve_server.graph.early_selections import select_early
from gradserve_server.graph.inference_form.to_float32 import to_float32
from gradserve_server.graph.objectives import Head, append_heads
from gradserve_server.graph.subgraph import cut
from gradserve_server.graph.values import opset_of

_log = logging.getLogger(__name__)


class Backend(StrEnum):
    """Who makes a gradient."""

    AUTO = "auto"
    TRAINING = "training"
    PORTABLE = "portable"


@dataclass(frozen=True)
class Policy:
    """How gradients are made, whatever the request."""

    backend: Backend = Backend.AUTO
    straight_through: bool = False
    """Quantization passes derivatives as if it rounded nothing; otherwise it has none, and is refused."""


DEFAULT_POLICY = Policy()


class Product(StrEnum):
    """What is made of the derivative."""

    VJP = "vjp"
    """J^T v, or with heads the gradient of an objective."""
    JVP = "jvp"
    """J t."""
    HVP = "hvp"
    """H t of an objective."""


class Wanted(NamedTuple):
    """What a graph is made for. Everything else (indices, directions, cotangents) is an input of it."""

    wrt: tuple[str, ...]
    """Inputs, or layers; none where only the values of the targets are wanted."""
    targets: tuple[Head, ...] | tuple[str, ...]
    """Heads for an objective; names of layers otherwise."""
    product: Product = Product.VJP
    redirect_relu: bool = False
    """Whether activations that would block the whole gradient of a sample redirect it (`autodiff.redirected`)."""

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


def derive(model: ir.Model, wanted: Wanted, policy: Policy = DEFAULT_POLICY) -> Derived:
    """Makes the graph.

    Args:
        model: In inference form. Not changed.
        wanted: What for.
        policy: How.

    Raises:
        NotDifferentiable: A target does not depend on what is differentiated with respect to.
        UnsupportedGradient: Nodes on the way have no gradient; the text names them.
        BackendMissing: The training backend is asked for and not installed.
    """
    if not wanted.wrt:
        return Derived(cut(model, wanted.layers), Choice(policy.backend, "no gradient is wanted"))
    choice = choose(model, wanted, policy)
    path.check(model, wanted.wrt, wanted.layers, _judge(choice.backend, model, policy))
    try:
        return Derived(_build(cut(model, wanted.layers), wanted, choice.backend, policy), choice)
    except UnsupportedGradient as error:
        if policy.backend is not Backend.AUTO or choice.backend is Backend.PORTABLE:
            raise
        _log.warning("the portable backend steps in: %s", error)
        instead = Choice(Backend.PORTABLE, f"{error}")
        path.check(model, wanted.wrt, wanted.layers, _judge(instead.backend, model, policy))
        return Derived(_build(cut(model, wanted.layers), wanted, instead.backend, policy), instead)


def choose(model: ir.Model, wanted: Wanted, policy: Policy) -> Choice:
    """The backend for a request, with the reason."""
    if wanted.redirect_relu:
        return Choice(Backend.PORTABLE, "gradients are redirected")
    if policy.backend is not Backend.AUTO:
        _can(wanted, policy.backend, model)
        return Choice(policy.backend, "asked for")
    reason = _why_not_training(model, wanted)
    if reason is not None:
        return Choice(Backend.PORTABLE, reason)
    return Choice(Backend.TRAINING, "every operator on the path is on its verified list")


def _judge(backend: Backend, model: ir.Model, policy: Policy) -> Judge:
    """Who knows what a backend can differentiate."""
    if backend is Backend.TRAINING:
        return TrainingJudge(model, opset_of(model))
    return PortableJudge(model, opset_of(model), straight_through=policy.straight_through)


def _why_not_training(model: ir.Model, wanted: Wanted) -> str | None:
    reason = _never_by_training(model, wanted) or _not_here()
    if reason is not None:
        return reason
    reached = path.reach(model, wanted.wrt, TrainingJudge(model, opset_of(model))).problems
    values = ir.convenience.create_value_mapping(model.graph)
    problems = dict.fromkeys(problem for layer in wanted.layers for problem in reached.get(values[layer], ()))
    return "; ".join(problems) or None


def _not_here() -> str | None:
    return None if ort_training.available() else "onnxruntime-training is not installed"


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


def _build(graph: ir.Model, wanted: Wanted, backend: Backend, policy: Policy) -> ir.Model:
    to_float32(graph, interface=True)  # half numbers would lose the small ones of a gradient
    select_early(graph, wanted.wrt)
    to_products(graph)
    if wanted.product is Product.JVP:
        return build_jvp(graph, wanted.wrt, straight_through=policy.straight_through)
    if backend is Backend.TRAINING:
        model = ort_training.build_vjp(graph, wanted.wrt)
    else:
        redirect = wanted.redirect_relu
        model = build_vjp(graph, wanted.wrt, straight_through=policy.straight_through, redirect_relu=redirect)
    if wanted.heads:
        append_heads(model, wanted.heads)
    if wanted.product is Product.HVP:
        return build_hvp(model, wanted.wrt, straight_through=policy.straight_through)
    return model


def layer_backends(model: ir.Model, wrt: Sequence[str], policy: Policy) -> dict[ir.Value, tuple[Choice, tuple[str, ...]]]:
    """For each value that depends on `wrt`: the backend that a gradient of it would get, and what stands in its way."""
    portable = path.reach(model, wrt, _judge(Backend.PORTABLE, model, policy)).problems
    training = path.reach(model, wrt, _judge(Backend.TRAINING, model, policy)).problems
    not_here = _not_here()
    found = {}
    for value in portable:
        why_not = not_here or "; ".join(training.get(value, ()))
        if policy.backend is Backend.AUTO:
            choice = (
                Choice(Backend.PORTABLE, why_not)
                if why_not
                else Choice(Backend.TRAINING, "every operator on the path is on its verified list")
            )
        else:
            choice = Choice(policy.backend, "asked for")
        problems = training.get(value, ()) if choice.backend is Backend.TRAINING else portable[value]
        found[value] = (choice, problems)
    return found
