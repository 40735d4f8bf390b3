"""`gradserve.v1.GradientService`: from the wire to the engine and back; nothing is decided here."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from gradserve import wire
from gradserve.errors import LimitExceeded
from gradserve.tensors import named_from_wire, named_to_wire, to_wire
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve.v1.gradient_service_pb2_grpc import GradientServiceServicer
from gradserve_server.engine import Engine
from gradserve_server.runtime.caller import Caller


class GradientServicer(GradientServiceServicer):
    """Answers with an engine.

    Args:
        engine: What does the work.
        max_ascents: Ascents at a time.
    """

    def __init__(self, engine: Engine, max_ascents: int) -> None:
        self._engine = engine
        self._max_ascents = max_ascents
        self._running_ascents = 0
        self._counting = threading.Lock()

    @property
    def running_ascents(self) -> int:
        """Ascents that are being worked on now."""
        return self._running_ascents

    def Infer(self, request: pb.InferRequest, context: grpc.ServicerContext) -> pb.InferResponse:  # noqa: N802
        """Runs the model."""
        outputs = self._engine.infer(
            request.model.name,
            named_from_wire(request.inputs),
            outputs=request.outputs,
            version=request.model.version,
            caller=_caller(context),
        )
        return pb.InferResponse(outputs=named_to_wire(outputs))

    def Gradient(self, request: pb.GradientRequest, context: grpc.ServicerContext) -> pb.GradientResponse:  # noqa: N802
        """The objective's value and gradient."""
        result = self._engine.gradient(
            request.model.name,
            named_from_wire(request.inputs),
            wire.objective_from_wire(request.objective),
            wrt=request.wrt,
            version=request.model.version,
            caller=_caller(context),
        )
        return pb.GradientResponse(values=to_wire(result.values), gradients=named_to_wire(result.gradients))

    def VectorJacobianProduct(  # noqa: N802
        self,
        request: pb.VectorJacobianProductRequest,
        context: grpc.ServicerContext,
    ) -> pb.VectorJacobianProductResponse:
        """J^T v."""
        outputs, gradients = self._engine.vjp(
            request.model.name,
            named_from_wire(request.inputs),
            named_from_wire(request.cotangents),
            wrt=request.wrt,
            version=request.model.version,
            caller=_caller(context),
        )
        return pb.VectorJacobianProductResponse(outputs=named_to_wire(outputs), gradients=named_to_wire(gradients))

    def JacobianVectorProduct(  # noqa: N802
        self,
        request: pb.JacobianVectorProductRequest,
        context: grpc.ServicerContext,
    ) -> pb.JacobianVectorProductResponse:
        """J t."""
        outputs, tangents = self._engine.jvp(
            request.model.name,
            named_from_wire(request.inputs),
            named_from_wire(request.tangents),
            outputs=request.outputs,
            version=request.model.version,
            caller=_caller(context),
        )
        return pb.JacobianVectorProductResponse(outputs=named_to_wire(outputs), tangents=named_to_wire(tangents))

    def HessianVectorProduct(  # noqa: N802
        self,
        request: pb.HessianVectorProductRequest,
        context: grpc.ServicerContext,
    ) -> pb.HessianVectorProductResponse:
        """H t."""
        result = self._engine.hvp(
            request.model.name,
            named_from_wire(request.inputs),
            wire.objective_from_wire(request.objective),
            named_from_wire(request.tangents),
            version=request.model.version,
            caller=_caller(context),
        )
        return pb.HessianVectorProductResponse(
            values=to_wire(result.values),
            gradients=named_to_wire(result.gradients),
            products=named_to_wire(result.products),
        )

    def Activations(self, request: pb.ActivationsRequest, context: grpc.ServicerContext) -> pb.ActivationsResponse:  # noqa: N802
        """The values of layers."""
        values = self._engine.activations(
            request.model.name,
            named_from_wire(request.inputs),
            request.layers,
            version=request.model.version,
            caller=_caller(context),
        )
        return pb.ActivationsResponse(activations=named_to_wire(values))

    def Ascend(self, request: pb.AscendRequest, context: grpc.ServicerContext) -> Iterator[pb.AscendResponse]:  # noqa: N802
        """An ascent, as long as the call is open."""
        with self._one_more_ascent():
            steps = self._engine.ascend(
                request.model.name,
                wire.objective_from_wire(request.objective),
                should_stop=lambda: not context.is_active(),
                **wire.ascent_from_wire(request),
            )
            for step in steps:
                yield wire.step_to_wire(step)

    @contextmanager
    def _one_more_ascent(self) -> Iterator[None]:
        with self._counting:
            if self._running_ascents == self._max_ascents:
                msg = f"ascents: at most {self._max_ascents} run at a time on this server; try again when one has ended"
                raise LimitExceeded(msg)
            self._running_ascents += 1
        try:
            yield
        finally:
            with self._counting:
                self._running_ascents -= 1


def _caller(context: grpc.ServicerContext) -> Caller:
    """Who made a call: gone once it is over, and in no need of an answer after its deadline."""
    remaining = context.time_remaining()
    deadline = math.inf if remaining is None else time.monotonic() + remaining
    return Caller(lambda: not context.is_active(), deadline)
