"""From a network to a model in the repository, or nothing at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from gradserve.descriptions import ImageDescription, TensorDescription
from gradserve.errors import InvalidParameter
from gradserve_server.engine import Engine
from gradserve_server.export.entry import (
    MODEL_FILE,
    Entry,
    check_agreement,
    check_name,
    choose_version,
    describe,
    publish,
    staged,
)
from gradserve_server.export.frameworks import exportable
from gradserve_server.export.frameworks.exportable import Exportable
from gradserve_server.export.settings import DEFAULT_MAX_BATCH, DEFAULT_OPSET, Input, Report, Settings
from gradserve_server.export.subject import model_name
from gradserve_server.export.verify import CANDIDATES, draw_feeds, verify

IMAGE_AXES = 4
CHANNELS = {1: "GREY", 3: "RGB"}
"""What an axis of that size is likely to hold."""


def export_model(subject: str, repository: str | Path, **settings: Unpack[Settings]) -> Report:
    """Exports a network of PyTorch, Keras or scikit-learn into a model repository, if the file does what the network does.

    Args:
        subject: `package.module:factory`, or a .keras or .skops file. A factory's code is run; a file's never is.
        repository: The folder; made if it is not there.
        **settings: See `Settings`.

    Returns:
        What was written, and how far it is from the framework in float64.

    Raises:
        InvalidParameter: A setting that does not fit the subject or the repository.
        InvalidModel: It cannot be exported, or the file disagrees with it.
        UnsupportedGradient: Something in it has no gradient.
        BackendMissing: Its framework is not installed; the text says which extra brings it.
    """
    repository, name = Path(repository), settings.get("name") or model_name(subject)
    check_name(name)
    version = choose_version(repository, name, settings.get("version"))
    opset, seed = settings.get("opset", DEFAULT_OPSET), settings.get("seed", 0)
    is_fixed = settings.get("fixed_batch", False)
    network = exportable(subject, settings)
    images = _images(network, settings)
    labels = _labels(network, settings)
    feeds = draw_feeds(network, images, samples=None if is_fixed else CANDIDATES, seed=seed)
    forms = network.compare_forms(feeds)
    network.notes.extend([forms] if forms else [])
    with staged(repository, name, version) as staging:
        file = staging / str(version) / MODEL_FILE
        network.write(file, opset, fixed_batch=is_fixed)
        with Engine(staging) as engine:
            described = engine.inspect(name)
        _check_labels(labels, described.outputs)
        max_batch = 0 if is_fixed else settings.get("max_batch", DEFAULT_MAX_BATCH)
        describe(staging, described, Entry(images, labels, max_batch))
        if (repository / name).exists():
            check_agreement(staging, repository / name)
        with Engine(staging) as engine:  # with the configuration that was written
            checks = verify(engine, name, network, feeds, seed)
        network.notes.extend(
            f"{check.what} is 0 on the random inputs: its gradient is not verified" for check in checks if check.is_zero
        )
        file = publish(staging, repository, version)
    return Report(
        model=name,
        version=version,
        file=file,
        framework=network.framework,
        exporter=network.exporter,
        opset=described.opset,
        inputs=described.inputs,
        outputs=described.outputs,
        checks=checks,
        notes=network.notes,
    )


def _images(network: Exportable, settings: Settings) -> dict[str, ImageDescription]:
    """The description for each input that has four axes, or was named."""
    said = settings.get("image")
    if said is None:
        return {}
    inputs = {one.name: one for one in network.inputs}
    asked = settings.get("image_inputs") or [name for name, one in inputs.items() if len(one.shape) == IMAGE_AXES]
    for name in asked or [""]:
        if name not in inputs or len(inputs[name].shape) != IMAGE_AXES:
            known = ", ".join(f"{name} {list(one.shape)}" for name, one in inputs.items())
            msg = f"image: expected an input '{name}' of four axes, [N,C,H,W] or [N,H,W,C], got {known}"
            raise InvalidParameter(msg)
    return {name: _image(inputs[name], said) for name in asked}


def _image(one: Input, said: Mapping[str, Any]) -> ImageDescription:
    is_last = one.shape[3] in CHANNELS and one.shape[1] not in CHANNELS
    layout = said.get("layout", "NHWC" if is_last else "NCHW")
    channels = one.shape[3 if layout == "NHWC" else 1]
    return ImageDescription(**{"layout": layout, "channels": CHANNELS.get(channels, "RGB"), **said})


def _labels(network: Exportable, settings: Settings) -> dict[str, tuple[str, ...]]:
    labels, output = tuple(settings.get("labels") or network.labels), settings.get("labels_output") or network.outputs[0]
    if output not in network.outputs:
        msg = f"labels: expected them for one of the outputs {', '.join(network.outputs)}, got '{output}'"
        raise InvalidParameter(msg)
    return {output: labels} if labels else {}


def _check_labels(labels: Mapping[str, tuple[str, ...]], outputs: tuple[TensorDescription, ...]) -> None:
    for output in outputs:
        size = output.shape[-1] if output.shape else None
        given = labels.get(output.name, ())
        if given and isinstance(size, int) and len(given) != size:
            msg = f"labels: expected {size}, one for each index of output '{output.name}', got {len(given)}"
            raise InvalidParameter(msg)
