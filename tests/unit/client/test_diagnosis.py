"""Diagnoses as data: on the wire, as JSON."""

import json
import math

from gradserve import Activity, ChannelStatistics, Diagnosis, Finding, Severity, mirror
from gradserve.diagnosis import from_plain, to_plain
from gradserve.v1.diagnosis_pb2 import Diagnosis as Message
from gradserve.v1.diagnosis_pb2 import Severity as Severities

DIAGNOSIS = Diagnosis(
    model="digits",
    version="3",
    sha256="ab",
    samples=8,
    given=True,
    findings=(
        Finding("batch-fixed", Severity.WARNING, "image", "It is fixed.", "[1,3]", "Open it."),
        Finding("external-data", Severity.INFO, "", "Elsewhere.", "", ""),
    ),
    statistics=(ChannelStatistics("bn1", (0, 7), (0.5, 1.0), (1.0, 2.0), (0.25, 3.0), (1.5, 1e-9), math.inf),),
    activity=(Activity("relu1", 24, 0.25, 0.5),),
    notes=("a note",),
)


def test_a_diagnosis_travels():
    message = Message()
    mirror.fill(message, DIAGNOSIS)
    assert mirror.read(Diagnosis, Message.FromString(message.SerializeToString())) == DIAGNOSIS


def test_a_diagnosis_without_anything_travels():
    empty = Diagnosis("m", "1", "", 0, False)
    message = Message()
    mirror.fill(message, empty)
    assert mirror.read(Diagnosis, message) == empty


def test_a_diagnosis_is_json_and_comes_back():
    assert from_plain(json.loads(json.dumps(to_plain(DIAGNOSIS)))) == DIAGNOSIS


def test_every_severity_has_its_number():
    assert {f"SEVERITY_{severity.name}" for severity in Severity} == set(Severities.keys()) - {"SEVERITY_UNSPECIFIED"}


def test_only_errors_are_errors():
    assert not DIAGNOSIS.has_errors
