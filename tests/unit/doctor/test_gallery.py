"""The doctor finds what is wrong with each model of the gallery, and nothing else."""

import onnx
import pytest
from support.examined import codes, examined
from support.gallery import GALLERY, HEALTHY
from support.onnx_models import random
from support.small_network import healthy, pictures

from gradserve.diagnosis import Severity, from_plain, to_plain
from gradserve_server.graph.autodiff import ort_training
from gradserve_server.graph.doctor import CHECKS
from gradserve_server.runtime.session import newest_opset

NOT_IN_THE_GALLERY = {
    "impure": "no model makes gradserve change it: test_examination.py breaks gradserve instead",
}
OF_THE_ORIGINAL = {"batch-dependent", "forms-disagree", "not-deterministic"}
"""What running the file as it is tells."""


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
def test_nothing_is_wrong_with_a_healthy_model(opset, tmp_path):
    diagnosis = examined(healthy(opset), tmp_path)
    assert diagnosis.findings == ()
    assert diagnosis.samples > 1


@pytest.mark.parametrize("entry", GALLERY, ids=lambda entry: entry.name)
def test_the_doctor_finds_what_is_wrong_and_nothing_else(entry, tmp_path):
    if entry.code == "opset-too-new" and newest_opset() >= onnx.defs.onnx_opset_version():
        pytest.skip("this onnxruntime loads every opset that there is")
    diagnosis = examined(entry.model, tmp_path, entry.data, external=entry.external)
    found, wanted = codes(diagnosis), entry.codes
    if not ort_training.available():  # stock wheels do not run training form: what it does cannot be seen
        found, wanted = found - OF_THE_ORIGINAL, wanted - OF_THE_ORIGINAL
    assert found == wanted, [(f.code, f.node, f.detail) for f in diagnosis.findings]
    for finding in diagnosis.findings:
        check = CHECKS[finding.code]
        assert (finding.severity, finding.effect, finding.repair) == (check.severity, check.effect, check.repair)
    assert from_plain(to_plain(diagnosis)) == diagnosis


@pytest.mark.parametrize("name", HEALTHY)
def test_what_only_looks_broken_is_not_reported(name, tmp_path):
    assert examined(HEALTHY[name], tmp_path).findings == ()


def test_given_samples_that_leave_a_domain_are_reported(tmp_path):
    model = HEALTHY["a logarithm, which made-up numbers leave"]
    assert codes(examined(model, tmp_path, {"x": random(4, 5)})) == {"output-not-finite"}


@pytest.mark.parametrize(("value", "found"), [(-2.01, False), (2.01, False), (-2.1, True), (2.1, True)])
def test_a_value_that_no_pixel_has_is_reported(value, found, tmp_path):
    data = pictures()
    data["x"][0, 0, 0, 0] = value
    assert ("data-outside-range" in codes(examined(healthy(), tmp_path, data))) == found


def test_every_check_has_a_model_in_the_gallery():
    assert set().union(*(entry.codes for entry in GALLERY)) == CHECKS.keys() - NOT_IN_THE_GALLERY.keys()


def test_names_of_the_gallery_are_unique():
    assert len({entry.name for entry in GALLERY}) == len(GALLERY)


def test_the_worst_comes_first(tmp_path):
    entry = next(entry for entry in GALLERY if entry.name == "training form, never written back")
    severities = [finding.severity for finding in examined(entry.model, tmp_path).findings]
    assert severities == sorted(severities, key=list(Severity).index)
    assert severities[0] is Severity.ERROR


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_a_check_says_what_it_does_in_sentences(check):
    assert check.effect[0].isupper()
    assert check.effect.endswith(".")
    assert not check.repair or check.repair.endswith(".")
