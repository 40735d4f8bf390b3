"""The RPCs of the Open Inference Protocol: from the wire to the engine and back; nothing is decided here."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from gradserve.errors import InvalidModel, ModelNotFound, NotSupported
from gradserve_server.engine import Engine
from gradserve_server.rpc.call_pool import waited_ns
from gradserve_server.rpc.callers import caller_of
from gradserve_server.rpc.limit import Limit
from gradserve_server.rpc.oip import codec, descriptions, settings
from gradserve_server.rpc.oip.admission import check_batch
from gradserve_server.rpc.oip.answer import Answer
from gradserve_server.rpc.oip.loads import check_unload, override_of
from gradserve_server.rpc.oip.messages import message
from gradserve_server.rpc.oip.shared_memory import SharedMemory
from gradserve_server.rpc.statistics import Phase, Statistics
from gradserve_server.rpc.status import to_status
from gradserve_server.rpc.trace_settings import TraceSettings
from gradserve_server.runtime.model import Model

_ERRORS_END_STREAM = ("triton_grpc_error", "true")
"""Metadata of a stream that should end with the status of its first error."""

_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


class InferenceServicer:
    """Answers with an engine.

    Args:
        engine: What does the work.
        max_streams: Streams open at a time.
        statistics: Where predictions are counted.
        memory: The shared memory that clients have registered.
        tracing: Which calls are traced; None where none is.
        is_ready: Whether the server is, which has begun to listen.
    """

    def __init__(
        self,
        engine: Engine,
        max_streams: int,
        statistics: Statistics,
        memory: SharedMemory,
        tracing: TraceSettings | None = None,
        *,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._is_ready = is_ready
        self._streams = Limit("streams", max_streams)
        self._statistics = statistics
        self._tracing = tracing

    @property
    def open_streams(self) -> int:
        """Streams that are open now."""
        return self._streams.running

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Yes, or nobody would answer."""
        return message("ServerLiveResponse")(live=True)

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Whether it takes requests, and has the models that it should have."""
        return message("ServerReadyResponse")(ready=self._is_ready())

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Whether there is such a model; that there is none is no error."""
        try:
            self._model(request.name, request.version)
        except ModelNotFound:
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=self._is_ready())

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Name, version, extensions."""
        return descriptions.server_metadata(shared_memory=self._memory.allowed)

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Inputs, outputs, versions."""
        model = self._model(request.name, request.version)
        return descriptions.model_metadata(
            model, [other.version for other in self._engine.versions if other.name == model.name]
        )

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """The configuration that a model is served with."""
        return descriptions.model_config(self._model(request.name, request.version))

    def ModelStatistics(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Of one version, of all versions of a model, or of everything."""
        version = codec.check_version(request.version)
        if request.name:
            self._model(request.name, version)
        asked = [
            model
            for model in self._engine.versions
            if request.name in {"", model.name} and (not version or int(version) == model.version)
        ]
        return descriptions.model_statistics(asked, self._statistics.snapshot(asked))

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Every version of every model, or those that are ready."""
        _check_repository(request.repository_name)
        return descriptions.repository_index(self._engine.models(), request.ready)

    def RepositoryModelLoad(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Loads a model, or loads it again."""
        _check_repository(request.repository_name)
        try:
            self._engine.load(request.model_name, override=override_of(request.parameters))
        except (InvalidModel, ModelNotFound) as error:  # one status for both, as in Triton, and how its text begins
            msg = f"failed to load '{request.model_name}', {error}"
            raise InvalidModel(msg) from error
        return message("RepositoryModelLoadResponse")()

    def RepositoryModelUnload(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Unloads a model."""
        _check_repository(request.repository_name)
        check_unload(request.parameters)
        self._engine.unload(request.model_name)
        return message("RepositoryModelUnloadResponse")()

    def LogSettings(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """What is logged; it can be changed."""
        return settings.log_settings(request)

    def TraceSetting(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """What is traced; it can be changed where the server traces at all."""
        return settings.trace_settings(request, self._tracing, self._engine.model)

    def SystemSharedMemoryStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """One region, or all."""
        return descriptions.shared_memory_status(self._memory.registered(request.name))

    def SystemSharedMemoryRegister(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Makes a region of shared memory known by a name."""
        self._memory.register(request.name, request.key, request.offset, request.byte_size)
        return message("SystemSharedMemoryRegisterResponse")()

    def SystemSharedMemoryUnregister(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        """Forgets one region, or all."""
        self._memory.unregister(request.name)
        return message("SystemSharedMemoryUnregisterResponse")()

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """A prediction."""
        return self._predict(request, context, waited_ns(), Answer.unary)

    def ModelStreamInfer(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        """A prediction for each request, in their order."""
        make = message("ModelStreamInferResponse")
        end_at_error = _ERRORS_END_STREAM in set(context.invocation_metadata())
        with self._streams.one_more():
            for request in requests:
                try:
                    yield self._predict(request, context, 0, Answer.streamed)
                except Exception as error:
                    if end_at_error:
                        raise
                    failed = message("ModelInferResponse")(id=request.id)
                    yield make(error_message=to_status(error, _STREAM).details, infer_response=failed)

    def _predict(
        self, request: Any, context: grpc.ServicerContext, waited_ns: int, serialize: Callable[[Answer], bytes]
    ) -> bytes:
        model = self._model(request.model_name, request.model_version)
        with self._statistics.prediction(model, waited_ns) as watch:
            asked = codec.decode(request, self._memory)
            check_batch(asked, model)
            watch.samples = model.batch_size(asked.inputs)
            watch.lap(Phase.INPUT)
            caller = caller_of(
                context,
                watch.waited,
                watch.ran,
                priority=asked.priority,
                timeout_us=asked.timeout_us,
                waited_ns=waited_ns,
            )
            results = self._engine.infer_with(model, asked.inputs, asked.outputs, caller)
            watch.lap(Phase.INFER)
            response = serialize(codec.encode(request, asked, model, results))
            watch.lap(Phase.OUTPUT)
        return response

    def _model(self, name: str, version: str) -> Model:
        return self._engine.model(name, codec.check_version(version))


def _check_repository(name: str) -> None:
    if name:
        msg = f"repository '{name}': expected no name, because this server has one repository"
        raise NotSupported(msg)
