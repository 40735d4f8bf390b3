"""Checks of gradients: there, finite, in agreement with differences of predictions, and without a trace."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gradserve.checks import check_gradient
from gradserve.diagnosis import Finding
from gradserve.errors import GradserveError, NotDifferentiable
from gradserve_server.graph.autodiff.names import cotangent_name, tangent_name
from gradserve_server.graph.derivatives import Product, Wanted
from gradserve_server.graph.doctor import finding
from gradserve_server.graph.doctor.interface import last_activation
from gradserve_server.runtime.doctor.patient import Patient
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.tensors import contiguous

OFF = 0.1
"""A relative difference from finite differences that no rounding makes, where these do not doubt themselves."""
DOUBTS = 5.0
"""And as many times their doubt."""
ADJOINT = 1e-2
"""The same of <J^T v, t> and <v, J t>, which have no step: only the rounding of float32."""


def gradients(patient: Patient) -> Iterator[Finding]:
    """What is wrong with gradients of the outputs (before a last softmax), and whether they leave a trace."""
    served, samples = patient.served, patient.samples
    if served is None or samples is None:
        return
    feeds = samples.first(2)
    before = served.weights_sha256(), served.predict(feeds, ())
    for layer in _targets(patient, served):
        yield from _gradient(served, layer, feeds)
    after = served.weights_sha256(), served.predict(feeds, ())
    if before[0] != after[0]:
        yield finding("impure", detail="the weights' hash")
    changed = [name for name, array in before[1].items() if array.tobytes() != after[1][name].tobytes()]
    again = served.predict(feeds, ())
    if changed and all(after[1][name].tobytes() == again[name].tobytes() for name in changed):
        yield finding("impure", detail=f"predictions: {', '.join(changed)}")


def _targets(patient: Patient, served: Model) -> list[str]:
    """The float outputs, or what goes into their last softmax, as far as they have gradients."""
    assert patient.subject.inference is not None
    found = []
    for output in patient.subject.inference.graph.outputs:
        squash = last_activation(output)
        value = squash.inputs[0] if squash is not None else output
        if value is not None and value.producer() is not None:
            found.append(value.name or "")
    able = {layer.name for layer in served.layers if layer.differentiable and layer.dtype.startswith("float")}
    return [name for name in dict.fromkeys(found) if name in able]


def _gradient(served: Model, layer: str, feeds: dict[str, Array]) -> Iterator[Finding]:
    verbs = _Verbs(served)
    try:
        value = verbs.activations("", feeds, [layer])[layer]
        cotangent = np.random.default_rng(0).normal(size=value.shape).astype(served.dtype(layer))
        _, found = verbs.vjp("", feeds, {layer: cotangent})
    except NotDifferentiable:  # by no float input: a text model, whose embeddings a request can name
        return
    except GradserveError as error:
        yield finding("op-without-gradient", layer, str(error))
        return
    for name, gradient in found.items():
        if np.isfinite(value).all() and not np.isfinite(gradient).all():
            yield finding("gradient-not-finite", name, f"of '{layer}'")
        elif gradient.size and not gradient.any():
            yield finding("gradient-zero", name, f"of '{layer}'")
    whole = all(np.isfinite(gradient).all() and gradient.any() for gradient in found.values())
    if not whole or any(feeds[name].dtype.name in ("float16", "bfloat16") for name in found):
        return  # half precision has no differences to speak of
    if not np.array_equal(value, verbs.activations("", feeds, [layer])[layer], equal_nan=True):
        return  # nor has what is drawn anew each time ("not-deterministic")
    (check,) = check_gradient(verbs, "", feeds, [layer], directions=1)
    if check.difference > max(OFF, DOUBTS * check.doubt) or check.adjoint > ADJOINT:
        numbers = f"differences say {check.difference:.1%} (in doubt by {check.doubt:.1%}), the adjoint {check.adjoint:.1e}"
        yield finding("gradient-disagrees", layer, numbers)


class _Verbs:
    """What `gradserve.checks` asks, of one model; names of models and versions do not matter."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def activations(
        self,
        model: str,  # noqa: ARG002
        inputs: Mapping[str, npt.ArrayLike],
        layers: Sequence[str],
        *,
        version: str = "",  # noqa: ARG002
    ) -> dict[str, Array]:
        """The values of layers."""
        return self._model.plan(Wanted((), tuple(layers))).run(_arrays(inputs))

    def vjp(
        self,
        model: str,  # noqa: ARG002
        inputs: Mapping[str, npt.ArrayLike],
        cotangents: Mapping[str, npt.ArrayLike],
        *,
        wrt: Sequence[str] = (),
        version: str = "",  # noqa: ARG002
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """J^T v."""
        layers, feeds = tuple(cotangents), _arrays(inputs)
        plan = self._model.plan(Wanted(self._model.wrt(wrt, layers), layers))
        results = plan.run(feeds, {cotangent_name(name): contiguous(array) for name, array in cotangents.items()})
        return {name: results[name] for name in layers}, plan.gradients(results, feeds)

    def jvp(
        self,
        model: str,  # noqa: ARG002
        inputs: Mapping[str, npt.ArrayLike],
        tangents: Mapping[str, npt.ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str = "",  # noqa: ARG002
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """J t."""
        layers = tuple(outputs)
        plan = self._model.plan(Wanted(self._model.wrt(list(tangents), layers), layers, Product.JVP))
        extra = {tangent_name(name): contiguous(array) for name, array in tangents.items()}
        results = plan.run(_arrays(inputs), extra)
        return {name: results[name] for name in layers}, {name: results[tangent_name(name)] for name in layers}


def _arrays(inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    return {name: contiguous(array) for name, array in inputs.items()}
