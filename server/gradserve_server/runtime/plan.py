"""A plan: a graph made for one kind of request, with its session. Immutable, shared by all requests of that kind."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradserve.errors import UnsupportedGradient
from gradserve_server.graph.autodiff.names import gradient_name
from gradserve_server.graph.derivatives import Choice, Product, Wanted
from gradserve_server.graph.objectives import VALUE
from gradserve_server.runtime.batch import Batch
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.exchange import Exchange
from gradserve_server.runtime.runs import GraphRun, Steps
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.session import Array, Session
from gradserve_server.runtime.tensors import Tensor, place
from gradserve_server.runtime.work import NOTHING, Priority, Subject

HALVES = ("float16", "bfloat16")
_HALF_BYTES = 2


def verb_of(key: Wanted) -> str:
    """Which verb of the engine a plan is made for; an ascent's is that of a gradient."""
    if not key.wrt:
        return "activations"
    return "gradient" if key.product is Product.VJP and key.heads else str(key.product)


@dataclass(frozen=True)
class Plan:
    """A graph ready to run.

    `run` wants only the inputs that the graph kept; `inputs` names them.
    """

    key: Wanted
    session: Session
    inputs: frozenset[str]
    """Model inputs that the graph reads; a cut may need fewer than the model has."""
    choice: Choice
    """Who made its gradient, and why."""
    scheduler: Scheduler
    """Of the device that it runs on."""
    batch: Batch | None
    """How runs of different callers are joined; None where each runs alone."""
    subject: Subject = NOTHING
    """What its runs are about."""

    def run(
        self, feeds: Mapping[str, Array], extra: Mapping[str, Array] | None = None, caller: Caller = ANYONE
    ) -> dict[str, Array]:
        """Runs once, when its turn comes.

        Args:
            feeds: The model's inputs.
            extra: Weights or cotangents.
            caller: Who waits for it.
        """
        priority = Priority.GRADIENT if self.key.wrt else Priority.PREDICTION
        work = GraphRun(self.session, self.batch, self._needed(feeds) | dict(extra or {}), priority, caller, self.subject)
        results: dict[str, Array] = self.scheduler.run(work)
        return results

    def gradients(self, results: Mapping[str, Array], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The gradients among the results of a run, by input or layer.

        Raises:
            UnsupportedGradient: One has not the shape of its input: the builder has not undone a broadcast that only these
                sizes make.
        """
        gradients = {name: results[gradient_name(name)] for name in self.key.wrt}
        for name, gradient in gradients.items():
            if name in feeds and gradient.shape != feeds[name].shape:
                expected, got = list(feeds[name].shape), list(gradient.shape)
                msg = f"gradient of input '{name}': expected {expected}, got {got}: a broadcast that cannot be undone"
                raise UnsupportedGradient(msg)
        return gradients

    def bind(
        self,
        feeds: Mapping[str, Array],
        weights: Mapping[str, Array],
        values: npt.NDArray[np.float32],
        exchange: Exchange,
        caller: Caller = ANYONE,
        *,
        changing: bool = False,
    ) -> Steps:
        """Runs that write the objective's values and the gradient of the one input in `wrt`.

        Args:
            feeds: The model's inputs; that of the exchange takes the place of the one in `wrt`.
            weights: Weights or cotangents.
            values: The objective, [N], to be written.
            exchange: What else they read and write.
            caller: Who waits for them.
            changing: Whether the weights change between runs.
        """
        (wrt,) = self.key.wrt
        inputs = self._needed(feeds)
        needed: dict[str, Array | Tensor] = {**inputs, **weights}
        if (device := exchange.stays_on) is not None:
            fixed = inputs if changing else {**inputs, **weights}
            needed |= {name: place(array, device) for name, array in fixed.items() if name != wrt}
            needed[wrt] = exchange.batch
        results = {VALUE: values, gradient_name(wrt): exchange.gradient}
        subject = self.subject._replace(verb="ascend")
        return Steps(self.scheduler, self.session, self.batch, needed, results, caller, subject, exchange)

    def _needed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        # Gradients of half models are computed in float32 (`graph.derivatives`).
        widened = bool(self.key.wrt)
        return {
            name: array.astype(np.float32) if widened and _is_half(array) else array
            for name, array in feeds.items()
            if name in self.inputs
        }


def _is_half(array: Array) -> bool:
    return array.dtype.itemsize == _HALF_BYTES and array.dtype.name in HALVES
