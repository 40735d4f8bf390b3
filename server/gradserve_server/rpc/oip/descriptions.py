"""What the server and its models are, as messages."""

from collections.abc import Iterable, Sequence
from typing import Any

import gradserve_server
from gradserve.descriptions import ModelState, ModelStatus
from gradserve_server.rpc.oip.messages import message
from gradserve_server.rpc.oip.shared_memory import Region
from gradserve_server.rpc.statistics import Counts, Duration
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.served_config import PLATFORM, VARIABLE

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
    "trace",
)
"""Optional parts of the protocol that are always here."""

SHARED_MEMORY = "system_shared_memory"
"""The one that must be allowed."""


def server_metadata(*, shared_memory: bool) -> Any:
    """The `ServerMetadataResponse`."""
    extensions = (*EXTENSIONS, SHARED_MEMORY) if shared_memory else EXTENSIONS
    return message("ServerMetadataResponse")(name="gradserve", version=gradserve_server.__version__, extensions=extensions)


def model_metadata(model: Model, versions: Iterable[int]) -> Any:
    """The `ModelMetadataResponse`: a model, and which versions of it there are."""
    response = message("ModelMetadataResponse")(
        name=model.name, versions=[str(version) for version in sorted(versions)], platform=PLATFORM
    )
    batch = [VARIABLE] if model.config.max_batch_size else []
    for told, entries in ((response.inputs, model.config.input), (response.outputs, model.config.output)):
        for entry in entries:
            types = entry.DESCRIPTOR.fields_by_name["data_type"].enum_type
            kind = types.values_by_number[entry.data_type].name.removeprefix("TYPE_")
            datatype = {"STRING": "BYTES", "INVALID": ""}.get(kind, kind)
            told.add(name=entry.name, datatype=datatype, shape=[*batch, *entry.dims])
    return response


def model_config(model: Model) -> Any:
    """The `ModelConfigResponse`."""
    response = message("ModelConfigResponse")()
    # Through bytes: the configuration's class is of another descriptor pool.
    response.config.ParseFromString(model.config.SerializeToString())
    return response


def model_statistics(models: Sequence[Model], counts: Sequence[Counts]) -> Any:
    """The `ModelStatisticsResponse`: versions of models, and what was counted of each."""
    response = message("ModelStatisticsResponse")()
    for model, of_model in zip(models, counts, strict=True):
        told = response.model_stats.add(
            name=of_model.name,
            version=str(of_model.version),
            last_inference=of_model.last_inference_ms,
            inference_count=of_model.samples,
            execution_count=of_model.runs,
        )
        told.memory_usage.add(type="CPU", byte_size=model.memory_bytes)
        stats = told.inference_stats
        _tell(stats.success, of_model.success)
        failed = of_model.failures.values()
        _tell(stats.fail, Duration(sum(each.count for each in failed), sum(each.ns for each in failed)))
        for phase, duration in of_model.phases.items():
            _tell(getattr(stats, phase), duration)
        for size, phases in sorted(of_model.batches.items()):
            batch = told.batch_stats.add(batch_size=size)
            for phase, duration in phases.items():
                _tell(getattr(batch, phase), duration)
    return response


def repository_index(models: Iterable[ModelStatus], only_ready: bool) -> Any:
    """The `RepositoryIndexResponse`."""
    response = message("RepositoryIndexResponse")()
    for status in models:
        if status.state is ModelState.READY or not only_ready:
            response.models.add(name=status.name, version=status.version, state=status.state, reason=status.reason)
    return response


def shared_memory_status(regions: Iterable[Region]) -> Any:
    """The `SystemSharedMemoryStatusResponse`."""
    response = message("SystemSharedMemoryStatusResponse")()
    for region in regions:
        told = response.regions[region.name]
        told.name, told.key = region.name, region.key
        told.offset, told.byte_size = region.offset, region.byte_size
    return response


def _tell(field: Any, duration: Duration) -> None:
    field.count, field.ns = duration.count, duration.ns
