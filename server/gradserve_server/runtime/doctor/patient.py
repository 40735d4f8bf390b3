"""A model under examination: the file as it is, its switched form with every BatchNormalization in it, what is served."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from gradserve.errors import GradserveError
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.doctor import Subject
from gradserve_server.graph.inference_form.convert_opset import CannotConvert, convert_opset
from gradserve_server.graph.inference_form.switch_mode import switch_mode
from gradserve_server.graph.load import MIN_OPSET
from gradserve_server.graph.values import opset_of
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.doctor.own_statistics import own_statistics
from gradserve_server.runtime.doctor.samples import Samples, given_samples, made_up_samples
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.session import Array, Session, newest_opset


@dataclass
class Patient:
    """Whoever is examined. Sessions are made when they are first needed."""

    name: str
    version: int
    path: Path
    subject: Subject
    scheduler: Scheduler
    settings: Mapping[str, Any]
    """Of `Model`."""
    inputs: Mapping[str, npt.ArrayLike] | None = None
    """Given samples."""
    caller: Caller = ANYONE
    """Who waits for what is found."""
    notes: list[str] = field(default_factory=list)
    """What cannot be looked at."""
    refused: str = ""
    """Why it cannot be served, once that has been tried."""

    @cached_property
    def original(self) -> Session | None:
        """The file as it is, not even optimized: optimizers drop a Dropout that drops. Only a too new opset is lowered."""
        model = self.subject.file.model.clone()
        own_statistics(model)
        try:
            _lower(model)
            return Session(model, self.settings["threads"], prepack=False, optimize=False)
        except (CannotConvert, GradserveError) as error:
            self.notes.append(f"the file as it is does not run here: {error}")
            return None

    @cached_property
    def served(self) -> Model | None:
        """What gradserve makes of it."""
        try:
            return Model(self.name, self.version, self.path, scheduler=self.scheduler, **self.settings)
        except GradserveError as error:
            self.refused = str(error)
            return None

    @cached_property
    def switched(self) -> ir.Model | None:
        """Its graph with nothing in training form and nothing folded, in an opset that the runtime loads.

        Untrained statistics are used all the same.
        """
        if self.subject.opset < MIN_OPSET:
            return None
        model = self.subject.file.model.clone()
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        try:
            switch_mode(model, untrained=True)
            infer_shapes(model)
            _lower(model)
        except (CannotConvert, GradserveError):
            return None
        return model

    @cached_property
    def samples(self) -> Samples | None:
        """What it is run on.

        Raises:
            InvalidTensor, UnknownInput: Given samples do not fit.
        """
        model = self.subject.model  # with shapes
        found = given_samples(model, self.inputs) if self.inputs is not None else made_up_samples(model, self.run)
        if found is None:
            self.notes.append("runs on no random input that could be made up: give it data")
        return found if found is None or self._takes_fewer(found) else replace(found, count=1, batched=False)

    def _takes_fewer(self, samples: Samples) -> bool:
        """A batch can be of any size: an axis that must be longer than 2, where it was long enough, is none."""
        if not samples.batched or samples.fixed is not None or samples.called_batch or not self.runs:
            return True
        return not self._breaks_off(samples.first(2)) or self._breaks_off(samples.arrays)

    def _breaks_off(self, feeds: dict[str, Array]) -> bool:
        try:
            self.run(feeds)
        except GradserveError:
            return True
        return False

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """The file's own predictions, or, where it does not run as it is, those that are served.

        Raises:
            RunFailed: It does not run.
            CallCancelled, DeadlineExceeded: Nobody waits for it any more.
        """
        self.caller.check()
        if self.original is not None:
            return self.original.run(feeds)
        return self.served.predict(feeds, ()) if self.served is not None else {}

    @property
    def runs(self) -> bool:
        """Whether anything of it runs."""
        return self.subject.opset >= MIN_OPSET and (self.original is not None or self.served is not None)


def _lower(model: ir.Model) -> None:
    """Brings a model to an opset that the runtime loads, in place, if its own is too new."""
    if opset_of(model) <= newest_opset():
        return
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    infer_shapes(model)
    convert_opset(model, newest=newest_opset())
