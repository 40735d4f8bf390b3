"""`gradserve.v1.GradientService`: from the wire to the engine and back; nothing is decided here."""

import logging
from collections.abc import Callable, Iterator

import grpc

from gradserve import Step, StopReason, objective_wire, wire
from gradserve.errors import TooLarge
from gradserve.joined import with_named
from gradserve.tensors import named_from_wire, to_wire
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve_server.engine import Engine
from gradserve_server.rpc.call_pool import waited_ns
from gradserve_server.rpc.callers import caller_of, over
from gradserve_server.rpc.limit import Limit
from gradserve_server.rpc.statistics import Phase, Statistics

_log = logging.getLogger(__name__)


class GradientServicer:
    """Answers with an engine; with bytes where there are tensors, each of which is copied once.

    Args:
        engine: What does the work.
        max_ascents: Ascents at a time.
        statistics: Where predictions are counted.
        max_message_bytes: What is larger cannot be sent.
        should_interrupt: Says yes once ascents should end with a checkpoint.
    """

    def __init__(
        self,
        engine: Engine,
        max_ascents: int,
        statistics: Statistics,
        *,
        max_message_bytes: int,
        should_interrupt: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._statistics = statistics
        self._max_message_bytes = max_message_bytes
        self._should_interrupt = should_interrupt
        self._ascents = Limit("ascents", max_ascents)

    @property
    def running_ascents(self) -> int:
        """Ascents that are being worked on now."""
        return self._ascents.running

    def Infer(self, request: pb.InferRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """Runs the model."""
        model = self._engine.model(request.model.name, request.model.version)
        waited = waited_ns()
        with self._statistics.prediction(model, waited) as watch:
            inputs = named_from_wire(request.inputs)
            watch.lap(Phase.INPUT)
            caller = caller_of(context, watch.waited, watch.ran, waited_ns=waited)
            outputs = self._engine.infer_with(model, inputs, request.outputs, caller)
            watch.lap(Phase.INFER)
            watch.samples = model.batch_size(inputs)
            response = with_named(pb.InferResponse(), outputs=outputs)
            watch.lap(Phase.OUTPUT)
        return response

    def Gradient(self, request: pb.GradientRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """The objective's value and gradient."""
        result = self._engine.gradient(
            request.model.name,
            named_from_wire(request.inputs),
            objective_wire.objective_from_wire(request.objective),
            wrt=request.wrt,
            version=request.model.version,
            caller=caller_of(context),
        )
        return with_named(pb.GradientResponse(values=to_wire(result.values)), gradients=result.gradients)

    def VectorJacobianProduct(  # noqa: N802
        self,
        request: pb.VectorJacobianProductRequest,
        context: grpc.ServicerContext,
    ) -> bytes:
        """J^T v."""
        outputs, gradients = self._engine.vjp(
            request.model.name,
            named_from_wire(request.inputs),
            named_from_wire(request.cotangents),
            wrt=request.wrt,
            version=request.model.version,
            caller=caller_of(context),
        )
        return with_named(pb.VectorJacobianProductResponse(), outputs=outputs, gradients=gradients)

    def JacobianVectorProduct(  # noqa: N802
        self,
        request: pb.JacobianVectorProductRequest,
        context: grpc.ServicerContext,
    ) -> bytes:
        """J t."""
        outputs, tangents = self._engine.jvp(
            request.model.name,
            named_from_wire(request.inputs),
            named_from_wire(request.tangents),
            outputs=request.outputs,
            version=request.model.version,
            caller=caller_of(context),
        )
        return with_named(pb.JacobianVectorProductResponse(), outputs=outputs, tangents=tangents)

    def HessianVectorProduct(  # noqa: N802
        self,
        request: pb.HessianVectorProductRequest,
        context: grpc.ServicerContext,
    ) -> bytes:
        """H t."""
        result = self._engine.hvp(
            request.model.name,
            named_from_wire(request.inputs),
            objective_wire.objective_from_wire(request.objective),
            named_from_wire(request.tangents),
            version=request.model.version,
            caller=caller_of(context),
        )
        return with_named(
            pb.HessianVectorProductResponse(values=to_wire(result.values)),
            gradients=result.gradients,
            products=result.products,
        )

    def Activations(self, request: pb.ActivationsRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """The values of layers."""
        values = self._engine.activations(
            request.model.name,
            named_from_wire(request.inputs),
            request.layers,
            version=request.model.version,
            caller=caller_of(context),
            max_bytes=self._max_message_bytes,
        )
        return with_named(pb.ActivationsResponse(), activations=values)

    def Ascend(self, request: pb.AscendRequest, context: grpc.ServicerContext) -> Iterator[pb.AscendResponse]:  # noqa: N802
        """An ascent, as long as the call is open."""
        with self._ascents.one_more():
            steps = self._engine.ascend(
                request.model.name,
                objective_wire.objective_from_wire(request.objective),
                should_stop=over(context),
                should_interrupt=self._should_interrupt,
                caller=caller_of(context),
                **wire.ascent_from_wire(request),
            )
            for step in steps:
                yield self._report(step)

    def _report(self, step: Step) -> pb.AscendResponse:
        report = wire.step_to_wire(step)
        if step.checkpoint is not None and report.ByteSize() > self._max_message_bytes:
            msg = f"checkpoint: a report with one has {report.ByteSize()} bytes, a message at most {self._max_message_bytes}"
            if step.stop_reason is not StopReason.INTERRUPTED:
                raise TooLarge(msg)
            _log.warning("an interrupted ascent cannot go on elsewhere: %s", msg)
            report.ClearField("checkpoint")
        return report
