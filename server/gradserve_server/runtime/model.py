"""A model in memory: its inference form, the session that predicts, and the plans made from it so far."""

import hashlib
import logging
import threading
import weakref
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import numpy.typing as npt
import onnx_ir as ir
from cachetools import LRUCache

from gradserve.descriptions import ImageDescription, Layer, ModelDescription, TensorDescription
from gradserve.errors import GradserveError, InvalidModel, UnsupportedGradient
from gradserve_server.graph.autodiff import ort_training
from gradserve_server.graph.batch_axis import is_batched
from gradserve_server.graph.contained.limits import DEFAULT, Limits, check_values
from gradserve_server.graph.derivatives import DEFAULT_POLICY, Backend, Choice, Policy, Wanted, derive, layer_backends
from gradserve_server.graph.inference_form import InferenceForm, to_inference_form
from gradserve_server.graph.layers import Layers
from gradserve_server.graph.load import load
from gradserve_server.graph.values import opset_of, shape_of
from gradserve_server.graph.weights import constants, let_go
from gradserve_server.runtime.batch import Batch
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.device import Device
from gradserve_server.runtime.dynamic_batching import dynamic_batching
from gradserve_server.runtime.events import Observer, PlanBuilt, nobody
from gradserve_server.runtime.feeds import check_feeds, crashes_on_empty, describe_tensor, dtype_name
from gradserve_server.runtime.footprint import Footprint, footprint
from gradserve_server.runtime.freed_memory import WORTH_GIVING_BACK, give_back
from gradserve_server.runtime.image_descriptions import Fields, descriptions, joined, said
from gradserve_server.runtime.memory import MemoryBudget
from gradserve_server.runtime.plan import Plan, verb_of
from gradserve_server.runtime.plans import Plans
from gradserve_server.runtime.predictor import Predictor
from gradserve_server.runtime.questions import Questions
from gradserve_server.runtime.runs import Prediction
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.served_config import served_config
from gradserve_server.runtime.session import Array, Session, newest_opset
from gradserve_server.runtime.tensors import contiguous
from gradserve_server.runtime.tuned import tuned_session, warn_untuned
from gradserve_server.runtime.verify import rewrite_error
from gradserve_server.runtime.weights_file import WeightsFile
from gradserve_server.runtime.work import Subject

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
        device: Where it runs.
        max_plans: Plans kept ready.
        scheduler: Of the device that it runs on.
        policy: How gradients are made.
        images: What is said of the pixels of each input; it goes before what the file says.
        labels: Labels by output.
        config: The `inference.ModelConfig` of the repository.
        observe: Told of plans.
        budget: What plans are counted in. The model itself is counted by whoever loads it.
        limits: What the file may claim.

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
        device: Device = Device.CPU,
        max_plans: int,
        scheduler: Scheduler,
        policy: Policy = DEFAULT_POLICY,
        images: Fields | None = None,
        labels: dict[str, tuple[str, ...]] | None = None,
        config: Any = None,
        observe: Observer = nobody,
        budget: MemoryBudget | None = None,
        limits: Limits = DEFAULT,
    ) -> None:
        self.name, self.version = name, version
        source = load(file, limits)
        described = descriptions(joined(said(source.model.metadata_props, f"model '{name}': metadata"), images or {}))
        form = to_inference_form(source.model, newest_opset())
        check_values(form.model, limits, f"model '{name}'")
        _check_types(name, form)
        self._model, self._threads, self._device, self._scheduler = form.model, threads, device, scheduler
        self._names = Layers(name, form)
        self._not_empty_for = crashes_on_empty(form.model)
        self._policy = policy
        self._weights = WeightsFile(form.model)
        session, error, self._tunes = _checked(name, form, threads, device)
        self._predictor = Predictor(session)
        self._description = ModelDescription(
            name=name,
            version=str(version),
            sha256=source.sha256,
            opset=opset_of(source.model),
            inputs=tuple(
                replace(describe_tensor(value), image=described.get(value.name or "")) for value in form.model.graph.inputs
            ),
            outputs=tuple(
                replace(describe_tensor(value), labels=(labels or {}).get(value.name or "", ()))
                for value in form.model.graph.outputs
            ),
            rewrites=form.rewrites,
            rewrite_error=error,
            backend=str(policy.backend),
            backend_reason=_backend_reason(policy.backend),
        )
        self._check_descriptions(set(described), set(labels or {}))
        self._config = served_config(config, self._description, file.name)
        self._batching = dynamic_batching(self._config, name, form.model, session)
        if self._batching.batch is not None:  # which has it, and what it saw of it, for good
            self._predictor.session(self._open_again)
        self._observe = observe
        self._plans = Plans(max_plans, observe)
        self.questions = Questions()
        """What objectives asked of it."""
        self._footprint = footprint(form.model, is_open=False) | session.footprint
        self._budget = budget or MemoryBudget()
        self._budget.watch(self._plans)
        self._shapes: LRUCache[tuple[str | Shape, ...], Shape] = LRUCache(MAX_SEEN_SHAPES)
        self._shapes_lock = threading.Lock()
        let_go(source.model)
        let_go(form.reference)
        self._settle(self._footprint)
        # The graph refers to itself in circles, and would hold the weights until the next garbage collection.
        weakref.finalize(self, let_go, form.model).atexit = False
        done = "; ".join(self._description.rewrites) or "already in inference form"
        _log.info("model '%s' version %d: %s", name, version, done)

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._device

    @property
    def description(self) -> ModelDescription:
        """Inputs, outputs, and what was done to the file."""
        return self._description

    @property
    def inputs(self) -> tuple[TensorDescription, ...]:
        """What the model takes."""
        return self._description.inputs

    @property
    def config(self) -> Any:
        """The `inference.ModelConfig` that it is served with: the repository's, completed from the graph."""
        return self._config

    def check(self, given: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """The arrays of a request as onnxruntime takes them. See `feeds.check_feeds`."""
        return check_feeds(self.inputs, given, self._not_empty_for)

    def batch_size(self, feeds: Mapping[str, Array]) -> int:
        """Samples of a request: along the first axis where the configuration says that the model has batches, else 1."""
        sizes = [array.shape[0] for array in feeds.values() if array.shape] if self._config.max_batch_size else []
        return max(sizes, default=1)

    def weights_sha256(self) -> str:
        """Of all constants, as they are in memory at this moment: what must never change."""
        digest = hashlib.sha256()
        for name, tensor in sorted(constants(self._model)):
            digest.update(name.encode() + contiguous(tensor.numpy()).tobytes())
        self._weights.let_go()
        return digest.hexdigest()

    @property
    def own_bytes(self) -> int:
        """What it keeps in memory without plans."""
        return self._footprint.size

    @property
    def plan_bytes(self) -> int:
        """What its plans keep beside that, at this moment."""
        return sum(plan.session.footprint.beside(self._footprint) for plan in self._plans.kept)

    @property
    def memory_bytes(self) -> int:
        """What it keeps in memory, at this moment."""
        return self.own_bytes + self.plan_bytes

    @property
    def float_inputs(self) -> tuple[str, ...]:
        """Inputs that gradients can be taken with respect to."""
        return self._names.float_inputs

    def dtype(self, layer: str) -> str:
        """The element type of an input or layer in gradient graphs, which compute half types in float32."""
        return self._names.dtype(layer)

    def predict(self, feeds: dict[str, Array], outputs: Sequence[str], caller: Caller = ANYONE) -> dict[str, Array]:
        """Runs the model as a whole, by one session that nothing else uses: same inputs, same bytes.

        Where the model's configuration asks for it, with those of others: then the last bits may differ.
        """
        subject = Subject(self.name, self.version, "infer")
        work = Prediction(self._predictor.session(self._open_again), feeds, outputs, caller, self._batching, subject)
        results: dict[str, Array] = self._scheduler.run(work)
        return results

    # ---- layers ------------------------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The tensors that objectives and activations can name, in the order of the graph."""
        reached = layer_backends(self._model, self._names.starts, self._policy)
        apart = (Choice(self._policy.backend, ""), ("does not depend on a float input",))
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
            for name, value in self._names.values.items()
            if (node := value.producer()) is not None
            for choice, problems in [reached.get(value, apart)]
        )

    def resolve(self, layer: str) -> str:
        """The tensor that a layer's name stands for. See `graph.layers.Layers.resolve`."""
        return self._names.resolve(layer)

    def wrt(self, names: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
        """What to differentiate with respect to. See `graph.layers.Layers.wrt`."""
        return self._names.wrt(names, layers)

    def layer_shapes(self, layers: Sequence[str], feeds: dict[str, Array]) -> dict[str, Shape]:
        """The shapes that layers have for these inputs: known from the graph, or seen by running it once."""
        known = self.known_shapes(layers, feeds)
        return {layer: known[layer] if layer in known else self._seen_shape(layer, feeds) for layer in layers}

    def known_shapes(self, layers: Sequence[str], feeds: dict[str, Array]) -> dict[str, Shape]:
        """The shapes that layers have for these inputs, as far as the graph tells."""
        sizes = {
            symbol: size
            for tensor in self.inputs
            for symbol, size in zip(tensor.shape, feeds[tensor.name].shape, strict=True)
            if isinstance(symbol, str)
        }
        shapes: dict[str, Shape] = {}
        for layer in layers:
            static = shape_of(self._names.values[layer])
            known = tuple(sizes.get(size, 0) if isinstance(size, str) else size or 0 for size in static or (None,))
            # 0 marks what the graph does not tell (and an empty axis, which then is seen by running).
            if all(known):
                shapes[layer] = known
        return shapes

    def _seen_shape(self, layer: str, feeds: dict[str, Array]) -> Shape:
        key: tuple[str | Shape, ...] = (layer, *(array.shape for array in feeds.values()))
        with self._shapes_lock:
            shape = self._shapes.get(key)
        if shape is None:
            shape = self.plan(Wanted((), (layer,))).run(feeds)[layer].shape
            with self._shapes_lock:
                self._shapes[key] = shape
        return shape

    # ---- plans -------------------------------------------------------------------------------------------------------

    def plan(self, key: Wanted) -> Plan:
        """The plan for a kind of request, made on first use.

        Raises:
            NotDifferentiable: A target does not depend on an input.
            UnsupportedGradient: Nodes on the way have no gradient; the text names them.
            BackendMissing: The backend that was asked for is not installed.
            LimitExceeded: It does not fit into the memory that models may take.
        """
        return self._plans.get(key, lambda: self._make_plan(key))

    def _make_plan(self, key: Wanted) -> Plan:
        subject, began = Subject(self.name, self.version, verb_of(key)), monotonic()
        derived = derive(self._model, key, self._policy)
        try:
            # What is no gradient is as good as a prediction, and has its bytes where it is one's.
            session = self._session(derived.model, prepack=not key.wrt)
            if key.wrt:  # only now: until then it holds weights in blocks that the gradient may share
                self._predictor.rest()
        except InvalidModel as error:
            if not key.wrt:
                raise
            msg = f"model '{self.name}': the gradient of {', '.join(key.layers)} does not run: {error}"
            raise UnsupportedGradient(msg) from error
        what = f"model '{self.name}': plan for {', '.join(key.layers)}"
        self._budget.hold(session, session.footprint.beside(self._footprint), what)
        kept = {value.name for value in derived.model.graph.inputs}
        # What is no gradient runs alone, like a prediction.
        fed = frozenset(name for head in key.heads for name in head.inputs)
        # An objective across the samples of a batch must see those of one caller only.
        alone = not key.wrt or any(head.across for head in key.heads)
        batch = Batch(session, fed) if not alone and is_batched(derived.model, fed) else None
        let_go(derived.model)
        self._settle(session.footprint)
        _log.info("model '%s' version %d: plan for %s by %s", self.name, self.version, key, derived.choice)
        inputs = frozenset(tensor.name for tensor in self.inputs if tensor.name in kept)
        self._observe(PlanBuilt(subject, began, monotonic()))
        return Plan(key, session, inputs, derived.choice, self._scheduler, batch, subject)

    def _open_again(self) -> Session:
        session = self._session(self._model)
        self._settle(session.footprint)
        return session

    def _session(self, graph: ir.Model, *, prepack: bool = True) -> Session:
        open_session = tuned_session if self._tunes else Session
        return open_session(graph, self._threads, prepack=prepack, device=self._device)

    def _settle(self, made: Footprint) -> None:
        """Once something was made of the weights: memory that only the making took goes back."""
        self._weights.let_go()
        if made.size >= WORTH_GIVING_BACK:
            give_back()

    def _check_descriptions(self, images: Set[str], labels: Set[str]) -> None:
        for kind, names, tensors in (
            ("gradserve.input.", images, self._description.inputs),
            ("config.pbtxt: label_filename of output ", labels, self._description.outputs),
        ):
            known = sorted(tensor.name for tensor in tensors)
            for name in names - set(known):
                msg = f"model '{self.name}': {kind}{name}: expected one of {', '.join(known)}"
                raise InvalidModel(msg)
        for tensor in self._description.inputs:
            if tensor.image is not None:
                _check_channels(self.name, tensor, tensor.image)


def _checked(name: str, form: InferenceForm, threads: int, device: Device) -> tuple[Session, float, bool]:
    """The session that predicts, its difference from the file, and whether it is tuned: as it is should that be wrong."""
    try:
        tuned = tuned_session(form.model, threads, device=device)
        return tuned, rewrite_error(name, form, tuned, threads), True
    except GradserveError as error:
        session = Session(form.model, threads, device=device)
        difference = rewrite_error(name, form, session, threads)
        warn_untuned(error)
        return session, difference, False


def _check_types(model: str, form: InferenceForm) -> None:
    for kind, values in (("input", form.model.graph.inputs), ("output", form.model.graph.outputs)):
        for value in values:
            if value.type is not None and not isinstance(value.type, ir.TensorType):
                msg = f"model '{model}': {kind} '{value.name}': expected a tensor, got {value.type}"
                raise InvalidModel(msg)


def _check_channels(model: str, tensor: TensorDescription, image: ImageDescription) -> None:
    axis = 1 if image.layout == "NCHW" else -1
    channels = tensor.shape[axis] if len(tensor.shape) > 1 else 1
    for key, values in (("mean", image.mean), ("std", image.std)):
        if isinstance(channels, int) and len(values) not in (1, channels):
            where = f"model '{model}': gradserve.input.{tensor.name}.{key}"
            msg = f"{where}: expected 1 or {channels} numbers, got {len(values)}"
            raise InvalidModel(msg)


def _backend_reason(backend: Backend) -> str:
    if backend is not Backend.AUTO:
        return "asked for"
    if ort_training.available():
        return "training where every operator on the path is on its verified list, else portable; `layers` says which"
    return "portable: onnxruntime-training is not installed"
