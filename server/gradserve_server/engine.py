"""The verbs, in process: what `gradserve.Client` asks of a server, without the server."""

import functools
import math
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import numpy as np
import numpy.typing as npt

from gradserve import AscentSettings, GradientResult, HessianResult, Layer, ModelDescription, ModelStatus, Objective, Step
from gradserve.diagnosis import Diagnosis
from gradserve.errors import InvalidTensor
from gradserve.stopping import Probability
from gradserve_server import kernels
from gradserve_server.ascent.canvases import canvas_on
from gradserve_server.ascent.climb import Signals
from gradserve_server.ascent.identity import identity
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.penalties import checked, with_penalties
from gradserve_server.ascent.spec import resolve
from gradserve_server.ascent.stopping import check_company, probability
from gradserve_server.ascent.watched import watched
from gradserve_server.config import EngineConfig
from gradserve_server.graph.autodiff.names import cotangent_name, hvp_name, tangent_name
from gradserve_server.graph.derivatives import Product, Wanted
from gradserve_server.graph.objectives import VALUE, heads
from gradserve_server.runtime import requests
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.control import Mode, ModelControl
from gradserve_server.runtime.device import Device, check_device
from gradserve_server.runtime.events import Observer, Observers
from gradserve_server.runtime.image_descriptions import PREFIX, said
from gradserve_server.runtime.loading import Loader
from gradserve_server.runtime.memory import MemoryBudget
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.overrides import Override
from gradserve_server.runtime.registry import Registry
from gradserve_server.runtime.repository import Repository
from gradserve_server.runtime.runs import Relay
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.terms import asked, resolved, rewrite, weights_of
from gradserve_server.runtime.work import Work


