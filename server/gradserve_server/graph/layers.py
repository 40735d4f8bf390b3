"""The tensors of a model that requests can name: layers, and where derivatives can begin."""

import difflib
from collections.abc import Sequence
from functools import cached_property

import onnx_ir as ir

from gradserve.errors import NotDifferentiable, UnknownInput, UnknownLayer
from gradserve_server.graph.derivatives import Policy, layer_backends
from gradserve_server.graph.inference_form import InferenceForm
from gradserve_server.graph.values import FLOATS, is_float


class Layers:
    """The names of one model.

    Args:
        name: Of the model, for errors.
        form: Its inference form. Not changed.
    """

    def __init__(self, name: str, form: InferenceForm) -> None:
        self._name, self._graph, self._model, self._renames = name, form.model.graph, form.model, form.renames
        self.values = {value.name: value for node in self._graph for value in node.outputs if value.name}
        """What the nodes make, by name, in the order of the graph."""
        self._inputs = {value.name or "": value for value in self._graph.inputs}

    def dtype(self, name: str) -> str:
        """The element type of an input or layer in gradient graphs, which compute half types in float32."""
        value = self.values[name] if name in self.values else self._inputs[name]
        return "float64" if value.dtype is ir.DataType.DOUBLE else "float32"

    @property
    def float_inputs(self) -> tuple[str, ...]:
        """Inputs that gradients can be taken with respect to."""
        return tuple(value.name or "" for value in self._graph.inputs if value.dtype in FLOATS)

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """Where derivatives can begin: the float inputs, and what is looked up with integer ones (embeddings)."""
        inputs = set(self._graph.inputs)
        looked_up = (
            node.outputs[0].name or ""
            for node in self._graph
            # The indices come from outside: constants and shapes look up nothing.
            if node.op_type == "Gather" and is_float(node.outputs[0]) and node.inputs[1] in inputs
        )
        return (*self.float_inputs, *(name for name in looked_up if name))

    def resolve(self, layer: str) -> str:
        """The tensor that a layer's name stands for, names from before the rewriting included.

        Raises:
            UnknownLayer: There is none; the text names the nearest that is left.
        """
        layer = self._renames.same.get(layer, layer)
        if layer in self.values:
            return layer
        if layer in self._renames.folded:
            nearest = self._renames.folded[layer]
            msg = f"layer '{layer}': was folded away with the BatchNormalization after it; the nearest layer is '{nearest}'"
            raise UnknownLayer(msg)
        close = difflib.get_close_matches(layer, self.values, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "`layers` lists them"
        msg = f"layer '{layer}': model '{self._name}' has no such layer; {hint}"
        raise UnknownLayer(msg)

    def wrt(self, names: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
        """What to differentiate with respect to: the inputs or layers named, or every float input that reaches a layer.

        Raises:
            UnknownInput: A name that is neither an input nor a layer.
            NotDifferentiable: No float input reaches any of the layers.
        """
        if names:
            return tuple(dict.fromkeys(map(self._start, names)))
        found = tuple(name for name, reached in self._dependents.items() if any(layer in reached for layer in layers))
        if not found:
            msg = f"layer {', '.join(map(repr, layers))}: does not depend on a float input of model '{self._name}'"
            embeddings = [name for name in self.starts if name not in self.float_inputs]
            hint = f"; name a layer to differentiate with respect to, such as '{embeddings[0]}'" if embeddings else ""
            raise NotDifferentiable(msg + hint)
        return found

    def _start(self, name: str) -> str:
        if name in self._inputs:
            return name
        try:
            return self.resolve(name)
        except UnknownLayer as error:
            msg = f"input '{name}': expected one of {', '.join(map(repr, sorted(self._inputs)))}, or a layer"
            raise UnknownInput(msg) from error

    @cached_property
    def _dependents(self) -> dict[str, set[str]]:
        """The layers that depend on each float input."""
        return {
            name: {value.name or "" for value in layer_backends(self._model, [name], Policy())} for name in self.float_inputs
        }
