"""Ascents towards what a layer has of a photograph: inversion and caricature."""

from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from gradserve import objectives as O
from gradserve.ascents import AscentSettings
from gradserve.descriptions import TensorDescription
from gradserve.errors import InvalidObjective
from gradserve.runs import Run

__all__ = ["Activates", "caricature", "inversion"]

Array = npt.NDArray[Any]


class Activates(Protocol):
    """`gradserve.Client` or `gradserve_server.Engine`."""

    def activations(self, model: str, inputs: Any, layers: Any, *, version: str = "") -> dict[str, Array]:
        """The values of some layers."""
        ...


def inversion(
    verbs: Activates,
    model: str,
    layer: str,
    image: npt.ArrayLike,
    tensor: TensorDescription,
    *,
    total_variation: float = 0.0,
    settings: AscentSettings | None = None,
) -> Run:
    """What a layer has kept of a photograph: an image with the same activations (Mahendran & Vedaldi 2015).

    The objective is -mean((A - target)^2) / mean(target^2), their loss: -1 for activations of 0, 0 for those of the
    photograph; less `total_variation` times that of the image.

    Args:
        verbs: A client or an engine.
        model: Its name.
        layer: Its tensor name.
        image: The photograph, like the model input without batch axis, in the described pixel range.
        tensor: The model input that it becomes.
        total_variation: The weight of the penalty; depends on the size of the image and its range.
        settings: Of the ascent.

    Returns:
        A run to be run: `for step in client.ascend(model, run.objective, **run.settings): run.take(step)`.

    Raises:
        InvalidObjective: The layer has nothing of the photograph: all its activations are 0.
        GradserveError: As `activations`.
    """
    target = _activations(verbs, model, layer, image, tensor, settings)
    objective = O.matching(layer, target) * (1.0 / float(np.square(target, dtype=np.float64).mean()))
    if total_variation:
        objective = objective - total_variation * O.total_variation()
    return Run(f"inversion of {layer}", objective, tensor, cast("AscentSettings", {**(settings or {})}))


def caricature(
    verbs: Activates,
    model: str,
    layer: str,
    image: npt.ArrayLike,
    tensor: TensorDescription,
    *,
    cosine_power: float = 0.0,
    settings: AscentSettings | None = None,
) -> Run:
    """What a layer sees in a photograph, exaggerated (Lucid's recipe).

    The objective is <A, target> max(0.1, cos)^cosine_power / |target|^2: 1 for the photograph itself. Lucid moves image and
    photograph alike in each step; here the photograph is at rest, so transforms that move the image far blur the result.

    Args:
        verbs: A client or an engine.
        model: Its name.
        layer: Its tensor name.
        image: As in `inversion`.
        tensor: The model input that it becomes.
        cosine_power: Above 0 the direction counts more, and not only the size.
        settings: Of the ascent.

    Returns:
        A run to be run, as `inversion`.

    Raises:
        InvalidObjective, GradserveError: As `inversion`.
    """
    target = _activations(verbs, model, layer, image, tensor, settings)
    length = float(np.square(target, dtype=np.float64).sum())
    objective = O.caricature(layer, target, cosine_power) * (1.0 / length)
    return Run(f"caricature by {layer}", objective, tensor, cast("AscentSettings", {**(settings or {})}))


def _activations(
    verbs: Activates,
    model: str,
    layer: str,
    image: npt.ArrayLike,
    tensor: TensorDescription,
    settings: AscentSettings | None,
) -> Array:
    pixels = np.asarray(image, np.float32)[None]
    shown = pixels if tensor.image is None else tensor.image.normalize(pixels)
    others = dict((settings or {}).get("inputs", {}))
    version = (settings or {}).get("version", "")
    target = verbs.activations(model, {tensor.name: shown, **others}, [layer], version=version)[layer]
    if not np.square(target, dtype=np.float64).sum() > 0:
        msg = f"layer '{layer}': expected activations of the photograph other than 0, got none"
        raise InvalidObjective(msg)
    return target