class Engine:
    """The models of a repository, loaded and ready: `Engine("models")`, or `Engine("model.onnx")` for one file.

    Has the verbs of `gradserve.Client` with the same signatures and exceptions. Safe to use from many threads: one run is on
    the device at a time, and gradients and ascents of different callers run as one batch (`runtime.scheduler`). Each verb
    also takes a `caller`, who may have a deadline or go away while the run waits for its turn.

    A call stays with the version that it began with, whatever is loaded or unloaded meanwhile (`runtime.registry`).

    Args:
        repository: A folder in Triton's layout, or an ONNX file, which is then a model named after it.
        config: How to run, and which models.
        observe: Told of runs, plans and ascents (`runtime.events`); `observers` takes more.
        images: How pixels become inputs, whatever the models say: texts by key, as in `{"image.range": "0 255"}`
            (`runtime.image_descriptions`).

    Raises:
        ModelNotFound: No model there, or none of a name to be loaded.
        InvalidModel: A model that cannot be served.
        LimitExceeded: The models do not fit into the memory that they may take.
        BackendMissing: No onnxruntime, or more than one.
    """

    def __init__(
        self,
        repository: str | Path,
        *,
        config: EngineConfig | None = None,
        observe: Observer | None = None,
        images: Mapping[str, str] | None = None,
    ) -> None:
        config = config or EngineConfig()
        self._config = config
        self._closed = threading.Event()
        check_device(Device(config.device))
        self.observers = Observers()
        """Told of runs, plans and ascents."""
        if observe is not None:
            self.observers.add(observe)
        self._scheduler = Scheduler(
            max_batch=config.max_batch,
            max_queue=config.max_queue,
            max_queue_per_caller=config.max_queue_per_caller,
            observe=self.observers,
        )
        kernels.set_num_threads(config.threads)  # of the process: its ascents share one pool
        present = Repository(Path(repository))
        told = said({PREFIX + key: text for key, text in (images or {}).items()}, "images:")
        loader = Loader(config, self._scheduler, MemoryBudget(config.memory_limit_mib), self.observers, told)
        self._registry = Registry(present, loader)
        mode = Mode(config.model_control_mode)
        self._control = ModelControl(present, self._registry, mode, config.repository_poll_seconds)
        with loader.trying():
            self._control.start(config.load_model, exit_on_error=config.exit_on_error)

    # ---- verbs -------------------------------------------------------------------------------------------------------

    def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str = "",
        caller: Caller = ANYONE,
    ) -> dict[str, Array]:
        """Runs the model. See `gradserve.Client.infer`."""
        return self.infer_with(self.model(model, version), inputs, outputs, caller)

    def infer_with(
        self, served: Model, inputs: Mapping[str, npt.ArrayLike], outputs: Sequence[str], caller: Caller = ANYONE
    ) -> dict[str, Array]:
        """As `infer`, on a version that `model` gave, even if another has taken its place meanwhile."""
        known = [tensor.name for tensor in served.description.outputs]
        for name in outputs:
            if name not in known:
                msg = f"output '{name}': expected one of {', '.join(map(repr, known))}"
                raise InvalidTensor(msg)
        return served.predict(served.check(inputs), outputs, caller)

    def gradient(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        objective: Objective,
        *,
        wrt: Sequence[str] = (),
        version: str = "",
        caller: Caller = ANYONE,
    ) -> GradientResult:
        """The objective for each sample and its gradient. See `gradserve.Client.gradient`."""
        served = self.model(model, version)
        feeds = served.check(inputs)
        question = asked(served, objective, feeds, wrt)
        plan = served.plan(question.wanted)
        results = plan.run(feeds, question.fed, caller)
        gradients = GradientResult(results[VALUE], plan.gradients(results, feeds))
        return with_penalties(gradients, question.terms.penalties, served.inputs, feeds)

    def vjp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        cotangents: Mapping[str, npt.ArrayLike],
        *,
        wrt: Sequence[str] = (),
        version: str = "",
        caller: Caller = ANYONE,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The vector-Jacobian product. See `gradserve.Client.vjp`."""
        served = self.model(model, version)
        feeds = served.check(inputs)
        if not cotangents:
            msg = "cotangents: expected at least one, got none"
            raise InvalidTensor(msg)
        asked = {name: served.resolve(name) for name in cotangents}
        layers = tuple(sorted(set(asked.values())))
        plan = served.plan(Wanted(served.wrt(wrt, layers), layers))
        shapes = served.layer_shapes(layers, feeds)
        extra: dict[str, Array] = {}
        for name, layer in asked.items():
            array = requests.like("cotangent", name, cotangents[name], shapes[layer], served.dtype(layer))
            known = extra.get(cotangent_name(layer))
            extra[cotangent_name(layer)] = array if known is None else np.asarray(array + known)
        results = plan.run(feeds, extra, caller)
        return {name: results[layer] for name, layer in asked.items()}, plan.gradients(results, feeds)

    def jvp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        tangents: Mapping[str, npt.ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str = "",
        caller: Caller = ANYONE,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The Jacobian-vector product. See `gradserve.Client.jvp`."""
        served = self.model(model, version)
        feeds = served.check(inputs)
        names = outputs or [tensor.name for tensor in served.description.outputs]
        asked = {name: served.resolve(name) for name in names}
        layers = tuple(sorted(set(asked.values())))
        extra = requests.tangents(served, tangents, feeds)
        plan = served.plan(Wanted(served.wrt(list(tangents), layers), layers, Product.JVP))
        results = plan.run(feeds, extra, caller)
        return (
            {name: results[layer] for name, layer in asked.items()},
            {name: results[tangent_name(layer)] for name, layer in asked.items()},
        )

    def hvp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        objective: Objective,
        tangents: Mapping[str, npt.ArrayLike],
        *,
        version: str = "",
        caller: Caller = ANYONE,
    ) -> HessianResult:
        """The Hessian-vector product of an objective. See `gradserve.Client.hvp`."""
        served = self.model(model, version)
        feeds = served.check(inputs)
        extra = requests.tangents(served, tangents, feeds)
        question = asked(served, objective, feeds, list(tangents), Product.HVP)
        plan = served.plan(question.wanted)
        results = plan.run(feeds, extra | dict(question.fed), caller)
        products = {name: results[hvp_name(name)] for name in plan.key.wrt}
        return HessianResult(results[VALUE], plan.gradients(results, feeds), products)

    def activations(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        layers: Sequence[str],
        *,
        version: str = "",
        caller: Caller = ANYONE,
        max_bytes: float = math.inf,
    ) -> dict[str, Array]:
        """The values of layers. See `gradserve.Client.activations`.

        More than `max_bytes` of them are refused before the model runs, where the graph tells their shapes.
        """
        served = self.model(model, version)
        feeds = served.check(inputs)
        if not layers:
            msg = "layers: expected at least one, got none"
            raise InvalidTensor(msg)
        asked = {name: served.resolve(name) for name in layers}
        requests.check_size(served, list(asked.values()), feeds, max_bytes)
        results = served.plan(Wanted((), tuple(sorted(set(asked.values()))))).run(feeds, caller=caller)
        return {name: results[layer] for name, layer in asked.items()}

    def ascend(
        self,
        model: str,
        objective: Objective,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        should_interrupt: Callable[[], bool] = lambda: False,
        caller: Caller = ANYONE,
        **settings: Unpack[AscentSettings],
    ) -> Iterator[Step]:
        """Changes an input step by step so that the objective grows. See `gradserve.Client.ascend`.

        What is wrong with the request is raised here and now, not when the iterator is first read.

        Args:
            model: Its name.
            objective: What to make large.
            should_stop: Asked before each step; once it says yes, the iterator ends.
            should_interrupt: Asked in each step; once it says yes, the iterator ends with a report that has a checkpoint.
            caller: Whose turn its steps take, and until when they wait for it.
            **settings: See `gradserve.AscentSettings`.
        """
        served = self.model(model, settings.get("version", ""))
        terms = resolved(served, objective)
        spec = resolve(settings, served.inputs, served.float_inputs, self._config)
        spec = replace(spec, penalties=checked(terms.penalties, spec.image))
        feeds = served.check(spec.feeds)
        wanted = Wanted(served.wrt([spec.input], terms.layers), heads(terms.of_layers))
        check_company(spec.keep, wanted.heads)
        weights = weights_of(served, terms, feeds, spec.input)
        fed = weights.all()
        plan = served.plan(wanted)
        values = np.empty(spec.count, np.float32)
        canvas = canvas_on(served.device, spec, feeds[spec.input])
        signals = Signals(lambda: self._closed.is_set() or should_stop(), should_interrupt)
        caller, relay = replace(caller, should_stop=signals.any), Relay()
        meets = (feeds, fed, values, canvas.exchange, caller)
        runs = plan.bind(*meets, changing=weights.are_scheduled)
        redirected = None
        if spec.redirect_relu_steps:
            redirecting = served.plan(wanted._replace(redirect_relu=True))
            redirected = relay.of(redirecting.bind(*meets, changing=weights.are_scheduled))
        measure = None
        if isinstance(goal := spec.stop_at, Probability):
            measure = probability(goal, served, terms.of_layers, feeds, lambda: {spec.input: canvas.seen()}, caller)
        reports = ascend(
            spec,
            relay.of(runs),
            canvas,
            values,
            redirected=redirected,
            measure=measure,
            identity=functools.cache(lambda: identity(spec, served.description, terms.everything, feeds)),
            signals=signals,
            weigh=(lambda progress: rewrite(fed, weights.scaled(progress))) if weights.are_scheduled else None,
        )

        # It holds its model, too: one that is unloaded goes when its last ascent has ended.
        def steps(_: Model = served) -> Generator[Step]:
            with relay:
                yield from reports

        return watched(steps(), runs.subject, self.observers)

    def layers(self, model: str, *, version: str = "") -> list[Layer]:
        """The tensors that objectives and `activations` can name. See `gradserve.Client.layers`."""
        return list(self.model(model, version).layers)

    def inspect(self, model: str, *, version: str = "") -> ModelDescription:
        """Inputs, outputs, image description and gradient backend. See `gradserve.Client.inspect`."""
        return self.model(model, version).description

    def doctor(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        *,
        version: str = "",
        caller: Caller = ANYONE,
    ) -> Diagnosis:
        """What is wrong with a model of the repository, loaded or not. See `gradserve.Client.doctor`.

        It ends early, and so does its process, once the caller has gone or the engine is closed.
        """
        gone = caller.should_stop or (lambda: False)
        caller = replace(caller, should_stop=lambda: self._closed.is_set() or gone())
        return self._registry.examine(model, version, inputs, caller)

    # ---- models ------------------------------------------------------------------------------------------------------

    def models(self) -> list[ModelStatus]:
        """Every model of the repository, loaded or not. See `gradserve.Client.models`."""
        return self._registry.index()

    def load(self, model: str, *, override: Override | None = None) -> list[ModelStatus]:
        """Loads a model, or loads it again. See `gradserve.Client.load`.

        Args:
            model: Its name.
            override: What is to count instead of the repository's configuration and files.
        """
        self._control.load(model, override)
        return self._registry.status(model)

    def unload(self, model: str) -> list[ModelStatus]:
        """Unloads a model. See `gradserve.Client.unload`."""
        self._control.unload(model)
        return self._registry.status(model)

    @property
    def line(self) -> list[Work]:
        """What waits for the device."""
        return self._scheduler.line

    @property
    def versions(self) -> list[Model]:
        """Every version that is served."""
        return self._registry.served

    @property
    def ready(self) -> bool:
        """Whether no model has failed to load."""
        return self._registry.all_ready

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls a function now and after each load and unload, of failed ones too; returns what ends this."""
        return self._registry.on_change(listener)

    def model(self, name: str, version: str = "") -> Model:
        """A model's version; the latest if none is given.

        Raises:
            ModelNotFound: No such model, or no such version.
        """
        return self._registry.get(name, version)

    def close(self) -> None:
        """Ends the ascents that run within one step and what waits for the device, and lets go of every model."""
        self._closed.set()
        self._scheduler.close()
        self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
