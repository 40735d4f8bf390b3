"""The models of a repository: which are served, and what became of the others.

A model is one unit of all its versions: they are loaded beside those that are served, and take their place at once. A call
holds the `Model` that it began with: nothing that happens here changes its answer, and a model goes with its last call.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy.typing as npt

from gradserve.descriptions import ModelState, ModelStatus
from gradserve.diagnosis import Diagnosis
from gradserve.errors import GradserveError, InvalidParameter, ModelNotFound, ServerUnavailable
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.loading import Loader
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.overrides import Override, overridden
from gradserve_server.runtime.repository import Entry, Repository

_log = logging.getLogger(__name__)

UNLOADED = "unloaded"
"""Why a version that was served is not any more: the word is Triton's."""

NO_VERSION = 0
"""Stands for a model of which no version is known."""

Versions = Mapping[int, Model]


@dataclass
class _Slot:
    """What is known about a model."""

    changing: threading.Lock = field(default_factory=threading.Lock)
    """Held for as long as it is loaded or unloaded."""
    states: dict[int, tuple[ModelState, str]] = field(default_factory=dict)
    """Of each version: state and reason."""
    leaving: dict[int, list["weakref.ref[Model]"]] = field(default_factory=dict)
    """By version: what calls may still hold."""

    def state(self, version: int) -> tuple[ModelState, str]:
        state, reason = self.states[version]
        if state is ModelState.UNLOADING and not self.is_leaving(version):
            return ModelState.UNAVAILABLE, UNLOADED
        return state, reason

    def is_leaving(self, version: int) -> bool:
        return any(model() is not None for model in self.leaving.get(version, ()))

    def leave(self, version: int, model: Model) -> None:
        still = [held for held in self.leaving.get(version, ()) if held() is not None]
        self.leaving[version] = [*still, weakref.ref(model)]
        self.states[version] = ModelState.UNLOADING, ""


