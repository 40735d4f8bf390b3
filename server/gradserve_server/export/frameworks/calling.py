"""How a network on torch is called, and what its results are called. It runs as it is: in training form or not."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from gradserve.errors import InvalidParameter
from gradserve_server.export.settings import Input

__all__ = ["Call", "Flat", "choose", "name_inputs"]

NEAR = 0.75
"""How alike a new name and one of forward's are that are taken for one with a typing error: "pixel_value"."""

Call = Callable[[Any, Mapping[str, Any], bool], Any]
"""Of a network with tensors by input, in training form or not."""


def call_module(network: Any, tensors: Mapping[str, Any], training: bool) -> Any:
    """Of a plain `torch.nn.Module`, whose form is a state of its own: by keyword where `forward` has such, else in order."""
    del training
    if set(tensors) <= set(_parameters(network)) or _takes_keywords_only(network):
        return network(**tensors)
    return network(*tensors.values())


def name_inputs(network: Any, inputs: Sequence[Input]) -> list[Input]:
    """Names for the inputs that have none: those of `forward`, in order.

    Raises:
        InvalidParameter: None are given, or some of the names are those of `forward`, and some are not, or nearly.
    """
    parameters = _parameters(network)
    if not inputs:
        msg = "inputs: expected a shape for each, as in --input 1x3x224x224, or --input NAME=SHAPE for several, got none"
        raise InvalidParameter(msg)
    if not all(one.name for one in inputs):
        names = [*parameters, *(f"input_{index}" for index in range(len(parameters), len(inputs)))]
        inputs = [replace(one, name=one.name or name) for one, name in zip(inputs, names, strict=False)]
    names = [one.name for one in inputs]
    if len(set(names)) < len(names):
        msg = f"inputs: expected a name for each, got {', '.join(names)}"
        raise InvalidParameter(msg)
    known = [name for name in names if name in parameters]
    if known and len(known) < len(names):
        other = next(name for name in names if name not in parameters)
        msg = f"input '{other}': expected one of forward's {', '.join(parameters)}, because '{known[0]}' is"
        raise InvalidParameter(msg)
    for name in names:
        if not known and get_close_matches(name, parameters, cutoff=NEAR):
            msg = f"input '{name}': expected one of forward's {', '.join(parameters)}, or a name that is not nearly one"
            raise InvalidParameter(msg)
    return list(inputs)


def _parameters(network: Any) -> list[str]:
    kinds = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return [p.name for p in inspect.signature(network.forward).parameters.values() if p.kind in kinds]


def _takes_keywords_only(network: Any) -> bool:
    """Whether `forward` is of the form (*, a, **others): nothing can be passed in order."""
    kinds = {p.kind for p in inspect.signature(network.forward).parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds and kinds <= {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }


@dataclass(frozen=True)
class Flat:
    """A network as a function of tensors by name that gives tensors by name.

    Args:
        network: A `torch.nn.Module`.
        call: How it is called.
        chosen: Of its results, by the name that they have there, the names that they get; None: all, as they are.
        alone: What a single result is called.
    """

    network: Any
    call: Call
    chosen: Mapping[str, str] | None = None
    alone: str = "output"

    def __call__(self, tensors: Mapping[str, Any], *, training: bool = False) -> dict[str, Any]:
        """The results by name."""
        results = self._flat(self.call(self.network, tensors, training))
        if self.chosen is None:
            return results
        return {name: results[key] for key, name in self.chosen.items() if key in results}

    def _flat(self, result: Any) -> dict[str, Any]:
        if isinstance(result, Mapping):
            return {str(key): value for key, value in result.items() if value is not None}
        if isinstance(result, (list, tuple)):
            fields = getattr(result, "_fields", None)  # of a named tuple
            return {fields[i] if fields else f"{self.alone}_{i}": v for i, v in enumerate(result) if v is not None}
        return {self.alone: result}


def choose(results: Mapping[str, Any], asked: Sequence[str], tensor: type) -> dict[str, str]:
    """Which results are outputs of the file, by their name in the network, and what they are called in it.

    Args:
        results: Of a run.
        asked: Names of results; or a new name for each.
        tensor: What a result must be.

    Raises:
        InvalidParameter: Names that are neither, or a result that is no tensor.
    """
    if not asked:
        chosen = {name: name for name in results}
    elif set(asked) <= set(results):
        chosen = {name: name for name in asked}
    elif len(asked) == len(results):
        chosen = dict(zip(results, asked, strict=True))
    else:
        known, got = (", ".join(map(repr, names)) for names in (results, asked))
        msg = f"outputs: expected some of {known}, or {len(results)} new names, got {got}"
        raise InvalidParameter(msg)
    if len(set(chosen.values())) < len(chosen):
        msg = f"outputs: expected another name for each, got {', '.join(asked)}"
        raise InvalidParameter(msg)
    for name in chosen:
        if not isinstance(results[name], tensor):
            msg = f"output '{name}': expected a tensor, got a {type(results[name]).__name__}: choose others with --outputs"
            raise InvalidParameter(msg)
    return chosen
