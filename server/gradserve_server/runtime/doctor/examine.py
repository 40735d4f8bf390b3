"""What is wrong with a model, by looking at its graph (`graph.doctor`) and by running it.

An examination is a load that goes no further: it reads the file with the same checks and limits, and a server makes it in
the same trial process. What the file claims is found first, then what it does.
"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.descriptions import ImageDescription
from gradserve.diagnosis import Diagnosis, Finding, Severity
from gradserve.errors import CallCancelled, DeadlineExceeded, GradserveError, InvalidModel, InvalidRequest, RunFailed
from gradserve_server.graph import doctor
from gradserve_server.graph.doctor import Subject, finding, in_order
from gradserve_server.graph.load import load
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.doctor.gradients import gradients
from gradserve_server.runtime.doctor.patient import Patient
from gradserve_server.runtime.doctor.predictions import predictions
from gradserve_server.runtime.doctor.samples import Samples
from gradserve_server.runtime.doctor.statistics import measure
from gradserve_server.runtime.image_descriptions import descriptions, joined, said
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.session import newest_opset


def examine(
    name: str,
    version: int,
    file: Path,
    *,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    caller: Caller = ANYONE,
    **settings: Any,
) -> Diagnosis:
    """Examines a model.

    Args:
        name: Of the model.
        version: Of the model.
        file: The ONNX file.
        inputs: Samples as the model takes them, with their batch axis; made up by default.
        caller: Who waits for it; asked before each run of the file and each part of the examination.
        **settings: See `runtime.model.Model`, but for what it shares with others.

    Raises:
        CallCancelled, DeadlineExceeded: The caller has gone.
        InvalidTensor, UnknownInput: Given samples do not fit the model.
        BackendMissing: No onnxruntime, or more than one.
    """
    try:
        source = load(file, settings["limits"], oldest=1)
        own = said(source.model.metadata_props, f"model '{name}': metadata")
        images = descriptions(joined(own, settings["images"]))
    except InvalidModel as error:
        return Diagnosis(name, str(version), "", 0, inputs is not None, (finding("load-refused", detail=str(error)),))
    subject = Subject(source, newest_opset(), images)
    findings = doctor.examine(subject)
    scheduler = Scheduler(max_batch=1, max_queue=1)  # of its own: nobody waits for these runs
    patient = Patient(name, version, file, subject, scheduler, settings, inputs, caller)
    with closing(scheduler):
        measured = _measure(patient) if patient.runs else _Measured()
    findings += measured.findings
    if patient.refused and not any(one.severity is Severity.ERROR for one in findings):
        findings.append(finding("load-refused", detail=patient.refused))
    return Diagnosis(
        model=name,
        version=str(version),
        sha256=source.sha256,
        samples=measured.samples,
        given=inputs is not None,
        findings=tuple(in_order(findings)),
        statistics=tuple(measured.statistics),
        activity=tuple(measured.activity),
        notes=tuple(dict.fromkeys(patient.notes)),
    )


class _Measured:
    """What running it told."""

    def __init__(self) -> None:
        self.samples = 0
        self.findings: list[Finding] = []
        self.statistics: list[Any] = []
        self.activity: list[Any] = []


def _measure(patient: Patient) -> _Measured:
    measured = _Measured()
    samples = patient.samples
    patient.caller.check()
    if samples is None:
        return measured
    measured.samples = samples.count
    try:
        measured.findings += predictions(patient)
        patient.caller.check()
        measured.statistics, measured.activity, seen = measure(patient)
        measured.findings += seen
        patient.caller.check()
        measured.findings += gradients(patient)
    except (InvalidRequest, CallCancelled, DeadlineExceeded):
        raise
    except RunFailed as error:
        measured.findings.append(finding("run-failed", detail=str(error)))
    except GradserveError as error:  # what a file makes onnxruntime break off with is not known beforehand
        patient.notes.append(f"broke off: {error}")
    if samples.given:
        measured.findings += _outside(samples, patient.subject.images)
    return measured


def _outside(samples: Samples, images: Mapping[str, ImageDescription]) -> list[Finding]:
    """Given samples that no pixels could be."""
    found = []
    for name, image in images.items():
        ends = (np.array([[image.low], [image.high]]) - image.mean) / image.std
        low, high, array = float(ends.min()), float(ends.max()), samples.arrays.get(name)
        if array is None or not array.size:
            continue
        slack = 0.01 * (high - low)
        smallest, largest = float(array.min()), float(array.max())
        if smallest < low - slack or largest > high + slack:
            detail = f"{smallest:.3g} to {largest:.3g}, where {low:.3g} to {high:.3g} is possible"
            found.append(finding("data-outside-range", name, detail))
    return found
