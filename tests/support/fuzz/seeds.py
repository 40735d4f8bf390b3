"""Valid requests of every RPC, from which nearly valid ones are made."""

import os
from collections.abc import Callable, Sequence

import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from support import golden, oip
from support.fuzz.rpcs import Rpc
from support.paths import MODELS
from tritonclient.grpc import service_pb2

from gradserve import Adam, Noise, Sgd, _calls, numbers, optimizers, projections, regularizers, stopping, transforms
from gradserve import objectives as O
from gradserve.joined import serialized
from gradserve.parameterizations import Alpha, Fourier, Laplacian, Phases, Shared

X = golden.digits()[:2]
IMAGE = {"image": X}
LOGITS = {"logits": np.ones((2, 10), np.float32)}
UNIT = O.unit("logits", 7)
OBJECTIVES = (
    UNIT,
    O.neuron("relu3", 4, 2, 3) + 0.5 * O.neuron("relu3", 5),
    O.channel("relu3", 4) - O.channel("logits", 1),
    O.channel_energy("relu1", 4),
    O.layer("relu6"),
    O.direction("logits", np.arange(10, dtype=np.float32)),
    O.cotangent("logits", LOGITS["logits"]),
    O.direction("relu3", np.arange(24, dtype=np.float32), 2)
    + O.direction_neuron("relu3", np.ones(24), 1, 2, cosine_power=1),
    O.matching("logits", LOGITS["logits"][:1]) + O.caricature("logits", LOGITS["logits"][:1], 0.5),
    O.style("relu3", np.ones((1, 24, 3, 2), np.float32)) - O.diversity("relu3") + O.alignment("relu6", 3),
    O.channel_interpolate("relu3", 1, "relu6", 2) - O.l1(0.5) - O.l2(0.25, 1e-3) - O.total_variation(),
    UNIT - O.boundary_complexity(5, 0.25) - O.blur_input_each_step(),
)
TRANSFORMS = (
    transforms.Pad(3, transforms.Border.EDGE),
    transforms.Jitter(2, transforms.JitterKind.ROLL),
    transforms.Scale(numbers.Uniform(0.9, 1.1)),
    transforms.Rotate(numbers.Uniform(-10.0, 10.0), fill=0.5),
    transforms.Affine(0.9, 0.1, degrees=5.0, down=1.0, right=2.0),
    transforms.Resize(20, 24),
    transforms.Crop(20, 20),
    transforms.RandomCrop(16, 0.4),
    transforms.Flip(0.3),
    transforms.Blur(numbers.Choice((1.0, 0.2)), 3),
    transforms.Noisy(0.1, 0.05),
)
ASCENTS = (
    {"steps": 2},
    {"steps": 3, "optimizer": Sgd(0.02), "gradient_normalization": "std", "weight_decay": 0.01, "jitter": 2},
    {"steps": 2, "start": np.full((1, 28, 28), 0.5), "optimizer": Adam(0.01, 0.8, 0.99, 1e-6), "bounds": (0.1, 0.9)},
    {"steps": 2, "count": 3, "start": Noise(0.05), "report_every": 2, "image_every": 1, "input": "image", "seed": 7},
    {"steps": 2, "optimizer": optimizers.NAdam(numbers.Linear(0.1, 0.01), 0.8, 0.9, 1e-7, 0.01), "checkpoint_every": 1},
    {"steps": 2, "optimizer": optimizers.Momentum(0.1, 0.5, True), "image_size": (20, 40)},
    {
        "steps": 2,
        "parameterization": Fourier(colours=()),
        "transforms": TRANSFORMS[:6],
        "resample_each": True,
    },
    {"steps": 2, "gradient_normalization": "sign", "projection": projections.LInfBall(0.1, True), "optimizer": Sgd(0.02)},
    {"steps": 2, "gradient_normalization": "l2", "projection": projections.L2Ball(0.5, True), "optimizer": Sgd(0.1)},
    {
        "steps": 3,
        "optimizer": Sgd(0.1),
        "regularizers": (
            regularizers.GaussianBlur(0.5, 2),
            regularizers.SmallNorms(50),
            regularizers.SmallContributions(90),
        ),
    },
    {"steps": 2, "bounds": (np.zeros((28, 28)), np.ones((1, 1, 28)))},
    {"steps": 2, "alpha": Alpha(penalty=0.5), "parameterization": Fourier(colours=()), "keep": "best"},
    {"steps": 2, "alpha": Alpha(0.5)},
    {
        "steps": 2,
        "count": 3,
        "shared": (Shared(), Shared(2, 8)),
        "parameterization": Fourier(colours=()),
        "checkpoint_every": 1,
    },
    {"steps": 3, "stop_at": stopping.Value(0.5, 2), "keep": "best", "jitter": 1, "count": 2},
    {"steps": 3, "stop_at": stopping.Probability(0.2, "logits", 3), "redirect_relu_steps": 2},
    {"steps": 2, "parameterization": Laplacian(3, colours=()), "transforms": TRANSFORMS[6:]},
    {"steps": 2, "parameterization": Phases(np.ones((1, 28, 15), np.float32), colours=())},
)

