"""Weights of a PyTorch network from a file that cannot run code: all of them, by name, or an error that says which not."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradserve.errors import InvalidParameter
from gradserve_server.export.extras import need

_CODE = re.compile(r"GLOBAL ([\w.]+)")
"""In torch's error: what would have been run."""

COUNTER = ".num_batches_tracked"
"""Of BatchNorm in training; what was saved before torch 0.4.1, or by another framework, has none."""

MANY = 5
"""Names that an error lists."""


def load_weights(network: Any, file: Path, *, key: str = "", prefix: str = "") -> None:
    """Loads the weights of a network.

    Args:
        network: A `torch.nn.Module`.
        file: .safetensors, or what `torch.load(weights_only=True)` reads: tensors and plain containers of them. Nothing else
            is ever unpickled.
        key: Where in the file the tensors are, as in "model" or "ema.state_dict".
        prefix: What stands before each name in the file only.

    Raises:
        InvalidParameter: A file that cannot be read, or does not fit the network name by name and shape by shape.
    """
    where = f"weights '{file.name}'"
    if not file.is_file():
        msg = f"weights '{file}': expected a file, got nothing there"
        raise InvalidParameter(msg)
    tensors = _tensors(_select(_read(file, where), key, where), where)
    tensors = _without(prefix, tensors, where)
    state = network.state_dict(keep_vars=False)
    _check(state, tensors, where)
    network.load_state_dict(tensors, strict=False)  # strict already, but for the second names of tied weights
    for name, tensor in tensors.items():
        loaded, given = state[name], tensor.to(state[name].dtype)
        if not bool(((loaded == given) | given.isnan()).all()):
            msg = f"{where}: '{name}': expected the value of the weight that the network ties it to, got another"
            raise InvalidParameter(msg)


def _read(file: Path, where: str) -> Any:
    readers = {".safetensors": _read_safetensors, **dict.fromkeys((".bin", ".pt", ".pth"), _read_pickle)}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        msg = f"{where}: expected a file that ends in {', '.join(readers)}, got '{file.suffix}'"
        raise InvalidParameter(msg)
    return reader(file, where)


def _read_safetensors(file: Path, where: str) -> Any:
    safetensors = need("safetensors.torch")
    try:
        return safetensors.load_file(file)
    except Exception as error:
        msg = f"{where}: expected safetensors, got: {error}"
        raise InvalidParameter(msg) from error


def _read_pickle(file: Path, where: str) -> Any:
    torch = need("torch")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whose text tells how to read it all the same, which runs whatever code is in it
        code = _CODE.search(str(error))
        got = f"one that needs the code of {code[1]}" if code else "another"
        msg = f"{where}: expected a file of tensors and nothing else, got {got}: save network.state_dict()"
        raise InvalidParameter(msg) from error


def _select(content: Any, key: str, where: str) -> Any:
    for part in key.split(".") if key else ():
        if not isinstance(content, Mapping) or part not in content:
            known = ", ".join(map(repr, content)) if isinstance(content, Mapping) else f"a {type(content).__name__}"
            msg = f"{where}: --weights-key '{key}': expected '{part}' to be one of {known}"
            raise InvalidParameter(msg)
        content = content[part]
    return content


def _tensors(content: Any, where: str) -> dict[str, Any]:
    torch = need("torch")
    if not isinstance(content, Mapping):
        msg = f"{where}: expected tensors by name, as network.state_dict() gives them, got a {type(content).__name__}"
        raise InvalidParameter(msg)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    others = [str(name) for name in content if str(name) not in tensors]
    if others or not tensors:
        inside = [name for name, value in content.items() if isinstance(value, Mapping)]
        hint = f": name the one that has the weights, --weights-key {inside[0]}" if inside else ""
        what = f"{_some(others) or 'nothing'}{hint}"
        msg = f"{where}: expected tensors by name and nothing else, got {what}"
        raise InvalidParameter(msg)
    return tensors


def _without(prefix: str, tensors: dict[str, Any], where: str) -> dict[str, Any]:
    for name in tensors:
        if not name.startswith(prefix):
            msg = f"{where}: --weights-prefix '{prefix}': expected it before every name, got '{name}'"
            raise InvalidParameter(msg)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _check(state: Mapping[str, Any], tensors: Mapping[str, Any], where: str) -> None:
    storages = {_place(state[name]) for name in tensors if name in state}
    lacking = [name for name in state if name not in tensors and _place(state[name]) not in storages]
    if all(f".{name}".endswith(COUNTER) for name in lacking):
        lacking = []
    unknown = [name for name in tensors if name not in state]
    shapes = [
        f"'{name}': expected {list(state[name].shape)}, got {list(tensor.shape)}"
        for name, tensor in tensors.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if not (lacking or unknown or shapes):
        return
    found = [
        *([f"{len(lacking)} missing: {_some(lacking)}"] if lacking else []),
        *([f"{len(unknown)} that the network has not: {_some(unknown)}"] if unknown else []),
        *([f"{len(shapes)} of another shape: {'; '.join(shapes[:MANY])}"] if shapes else []),
    ]
    msg = f"{where}: expected the network's {len(state)} tensors, got {'; '.join(found)}{_hint(lacking, unknown)}"
    raise InvalidParameter(msg)


def _hint(lacking: list[str], unknown: list[str]) -> str:
    """Every name with one prefix too many is what torch's DataParallel and compile leave behind."""
    prefixes = {name.removesuffix(wanted) for name, wanted in zip(sorted(unknown), sorted(lacking), strict=False)}
    if len(unknown) == len(lacking) and len(prefixes) == 1 and (prefix := prefixes.pop()) and prefix not in unknown:
        return f". Is it --weights-prefix {prefix}?"
    return ""


def _place(tensor: Any) -> tuple[Any, ...]:
    """Where a tensor lies: the same for tied weights. Empty ones lie nowhere."""
    return (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (id(tensor),)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(map(repr, names[:MANY])) + more
