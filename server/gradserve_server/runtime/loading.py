"""How an entry of a repository becomes models in memory."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gradserve.diagnosis import Diagnosis
from gradserve_server.config import EngineConfig
from gradserve_server.graph.contained.files import MIB
from gradserve_server.graph.contained.limits import Limits
from gradserve_server.graph.derivatives import Backend, Policy
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.device import Device
from gradserve_server.runtime.doctor import examine
from gradserve_server.runtime.events import Observer, nobody
from gradserve_server.runtime.image_descriptions import Fields, joined
from gradserve_server.runtime.memory import MemoryBudget
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.repository import Entry
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.trial import Trial, TrialLimits
from gradserve_server.runtime.warmup import warm_up

LOADED_BYTES = 2
"""Bytes in memory for each byte of a model's files, until they are known: weights, and what onnxruntime copies of them."""

EXAMINED_BYTES = 4
"""The same for an examination, which has the file as it is beside what is made of it."""


class Loader:
    """Loads models for an engine.

    Args:
        config: How they run.
        scheduler: Of the device that they run on.
        budget: Of the memory that they share.
        observe: Told of plans.
        images: What is said of the pixels of each input, whatever the models say.
    """

    def __init__(
        self,
        config: EngineConfig,
        scheduler: Scheduler,
        budget: MemoryBudget,
        observe: Observer = nobody,
        images: Fields | None = None,
    ) -> None:
        self._config, self._scheduler, self._budget, self._observe = config, scheduler, budget, observe
        self._images = images or {}
        self._policy = Policy(Backend(config.backend), config.straight_through)
        self._limits = Limits(config.max_model_mib * MIB, config.max_nodes)
        limits = TrialLimits(config.load_timeout_seconds, config.max_load_mib * MIB)
        self._trial = Trial(limits) if config.trial else None
        self._examiner = Trial(limits) if config.trial else None  # of its own: no load waits for an examination

    def trying(self) -> AbstractContextManager[object]:
        """Keeps the process that tries models for all that are loaded meanwhile."""
        return self._trial or nullcontext()

    def load(self, entry: Entry) -> dict[int, Model]:
        """Every version of a model, warmed up.

        Raises:
            InvalidModel: One that cannot be served, or whose warm-up fails.
            LimitExceeded: They do not fit into the memory.
            BackendMissing: No onnxruntime, or more than one.
        """
        with self.trying():
            return {version: self._load_version(entry, version, file) for version, file in entry.files.items()}

    def _load_version(self, entry: Entry, version: int, file: Path) -> Model:
        what, settings = f"model '{entry.name}' version {version}", self._settings(entry)
        with self._budget.reserved(LOADED_BYTES * _bytes_on_disk(file, entry), what):
            if self._trial is not None:
                self._trial.load(entry.name, version, file, entry.folder, **settings)
            model = Model(
                entry.name,
                version,
                file,
                scheduler=self._scheduler,
                observe=self._observe,
                budget=self._budget,
                **settings,
            )
        self._budget.hold(model, model.own_bytes, what)
        warm_up(model, entry.folder)
        return model

    def examine(
        self,
        entry: Entry,
        version: int,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        caller: Caller = ANYONE,
    ) -> Diagnosis:
        """What the doctor says of a version: in a trial process, if models are tried there.

        Args:
            entry: The model.
            version: One of its files.
            inputs: Samples to run it on; made up by default.
            caller: Who waits for it.

        Raises:
            CallCancelled, DeadlineExceeded: The caller has gone.
            InvalidTensor, UnknownInput: The samples do not fit the model.
            InvalidModel: The trial process does not survive it.
            LimitExceeded: It does not fit into the memory beside the models that are served.
        """
        file, what = entry.files[version], f"model '{entry.name}' version {version}: an examination"
        with self._budget.reserved(EXAMINED_BYTES * _bytes_on_disk(file, entry), what):
            made_by = examine if self._examiner is None else self._examiner.examine
            return made_by(entry.name, version, file, inputs=inputs, caller=caller, **self._settings(entry))

    def _settings(self, entry: Entry) -> dict[str, Any]:
        """Of `Model`, but for what it shares with others."""
        return {
            "threads": self._config.threads,
            "device": Device(self._config.device),
            "max_plans": self._config.max_plans,
            "policy": self._policy,
            "images": joined(entry.images, self._images),
            "labels": dict(entry.labels),
            "config": entry.config,
            "limits": self._limits,
        }


def _bytes_on_disk(file: Path, entry: Entry) -> int:
    """Of a version: the file and what lies beside it, which may be its external data."""
    files = [file] if entry.folder is None else [path for path in file.parent.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)