SHARED_MEMORY = f"/gradserve_faults_{os.getpid()}"
"""The key of a region of 16 KiB, that the suite makes."""

NAMES = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "binary_data_output", "headers")
"""Of parameters that valid requests here have not, and the server knows."""

_OURS = {
    "GradientService": [
        _calls.infer("digits", IMAGE, ["logits"], "1"),
        _calls.infer("scenario_a", {"x": np.array([[0.3]], np.float32)}, [], ""),
        *(_calls.gradient("digits", IMAGE, objective, ["image"], "") for objective in OBJECTIVES),
        _calls.gradient("digits_batchnorm", IMAGE, O.unit("logits", 1), ["relu1"], ""),
        _calls.vjp("digits", IMAGE, LOGITS, ["image"], "1"),
        _calls.jvp("digits", IMAGE, IMAGE, ["logits"], "1"),
        *(_calls.hvp("digits", IMAGE, objective, IMAGE, "") for objective in (*OBJECTIVES[3:5], *OBJECTIVES[7:10])),
        _calls.activations("digits", IMAGE, ["relu6", "logits"], "1"),
        *(_calls.ascend("digits", objective, settings) for objective in OBJECTIVES[:4] for settings in ASCENTS),
        *(_calls.ascend("digits", numbers.Linear(0.5, 1) * objective, ASCENTS[3]) for objective in OBJECTIVES[7:]),
    ],
    "ModelService": [
        _calls.layers("digits", "1"),
        _calls.inspect("digits_batchnorm", ""),
        _calls.doctor("digits", None, ""),
        _calls.doctor("scenario_a", {"x": np.array([[0.3]], np.float32)}, "1"),
        _calls.models(),
        _calls.load("digits"),
        _calls.unload("scenario_a"),
    ],
}


def _oip_predictions() -> list[Message]:
    plain = oip.request("digits", IMAGE, id="seven", model_version="1")
    asked = oip.request("digits", IMAGE)
    asked.outputs.add(name="logits").parameters["classification"].int64_param = 3
    asked.parameters["timeout"].int64_param = 1_000_000
    asked.parameters["priority"].uint64_param = 1
    typed = service_pb2.ModelInferRequest(model_name="digits")
    typed.inputs.add(name="image", datatype="FP32", shape=[1, 1, 28, 28]).contents.fp32_contents.extend([0.5] * 784)
    return [plain, asked, typed, oip.request("scenario_a", {"x": np.array([[0.3]], np.float32)})]


def _named(cls: type[Message]) -> list[Message]:
    return [cls(name=name, version=version) for name, version in (("digits", "1"), ("digits_batchnorm", ""))]


