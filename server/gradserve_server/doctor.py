"""The doctor, in process: what is wrong with a model file, before anybody serves it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy.typing as npt

from gradserve.descriptions import ImageDescription
from gradserve.diagnosis import Diagnosis
from gradserve_server.config import EngineConfig
from gradserve_server.runtime.loading import Loader
from gradserve_server.runtime.memory import MemoryBudget
from gradserve_server.runtime.repository import Entry, scan
from gradserve_server.runtime.scheduler import Scheduler


def diagnose(
    model: str | Path,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    *,
    images: Mapping[str, ImageDescription] | None = None,
    config: EngineConfig | None = None,
) -> Diagnosis:
    """Examines a model: `diagnose("model.onnx").findings`.

    Args:
        model: An ONNX file, or a model's folder, of which the latest version is taken.
        inputs: Samples as the model takes them, with their batch axis; made up by default.
        images: Image descriptions by input, instead of those that the file or its config.pbtxt has.
        config: How to run it.

    Raises:
        ModelNotFound: No model there.
        InvalidModel: A config.pbtxt that cannot be read.
        InvalidTensor, UnknownInput: The samples do not fit the model.
        BackendMissing: No onnxruntime, or more than one.
    """
    config = config or EngineConfig()
    entry = entry_at(model)
    entry = replace(entry, images=dict(entry.images) | dict(images or {}))
    loader = Loader(config, Scheduler(max_batch=1, max_queue=1), MemoryBudget(config.memory_limit_mib))
    return loader.examine(entry, max(entry.files), inputs)


def entry_at(model: str | Path) -> Entry:
    """The one model at a place. Raises as `diagnose`."""
    (entry,) = scan(Path(model))
    return entry
