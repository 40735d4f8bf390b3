"""The doctor, in process: what is wrong with a model file, before anybody serves it, and a repaired copy of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy.typing as npt

from gradserve.descriptions import ImageDescription, ModelDescription
from gradserve.diagnosis import Diagnosis, Treatment
from gradserve.errors import InvalidParameter
from gradserve_server.config import EngineConfig
from gradserve_server.graph.load import load
from gradserve_server.graph.values import opset_of
from gradserve_server.runtime.doctor.repair import repair as repair_file
from gradserve_server.runtime.feeds import describe_tensor
from gradserve_server.runtime.image_descriptions import PREFIX, Fields, descriptions, fields_of, joined, said
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
    entry = replace(entry, images=joined(entry.images, fields_of(images or {})))
    return _examine(entry, inputs, config)


def repair(
    model: str | Path,
    output: str | Path,
    repairs: Sequence[str] = (),
    *,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    description: Mapping[str, str] | None = None,
    config: EngineConfig | None = None,
) -> Treatment:
    """Writes a repaired copy of a model: `repair("model.onnx", "repaired.onnx", ["recalibrate"], inputs={"image": x})`.

    Args:
        model: As for `diagnose`.
        output: The file to write; not the model's own.
        repairs: Beyond those that its findings ask for (docs/doctor.md lists all).
        inputs: Samples; "recalibrate" needs them.
        description: Image descriptions to write into the file, as in `{"image.mean": "0.485 0.456 0.406"}`.
        config: How to run it.

    Raises:
        InvalidParameter: An unknown repair, a description that is none, the same file, recalibration without samples.
        GradserveError: As `diagnose` does, and where the file cannot be read.
    """
    config, entry, output = config or EngineConfig(), entry_at(model), Path(output)
    file = entry.files[max(entry.files)]
    if output.resolve() == file.resolve():
        msg = f"output '{output}': expected another file than the model's own, which stays as it is"
        raise InvalidParameter(msg)
    before = _examine(entry, inputs, config)
    done = repair_file(
        file,
        output,
        codes=[finding.code for finding in before.findings],
        asked=repairs,
        inputs=inputs,
        description=description,
        threads=config.threads,
    )
    # Its descriptions come along, but for those that were written into the file.
    written = _said(description)
    images = {
        name: {field: value for field, value in fields.items() if field not in written.get(name, {})}
        for name, fields in entry.images.items()
    }
    after = _examine(replace(entry, files={1: output}, images=images), inputs, config)
    return Treatment(before, tuple(done), after)


def _said(description: Mapping[str, str] | None) -> Fields:
    return said({PREFIX + key: text for key, text in (description or {}).items()}, "description")


def _examine(entry: Entry, inputs: Mapping[str, npt.ArrayLike] | None, config: EngineConfig) -> Diagnosis:
    loader = Loader(config, Scheduler(max_batch=1, max_queue=1), MemoryBudget(config.memory_limit_mib))
    return loader.examine(entry, max(entry.files), inputs)


def describe(model: str | Path, description: Mapping[str, str] | None = None) -> ModelDescription:
    """What a file says that it takes and gives, also one that cannot be served.

    Args:
        model: As for `diagnose`.
        description: Image descriptions that count more than its own, as for `repair`.

    Raises:
        InvalidModel: It cannot be read, or a description is none.
    """
    entry = entry_at(model)
    version = max(entry.files)
    source = load(entry.files[version], oldest=1)
    own = said(source.model.metadata_props, f"model '{entry.name}': metadata")
    images = descriptions(joined(own, entry.images, _said(description)))
    graph = source.model.graph
    return ModelDescription(
        name=entry.name,
        version=str(version),
        sha256=source.sha256,
        opset=opset_of(source.model),
        inputs=tuple(replace(describe_tensor(value), image=images.get(value.name or "")) for value in graph.inputs),
        outputs=tuple(map(describe_tensor, graph.outputs)),
    )


def entry_at(model: str | Path) -> Entry:
    """The one model at a place. Raises as `diagnose`."""
    (entry,) = scan(Path(model))
    return entry