def _loads() -> list[Message]:
    overridden = service_pb2.RepositoryModelLoadRequest(model_name="digits")
    overridden.parameters["config"].string_param = '{"max_batch_size": 4, "version_policy": {"latest": {"num_versions": 1}}}'
    with_file = service_pb2.RepositoryModelLoadRequest(model_name="scenario_a")
    with_file.parameters["config"].string_param = "{}"
    with_file.parameters["file:1/model.onnx"].bytes_param = (MODELS / "scenario_a" / "1" / "model.onnx").read_bytes()
    return [service_pb2.RepositoryModelLoadRequest(model_name="digits"), overridden, with_file]


def _unloads() -> list[Message]:
    asked = service_pb2.RepositoryModelUnloadRequest(model_name="scenario_a")
    asked.parameters["unload_dependents"].bool_param = True
    return [asked]


_OIP: dict[str, Callable[[], Sequence[Message]]] = {
    "ServerLive": lambda: [service_pb2.ServerLiveRequest()],
    "ServerReady": lambda: [service_pb2.ServerReadyRequest()],
    "ServerMetadata": lambda: [service_pb2.ServerMetadataRequest()],
    "ModelReady": lambda: _named(service_pb2.ModelReadyRequest),
    "ModelMetadata": lambda: _named(service_pb2.ModelMetadataRequest),
    "ModelConfig": lambda: _named(service_pb2.ModelConfigRequest),
    "ModelStatistics": lambda: _named(service_pb2.ModelStatisticsRequest),
    "ModelInfer": _oip_predictions,
    "ModelStreamInfer": _oip_predictions,
    "RepositoryIndex": lambda: [service_pb2.RepositoryIndexRequest(ready=True)],
    "RepositoryModelLoad": _loads,
    "RepositoryModelUnload": _unloads,
    "SystemSharedMemoryStatus": lambda: [service_pb2.SystemSharedMemoryStatusRequest()],
    "SystemSharedMemoryRegister": lambda: [
        service_pb2.SystemSharedMemoryRegisterRequest(name="r", key=SHARED_MEMORY, offset=0, byte_size=6272)
    ],
    "SystemSharedMemoryUnregister": lambda: [service_pb2.SystemSharedMemoryUnregisterRequest(name="r")],
    "CudaSharedMemoryStatus": lambda: [service_pb2.CudaSharedMemoryStatusRequest(name="r")],
    "CudaSharedMemoryRegister": lambda: [
        service_pb2.CudaSharedMemoryRegisterRequest(name="r", raw_handle=b"\0" * 64, device_id=0, byte_size=3136)
    ],
    "CudaSharedMemoryUnregister": lambda: [service_pb2.CudaSharedMemoryUnregisterRequest(name="r")],
    "TraceSetting": lambda: [service_pb2.TraceSettingRequest(model_name="digits")],
    "LogSettings": lambda: [service_pb2.LogSettingsRequest()],
}

_GRPC = {
    "/grpc.health.v1.Health/Check": [health_pb2.HealthCheckRequest(service=name) for name in ("", "digits", "digits/1")],
    "/grpc.health.v1.Health/Watch": [health_pb2.HealthCheckRequest(service=name) for name in ("", "digits", "nowhere")],
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="gradserve.v1.GradientService"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="gradserve/v1/tensor.proto"),
        reflection_pb2.ServerReflectionRequest(
            file_containing_extension=reflection_pb2.ExtensionRequest(
                containing_type="gradserve.v1.Tensor", extension_number=1
            )
        ),
    ],
}

VALID: dict[str, Sequence[Message | bytes]] = {
    **{
        f"/gradserve.v1.{service}/{rpc}": [call.request for call in calls if call.rpc == rpc]
        for service, calls in _OURS.items()
        for rpc in dict.fromkeys(call.rpc for call in calls)
    },
    **{f"/inference.GRPCInferenceService/{name}": make() for name, make in _OIP.items()},
    **_GRPC,
}
"""By path; the messages are of the clients' classes, or serialized."""


def valid(rpc: Rpc) -> list[Message]:
    """Valid requests of an RPC, of the class that its description makes."""
    return [rpc.request.FromString(serialized(message)) for message in VALID[rpc.path]]
