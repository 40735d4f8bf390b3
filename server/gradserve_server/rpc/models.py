"""`gradserve.v1.ModelService`: which models are served, and what they are made of."""

import grpc

from gradserve import mirror, wire
from gradserve.tensors import named_from_wire
from gradserve.v1 import model_service_pb2 as pb
from gradserve.v1.model_service_pb2_grpc import ModelServiceServicer
from gradserve_server.engine import Engine
from gradserve_server.rpc.callers import caller_of


class ModelServicer(ModelServiceServicer):
    """Answers with an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ListLayers(self, request: pb.ListLayersRequest, context: grpc.ServicerContext) -> pb.ListLayersResponse:  # noqa: ARG002, N802
        """The layers that objectives and activations can name."""
        layers = self._engine.layers(request.model.name, version=request.model.version)
        return pb.ListLayersResponse(layers=[wire.layer_to_wire(layer) for layer in layers])

    def Inspect(self, request: pb.InspectRequest, context: grpc.ServicerContext) -> pb.InspectResponse:  # noqa: ARG002, N802
        """Inputs, outputs, image description, gradient backend."""
        return wire.description_to_wire(self._engine.inspect(request.model.name, version=request.model.version))

    def Doctor(self, request: pb.DoctorRequest, context: grpc.ServicerContext) -> pb.DoctorResponse:  # noqa: N802
        """What is wrong with a model."""
        inputs = named_from_wire(request.inputs) if request.inputs else None
        name, version = request.model.name, request.model.version
        response = pb.DoctorResponse()
        mirror.fill(response.diagnosis, self._engine.doctor(name, inputs, version=version, caller=caller_of(context)))
        return response

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:  # noqa: ARG002, N802
        """Every model of the repository."""
        return pb.ListModelsResponse(models=map(wire.status_to_wire, self._engine.models()))

    def LoadModel(self, request: pb.LoadModelRequest, context: grpc.ServicerContext) -> pb.LoadModelResponse:  # noqa: ARG002, N802
        """Loads a model, or loads it again."""
        return pb.LoadModelResponse(versions=map(wire.status_to_wire, self._engine.load(request.model_name)))

    def UnloadModel(self, request: pb.UnloadModelRequest, context: grpc.ServicerContext) -> pb.UnloadModelResponse:  # noqa: ARG002, N802
        """Unloads a model."""
        return pb.UnloadModelResponse(versions=map(wire.status_to_wire, self._engine.unload(request.model_name)))