class Registry:
    """Loads and unloads the models of a repository. Safe to use from many threads.

    Loads and unloads of one model happen one after the other; those of different models, and calls, do not wait for them.

    Args:
        repository: Where models are.
        loader: Loads them.
    """

    def __init__(self, repository: Repository, loader: Loader) -> None:
        self._repository, self._loader = repository, loader
        self._lock = threading.Lock()  # guards all below; held for moments
        self._slots: dict[str, _Slot] = {}
        self._served: Mapping[str, Versions] = {}  # replaced as a whole, so that nobody needs the lock to read it
        self._listeners: list[Callable[[], None]] = []
        self._closed = False
        self._telling = threading.Lock()  # so that the last that listeners hear is the last that happened

    # ---- asking ------------------------------------------------------------------------------------------------------

    @property
    def served(self) -> list[Model]:
        """Every version that is served, by name and version."""
        return [versions[version] for _, versions in sorted(self._served.items()) for version in sorted(versions)]

    def get(self, name: str, version: str = "") -> Model:
        """A version of a model; the latest if none is given.

        Raises:
            ModelNotFound: It is not served.
        """
        served = self._served
        if name not in served:
            known = f"expected one of {', '.join(map(repr, sorted(served)))}" if served else "no model is loaded"
            msg = f"model '{name}': {known}"
            raise ModelNotFound(msg)
        versions = served[name]
        if not version:
            return versions[max(versions)]
        by_text = {str(number): versions[number] for number in sorted(versions)}
        if version not in by_text:
            msg = f"model '{name}': expected one of the versions {', '.join(by_text)}, got '{version}'"
            raise ModelNotFound(msg)
        return by_text[version]

    def index(self) -> list[ModelStatus]:
        """Every version of every model that is in the repository, or served, or failed to load, by name and version."""
        present = self._repository.names()
        with self._lock:
            told = [status for name in self._slots for status in self._statuses(name, name in present)]
        told += [ModelStatus(name, "", ModelState.UNKNOWN) for name in set(present) - {status.name for status in told}]
        return sorted(told, key=lambda status: (status.name, int(status.version or 0)))

    def status(self, name: str) -> list[ModelStatus]:
        """What became of each version of a model that was loaded before."""
        with self._lock:
            return self._statuses(name, True)

    @property
    def all_ready(self) -> bool:
        """Whether every model that should be served is: what was unloaded should not."""
        with self._lock:
            missing = [slot for name, slot in self._slots.items() if name not in self._served]
            states = [slot.state(version) for slot in missing for version in slot.states]
        return not any(state is ModelState.UNAVAILABLE and reason != UNLOADED for state, reason in states)

    # ---- changing ----------------------------------------------------------------------------------------------------

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls a function now and after each load and unload, of failed ones too.

        Returns:
            What ends this.
        """

        def forget() -> None:
            with self._telling:
                self._listeners.remove(listener)

        with self._telling:
            self._listeners.append(listener)
            listener()
        return forget

    def load(self, name: str, override: Override | None = None) -> None:
        """Loads every version of a model that its policy serves, in the place of those that are served.

        Should that fail, those go on, and the index has the reason.

        Raises:
            ModelNotFound: The repository has no such model.
            InvalidModel: It cannot be served.
            InvalidParameter: An override that fits no model.
            LimitExceeded: It does not fit into the memory.
            ServerUnavailable: The registry is closed.
        """
        if override is None and name not in self._slots:
            self._known(name)
        with self._change(name) as slot, self._entry(name, override) as entry:
            with self._lock:
                for version in entry.files:
                    if version not in self._served.get(name, {}):
                        slot.states[version] = ModelState.LOADING, ""
            models = self._loader.load(entry)
            self._serve(name, slot, models)
        _log.info("model '%s': versions %s are served", name, ", ".join(map(str, models)))

    def unload(self, name: str) -> None:
        """Serves a model no more. Nothing happens if it is not served.

        Raises:
            ModelNotFound: There is no such model.
        """
        if name not in self._slots:
            self._known(name)
            return
        with self._change(name) as slot:
            self._serve(name, slot, {})
        _log.info("model '%s': unloaded", name)

    def examine(
        self,
        name: str,
        version: str = "",
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        caller: Caller = ANYONE,
    ) -> Diagnosis:
        """What the doctor says of a model, as the repository has it now. See `Loader.examine`.

        Raises:
            ModelNotFound: The repository has no such model or version.
        """
        entry = self._repository.read(name)
        found = max(entry.files) if not version else next((v for v in entry.files if str(v) == version), None)
        if found is None:
            msg = f"model '{name}': expected one of the versions {sorted(entry.files)}, got '{version}'"
            raise ModelNotFound(msg)
        return self._loader.examine(entry, found, inputs, caller)

    def close(self) -> None:
        """Lets go of every model, and loads none any more."""
        with self._lock:
            self._closed = True
            self._served = {}
            self._slots.clear()

    def _known(self, name: str) -> None:
        """Makes sure that the repository has a model of this name."""
        if name not in self._repository.names():
            self._repository.read(name)

    @contextmanager
    def _entry(self, name: str, override: Override | None) -> Iterator[Entry]:
        if override is None:
            yield self._repository.read(name)
        else:
            with overridden(name, override, self._repository) as entry:
                yield entry

    @contextmanager
    def _change(self, name: str) -> Iterator[_Slot]:
        """Changes a model; if that fails, its states say so."""
        with self._lock:
            slot = self._slots.setdefault(name, _Slot())
        with slot.changing:
            try:
                yield slot
            except (InvalidParameter, ModelNotFound):
                raise  # the request is at fault; the model is what it was
            except GradserveError as error:
                self._failed(name, slot, str(error))
                raise
            except Exception:
                self._failed(name, slot, "a defect of the server, whose log says more")
                raise
            finally:
                with self._telling:
                    for listener in self._listeners:
                        listener()

    def _serve(self, name: str, slot: _Slot, models: Versions) -> None:
        """Puts versions in the place of those that are served; none: the model is served no more."""
        with self._lock:
            if self._closed:
                msg = f"model '{name}': the engine was closed before it was loaded"
                raise ServerUnavailable(msg)
            before = self._served.get(name, {})
            others = {other: versions for other, versions in self._served.items() if other != name}
            self._served = others | {name: dict(models)} if models else others
            for version, model in before.items():
                slot.leave(version, model)
            slot.states.pop(NO_VERSION, None)
            for version in models:
                slot.states[version] = ModelState.READY, ""
            for version, (state, _) in slot.states.items():
                # What an earlier load failed on is no version of this one.
                if version not in models and version not in before and state is not ModelState.UNLOADING:
                    slot.states[version] = ModelState.UNAVAILABLE, UNLOADED

    def _failed(self, name: str, slot: _Slot, reason: str) -> None:
        _log.info("model '%s' was not loaded: %s", name, reason)
        with self._lock:
            served = self._served.get(name, {})
            for version, (state, _) in slot.states.items():
                if version in served:
                    slot.states[version] = ModelState.READY, f"not loaded again: {reason}"
                elif state is ModelState.LOADING:
                    slot.states[version] = ModelState.UNAVAILABLE, reason
            if not any(said.endswith(reason) for _, said in slot.states.values()):
                slot.states[NO_VERSION] = ModelState.UNAVAILABLE, reason

    def _statuses(self, name: str, is_present: bool) -> list[ModelStatus]:
        """Of what was in the repository once and is nowhere now, nothing is told."""
        slot, told = self._slots.get(name, _Slot()), []
        for version in sorted(slot.states):
            state, reason = slot.state(version)
            model = self._served.get(name, {}).get(version)
            if is_present or model is not None or slot.is_leaving(version) or reason not in {"", UNLOADED}:
                said = str(version) if version != NO_VERSION else ""
                told.append(ModelStatus(name, said, state, reason, model.memory_bytes if model is not None else 0))
        return told
