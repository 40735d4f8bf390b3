"""Every verb as one `Call`: which RPC, with what request, and how its response becomes a result. Sans I/O.

`Client` and `aio.Client` differ only in how they carry a call.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from gradserve import mirror, objective_wire, wire
from gradserve.ascents import AscentSettings, Step
from gradserve.descriptions import Layer, ModelDescription, ModelStatus
from gradserve.diagnosis import Diagnosis
from gradserve.joined import with_named
from gradserve.objectives import Objective
from gradserve.tensors import from_wire, named_from_wire
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve.v1 import model_service_pb2

Array = npt.NDArray[Any]
Arrays = Mapping[str, npt.ArrayLike]
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class GradientResult:
    """The answer of `gradient`."""

    values: npt.NDArray[np.float32]
    """The objective for each sample, [N]."""
    gradients: dict[str, Array]
    """d values[n] / d input[n], named and shaped like the inputs."""


@dataclass(frozen=True, eq=False)
class HessianResult:
    """The answer of `hvp`."""

    values: npt.NDArray[np.float32]
    """The objective for each sample, [N]."""
    gradients: dict[str, Array]
    """d values[n] / d input[n], for each input or layer that has a tangent."""
    products: dict[str, Array]
    """H t: how those gradients change along the tangents, all at once."""


@dataclass(frozen=True)
class Call(Generic[R]):
    """One RPC to make."""

    rpc: str
    request: Message | bytes
    """Bytes where arrays are in it: copied once."""
    parse: Callable[[Any], R]


def infer(model: str, inputs: Arrays, outputs: Sequence[str], version: str) -> Call[dict[str, Array]]:
    head = pb.InferRequest(model=_ref(model, version), outputs=outputs)
    return Call("Infer", with_named(head, inputs=inputs), lambda response: named_from_wire(response.outputs))


def gradient(model: str, inputs: Arrays, objective: Objective, wrt: Sequence[str], version: str) -> Call[GradientResult]:
    head = pb.GradientRequest(model=_ref(model, version), objective=objective_wire.objective_to_wire(objective), wrt=wrt)
    return Call(
        "Gradient",
        with_named(head, inputs=inputs),
        lambda response: GradientResult(from_wire(response.values), named_from_wire(response.gradients)),
    )


def vjp(
    model: str, inputs: Arrays, cotangents: Arrays, wrt: Sequence[str], version: str
) -> Call[tuple[dict[str, Array], dict[str, Array]]]:
    head = pb.VectorJacobianProductRequest(model=_ref(model, version), wrt=wrt)
    return Call(
        "VectorJacobianProduct",
        with_named(head, inputs=inputs, cotangents=cotangents),
        lambda response: (named_from_wire(response.outputs), named_from_wire(response.gradients)),
    )


def jvp(
    model: str, inputs: Arrays, tangents: Arrays, outputs: Sequence[str], version: str
) -> Call[tuple[dict[str, Array], dict[str, Array]]]:
    head = pb.JacobianVectorProductRequest(model=_ref(model, version), outputs=outputs)
    return Call(
        "JacobianVectorProduct",
        with_named(head, inputs=inputs, tangents=tangents),
        lambda response: (named_from_wire(response.outputs), named_from_wire(response.tangents)),
    )


def hvp(model: str, inputs: Arrays, objective: Objective, tangents: Arrays, version: str) -> Call[HessianResult]:
    head = pb.HessianVectorProductRequest(model=_ref(model, version), objective=objective_wire.objective_to_wire(objective))
    return Call(
        "HessianVectorProduct",
        with_named(head, inputs=inputs, tangents=tangents),
        lambda response: HessianResult(
            from_wire(response.values), named_from_wire(response.gradients), named_from_wire(response.products)
        ),
    )


def activations(model: str, inputs: Arrays, layers: Sequence[str], version: str) -> Call[dict[str, Array]]:
    head = pb.ActivationsRequest(model=_ref(model, version), layers=layers)
    return Call("Activations", with_named(head, inputs=inputs), lambda response: named_from_wire(response.activations))


def ascend(model: str, objective: Objective, settings: AscentSettings) -> Call[Step]:
    return Call("Ascend", wire.ascent_to_wire(model, objective, settings), wire.step_from_wire)


def layers(model: str, version: str) -> Call[list[Layer]]:
    request = model_service_pb2.ListLayersRequest(model=_ref(model, version))
    return Call("ListLayers", request, lambda response: [wire.layer_from_wire(layer) for layer in response.layers])


def inspect(model: str, version: str) -> Call[ModelDescription]:
    return Call("Inspect", model_service_pb2.InspectRequest(model=_ref(model, version)), wire.description_from_wire)


def doctor(model: str, inputs: Arrays | None, version: str) -> Call[Diagnosis]:
    head = model_service_pb2.DoctorRequest(model=_ref(model, version))
    return Call("Doctor", with_named(head, inputs=inputs or {}), lambda response: mirror.read(Diagnosis, response.diagnosis))


def is_ready(service: str) -> Call[bool]:
    serving = health_pb2.HealthCheckResponse.SERVING
    return Call("Check", health_pb2.HealthCheckRequest(service=service), lambda response: response.status == serving)


def models() -> Call[list[ModelStatus]]:
    request = model_service_pb2.ListModelsRequest()
    return Call("ListModels", request, lambda response: [wire.status_from_wire(status) for status in response.models])


def load(model: str) -> Call[list[ModelStatus]]:
    request = model_service_pb2.LoadModelRequest(model_name=model)
    return Call("LoadModel", request, lambda response: [wire.status_from_wire(status) for status in response.versions])


def unload(model: str) -> Call[list[ModelStatus]]:
    request = model_service_pb2.UnloadModelRequest(model_name=model)
    return Call("UnloadModel", request, lambda response: [wire.status_from_wire(status) for status in response.versions])


def _ref(model: str, version: str) -> pb.ModelRef:
    return pb.ModelRef(name=model, version=version)
