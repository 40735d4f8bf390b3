"""What a token needs for each RPC: the one table."""

from enum import StrEnum


class Need(StrEnum):
    """What somebody needs to call an RPC."""

    NOTHING = "nothing"
    """Not even a token: probes have none."""
    TOKEN = "any token"
    """What a client must know before it can ask for anything."""
    INFER = "infer"
    GRADIENT = "gradient"
    """Also the values of layers: whoever has them has the model's insides."""
    ASCEND = "ascend"
    """Long work."""
    ADMIN = "admin"
    """What others see or feel: models, logs, shared memory, and what everybody together asked for."""


PERMISSIONS = (Need.INFER, Need.GRADIENT, Need.ASCEND, Need.ADMIN)
"""What a tokens file can grant. None of them brings another with it."""

_BY_SERVICE: dict[str, dict[Need, tuple[str, ...]]] = {
    "gradserve.v1.GradientService": {
        Need.INFER: ("Infer",),
        Need.GRADIENT: ("Gradient", "VectorJacobianProduct", "JacobianVectorProduct", "HessianVectorProduct", "Activations"),
        Need.ASCEND: ("Ascend",),
    },
    "gradserve.v1.ModelService": {
        Need.TOKEN: ("ListModels", "ListLayers", "Inspect"),
        Need.ADMIN: ("Doctor", "LoadModel", "UnloadModel"),
    },
    "inference.GRPCInferenceService": {
        Need.NOTHING: ("ServerLive", "ServerReady", "ModelReady"),
        Need.TOKEN: ("ServerMetadata", "ModelMetadata", "ModelConfig", "RepositoryIndex"),
        Need.INFER: ("ModelInfer", "ModelStreamInfer"),
        Need.ADMIN: (
            "ModelStatistics",
            "RepositoryModelLoad",
            "RepositoryModelUnload",
            "SystemSharedMemoryStatus",
            "SystemSharedMemoryRegister",
            "SystemSharedMemoryUnregister",
            "CudaSharedMemoryStatus",
            "CudaSharedMemoryRegister",
            "CudaSharedMemoryUnregister",
            "TraceSetting",
            "LogSettings",
        ),
    },
    "grpc.health.v1.Health": {Need.NOTHING: ("Check", "Watch")},
    "grpc.reflection.v1alpha.ServerReflection": {Need.TOKEN: ("ServerReflectionInfo",)},
}

NEEDS: dict[str, Need] = {
    f"/{service}/{rpc}": need for service, needs in _BY_SERVICE.items() for need, rpcs in needs.items() for rpc in rpcs
}
"""By path. An RPC that is not here is refused to every token."""
