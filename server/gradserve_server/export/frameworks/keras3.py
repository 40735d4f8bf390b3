"""Keras 3 on torch, where a model is a `torch.nn.Module`: so torch's exporters write it, and autograd differentiates it.

`keras.Model.export(format="onnx")` calls the older of these exporters, and writes the arithmetic of padding sizes into the
graph; the newer one resolves it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradserve.errors import BackendMissing, InvalidParameter
from gradserve_server.export.extras import need, prefer_torch
from gradserve_server.export.frameworks.pytorch import Network
from gradserve_server.export.settings import Input, Settings

WEIGHTS = ".weights.h5"
"""The ending of a file of Keras's weights; it holds arrays only."""


def read(file: Path) -> Any:
    """Reads a .keras file; one with code in it (a Lambda layer's) is refused, as are classes that are not Keras's own.

    Raises:
        InvalidParameter: It cannot be read so.
        BackendMissing: Keras or torch is not installed.
    """
    keras = _keras()
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        msg = f"model file '{file.name}': expected one that Keras reads in safe mode, got: {reason}"
        raise InvalidParameter(msg) from error


def adapt(model: Any, settings: Settings) -> "KerasModel":
    """A model, with its weights, ready to be exported.

    Raises:
        InvalidParameter: Weights or inputs that do not fit.
        InvalidModel: It does not predict.
        BackendMissing: Keras does not run on torch.
    """
    _keras()
    if "weights" in settings:
        _load_weights(model, Path(settings["weights"]))
    return KerasModel(model, settings)


class KerasModel(Network):
    """An `Exportable` of Keras.

    Args:
        model: A `keras.Model`, built.
        settings: Of the export.
    """

    def __init__(self, model: Any, settings: Settings) -> None:
        names = [tensor.name for tensor in _tensors(model, "inputs")]
        outputs = list(getattr(model, "output_names", ()) or ("output",))

        def call(network: Any, tensors: Mapping[str, Any], training: bool) -> Any:
            given = dict(zip(names, tensors.values(), strict=True)) if names else dict(tensors)
            result = network(given if len(given) > 1 else next(iter(given.values())), training=training)
            is_named = isinstance(result, (list, tuple)) and len(result) == len(outputs)
            return dict(zip(outputs, result, strict=True)) if is_named else result

        super().__init__(model, "Keras", _inputs(model, settings), call, settings, alone=outputs[0])

    def _parts(self) -> Iterable[Any]:
        layers: Iterable[Any] = self._network._flatten_layers()
        return layers

    def _set_precision(self, dtype: Any) -> None:
        super()._set_precision(dtype)
        for layer in self._parts():  # each casts what it is given to its own type
            layer.dtype_policy = str(dtype).removeprefix("torch.")


def _keras() -> Any:
    prefer_torch()
    need("torch")
    keras = need("keras")
    backend = keras.config.backend()
    if backend != "torch":
        msg = f"expected Keras on torch, got Keras on {backend}: set the environment variable KERAS_BACKEND=torch"
        raise BackendMissing(msg)
    return keras


def _load_weights(model: Any, file: Path) -> None:
    if not file.name.endswith(WEIGHTS) or not file.is_file():
        msg = f"weights '{file}': expected a file that ends in {WEIGHTS}, as model.save_weights writes it"
        raise InvalidParameter(msg)
    try:
        model.load_weights(file)
    except Exception as error:
        reason = " ".join(str(error).split())
        msg = f"weights '{file.name}': expected those of the model, got: {reason}"
        raise InvalidParameter(msg) from error


def _tensors(model: Any, side: str) -> list[Any]:
    """The symbolic inputs or outputs; none of a model that is a class of its own, whose `call` makes them."""
    try:
        return list(getattr(model, side))
    except (AttributeError, TypeError, ValueError):
        return []


def _inputs(model: Any, settings: Settings) -> Sequence[Input]:
    """Those that were asked for, or what the model says of itself."""
    known = _tensors(model, "inputs")
    asked = list(settings.get("inputs", ()))
    if not asked:
        asked = [Input((1, *tensor.shape[1:]), tensor.name, _dtype(tensor)) for tensor in known]
    if not asked or any(size is None for one in asked for size in one.shape):
        shapes = ", ".join(f"{one.name} {list(one.shape)[1:]}" for one in asked) or "none known"
        msg = f"inputs: expected a size for every axis, as in --input 1x224x224x3, got {shapes}"
        raise InvalidParameter(msg)
    if known and len(known) != len(asked):
        msg = f"inputs: expected {len(known)}, {', '.join(tensor.name for tensor in known)}, got {len(asked)}"
        raise InvalidParameter(msg)
    names = [one.name or (known[i].name if known else f"input_{i}") for i, one in enumerate(asked)]
    order = [tensor.name for tensor in known]
    inputs = [Input(one.shape, name, one.dtype) for one, name in zip(asked, names, strict=True)]
    return sorted(inputs, key=lambda one: order.index(one.name)) if set(names) == set(order) else inputs


def _dtype(tensor: Any) -> str:
    kind = str(tensor.dtype)
    return "float32" if "float" in kind else kind
