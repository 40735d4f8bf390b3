"""A model in memory: its inference form, the session that predicts, and the plans made from it so far."""

import difflib
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import onnx_ir as ir
from cachetools import LRUCache, cachedmethod

from gradserve.descriptions import ImageDescription, Layer, ModelDescription, TensorDescription
from gradserve.errors import InvalidModel, NotDifferentiable, UnknownInput, UnknownLayer, UnsupportedGradient
from gradserve_server.graph.autodiff import ort_training
from gradserve_server.graph.derivatives import Backend, Choice, Wanted, derive, layer_backends
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.load import load
from gradserve_server.graph.values import FLOATS, is_float, opset_of, shape_of
from gradserve_server.runtime.feeds import describe_tensor, dtype_name
from gradserve_server.runtime.plan import Plan
from gradserve_server.runtime.session import Array, Session
from gradserve_server.runtime.verify import rewrite_error

_log = logging.getLogger(__name__)

Shape = tuple[int, ...]

MAX_SEEN_SHAPES = 1024
"""Shapes of layers remembered, for models whose graphs do not tell."""


class Model:
    """One version of a served model.

    Nothing here changes after construction but caches, so that no request can change the answer to another.

    Args:
        name: Of the model.
        version: Of the model.
        file: The ONNX file.
        threads: Threads that share one run.
        max_plans: Plans kept ready.
        backend: Who makes the gradients.
        images: Image descriptions by input.
        labels: Labels by output.

    Raises:
        InvalidModel: The file cannot be served.
    """

    def __init__(
        self,
        name: str,
        version: int,
        file: Path,
        *,
        threads: int,
        max_plans: int,
        backend: Backend = Backend.AUTO,
        images: dict[str, ImageDescription] | None = None,
        labels: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.name, self.version = name, version
        source = load(file)
        form = to_inference_form(source.model)
        self._model, self._renames, self._threads = form.model, form.renames, threads
        self._backend = backend
        self._predict = Session(form.model, threads)
        self._description = ModelDescription(
            name=name,
            version=str(version),
            sha256=source.sha256,
            opset=opset_of(form.model),
            inputs=tuple(
                replace(describe_tensor(value), image=(images or {}).get(value.name or ""))
                for value in form.model.graph.inputs
            ),
            outputs=tuple(
                replace(describe_tensor(value), labels=(labels or {}).get(value.name or "", ()))
                for value in form.model.graph.outputs
            ),
            rewrites=form.rewrites,
            rewrite_error=rewrite_error(name, form, self._predict, threads),
            backend=str(backend),
            backend_reason=_backend_reason(backend),
        )
        self._check_descriptions(set(images or {}), set(labels or {}))
        self._plans: LRUCache[Wanted, Plan] = LRUCache(max_plans)
        self._shapes: LRUCache[tuple[str | Shape, ...], Shape] = LRUCache(MAX_SEEN_SHAPES)
        self._shapes_lock = threading.Lock()
        self._building = threading.Condition()
        _log.info("model '%s' version %d: %s", name, version, "; ".join(form.rewrites) or "already in inference form")

    @property
    def description(self) -> ModelDescription:
        """Inputs, outputs, and what was done to the file."""
        return self._description

    @property
    def inputs(self) -> tuple[TensorDescription, ...]:
        """What the model takes."""
        return self._description.inputs

    @property
    def float_inputs(self) -> tuple[str, ...]:
        """Inputs that gradients can be taken with respect to."""
        return tuple(value.name or "" for value in self._model.graph.inputs if value.dtype in FLOATS)

    def dtype(self, layer: str) -> str:
        """The element type of an input or layer in gradient graphs, which compute half types in float32."""
        values = ir.convenience.create_value_mapping(self._model.graph)
        return "float64" if values[layer].dtype is ir.DataType.DOUBLE else "float32"

    def predict(self, feeds: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Runs the model as a whole, by one session that nothing else uses: same inputs, same bytes."""
        return self._predict.run(feeds, outputs)

    # ---- layers ------------------------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The tensors that objectives and activations can name, in the order of the graph."""
        reached = layer_backends(self._model, self._starts, self._backend)
        apart = (Choice(self._backend, ""), ("does not depend on a float input",))
        return tuple(
            Layer(
                name=name,
                op=node.op_type,
                dtype=dtype_name(value),
                shape=shape_of(value) or (),
                differentiable=not problems,
                reason="; ".join(problems),
                backend="" if problems else str(choice.backend),
                backend_reason="" if problems else choice.reason,
            )
            for name, value in self._layer_values.items()
            if (node := value.producer()) is not None
            for choice, problems in [reached.get(value, apart)]
        )

    def resolve(self, layer: str) -> str:
        """The tensor that a layer's name stands for, names from before the rewriting included.

        Raises:
            UnknownLayer: There is none; the text names the nearest that is left.
        """
        layer = self._renames.same.get(layer, layer)
        if layer in self._layer_values:
            return layer
        if layer in self._renames.folded:
            nearest = self._renames.folded[layer]
            msg = f"layer '{layer}': was folded away with the BatchNormalization after it; the nearest layer is '{nearest}'"
            raise UnknownLayer(msg)
        close = difflib.get_close_matches(layer, self._layer_values, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "`layers` lists them"
        msg = f"layer '{layer}': model '{self.name}' has no such layer; {hint}"
        raise UnknownLayer(msg)

    def layer_shapes(self, layers: Sequence[str], feeds: dict[str, Array]) -> dict[str, Shape]:
        """The shapes that layers have for these inputs: known from the graph, or seen by running it once."""
        sizes = {
            symbol: size
            for tensor in self.inputs
            for symbol, size in zip(tensor.shape, feeds[tensor.name].shape, strict=True)
            if isinstance(symbol, str)
        }
        shapes: dict[str, Shape] = {}
        for layer in layers:
            static = shape_of(self._layer_values[layer])
            known = tuple(sizes.get(size, 0) if isinstance(size, str) else size or 0 for size in static or (None,))
            # 0 marks what the graph does not tell (and an empty axis, which then is seen by running).
            shapes[layer] = known if all(known) else self._seen_shape(layer, feeds)
        return shapes

    @cachedmethod(
        lambda self: self._shapes,
        key=lambda _, layer, feeds: (layer, *(array.shape for array in feeds.values())),
        lock=lambda self: self._shapes_lock,
    )
    def _seen_shape(self, layer: str, feeds: dict[str, Array]) -> Shape:
        return self.plan(Wanted((), (layer,))).run(feeds)[layer].shape

    # ---- plans -------------------------------------------------------------------------------------------------------

    @cachedmethod(lambda self: self._plans, key=lambda _, key: key, condition=lambda self: self._building)
    def plan(self, key: Wanted) -> Plan:
        """The plan for a kind of request, made on first use.

        Raises:
            NotDifferentiable: A target does not depend on an input.
            UnsupportedGradient: Nodes on the way have no gradient; the text names them.
            BackendMissing: The backend that was asked for is not installed.
        """
        derived = derive(self._model, key, self._backend)
        try:
            session = Session(derived.model, self._threads, prepack=False)
        except InvalidModel as error:
            if not key.wrt:
                raise
            msg = f"model '{self.name}': the gradient of {', '.join(key.layers)} does not run: {error}"
            raise UnsupportedGradient(msg) from error
        kept = {value.name for value in derived.model.graph.inputs}
        _log.info("model '%s' version %d: plan for %s by %s", self.name, self.version, key, derived.choice)
        return Plan(key, session, frozenset(tensor.name for tensor in self.inputs if tensor.name in kept), derived.choice)

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
            msg = f"layer {', '.join(map(repr, layers))}: does not depend on a float input of model '{self.name}'"
            embeddings = [name for name in self._starts if name not in self.float_inputs]
            hint = f"; name a layer to differentiate with respect to, such as '{embeddings[0]}'" if embeddings else ""
            raise NotDifferentiable(msg + hint)
        return found

    def _start(self, name: str) -> str:
        known = [tensor.name for tensor in self.inputs]
        if name in known:
            return name
        try:
            return self.resolve(name)
        except UnknownLayer as error:
            msg = f"input '{name}': expected one of {', '.join(map(repr, sorted(known)))}, or a layer"
            raise UnknownInput(msg) from error

    @cached_property
    def _starts(self) -> tuple[str, ...]:
        """Where derivatives can begin: the float inputs, and what is looked up with integer ones (embeddings)."""
        inputs = set(self._model.graph.inputs)
        looked_up = (
            node.outputs[0].name or ""
            for node in self._model.graph
            if node.op_type == "Gather" and is_float(node.outputs[0]) and node.inputs[0] not in inputs
            # The indices come from outside: constants and shapes look up nothing.
            if node.inputs[1] in inputs
        )
        return (*self.float_inputs, *looked_up)

    @cached_property
    def _dependents(self) -> dict[str, set[str]]:
        """The layers that depend on each float input."""
        return {
            name: {value.name or "" for value in layer_backends(self._model, [name], self._backend)}
            for name in self.float_inputs
        }

    @cached_property
    def _layer_values(self) -> dict[str, ir.Value]:
        return {value.name: value for node in self._model.graph for value in node.outputs if value.name}

    def _check_descriptions(self, images: set[str], labels: set[str]) -> None:
        for kind, names, tensors in (
            ("gradserve.input.", images, self._description.inputs),
            ("label_filename of output ", labels, self._description.outputs),
        ):
            known = sorted(tensor.name for tensor in tensors)
            for name in names - set(known):
                msg = f"model '{self.name}': config.pbtxt: {kind}{name}: expected one of {', '.join(known)}"
                raise InvalidModel(msg)
        for tensor in self._description.inputs:
            if tensor.image is not None:
                _check_channels(self.name, tensor, tensor.image)


def _check_channels(model: str, tensor: TensorDescription, image: ImageDescription) -> None:
    axis = 1 if image.layout == "NCHW" else -1
    channels = tensor.shape[axis] if len(tensor.shape) > 1 else 1
    for key, values in (("mean", image.mean), ("std", image.std)):
        if isinstance(channels, int) and len(values) not in (1, channels):
            where = f"model '{model}': config.pbtxt: gradserve.input.{tensor.name}.{key}"
            msg = f"{where}: expected 1 or {channels} numbers, got {len(values)}"
            raise InvalidModel(msg)


def _backend_reason(backend: Backend) -> str:
    if backend is not Backend.AUTO:
        return "asked for"
    if ort_training.available():
        return "training where every operator on the path is on its verified list, else portable; `layers` says which"
    return "portable: onnxruntime-training is not installed"
