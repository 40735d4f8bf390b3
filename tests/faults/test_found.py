"""What fuzzing has found, and must not come back."""

import grpc
import pytest
from support.fuzz.rpcs import RPCS, call
from support.fuzz.seeds import valid

from gradserve import _calls, numbers
from gradserve import objectives as O
from gradserve import transforms as T

GRADIENT = "/gradserve.v1.GradientService"
OURS = [path for path, rpc in RPCS.items() if "/gradserve.v1." in path and "model" in rpc.request.DESCRIPTOR.fields_by_name]
TRITONS = [f"/inference.GRPCInferenceService/{name}" for name in ("ModelMetadata", "ModelConfig", "ModelStatistics")]
SINGLE = [path for path, rpc in RPCS.items() if not rpc.takes_stream]


def refusal(channel, path, change):
    """The status and text that a valid request with one thing changed is answered with."""
    request = valid(RPCS[path])[0]
    change(request)
    outcome = call(channel, RPCS[path], [request.SerializeToString()])
    return outcome.code.name, outcome.details


@pytest.mark.parametrize("version", ["9" * 5000, "٣", "01", "-1", "1.0"])
@pytest.mark.parametrize("path", OURS)
def test_versions_that_no_number_holds(served, channel, path, version):  # noqa: ARG001
    code, details = refusal(channel, path, lambda request: setattr(request.model, "version", version))
    assert code == "NOT_FOUND"
    assert details.startswith("model 'digits")


@pytest.mark.parametrize("version", ["9" * 5000, "٣", "-1", "1.0"])
@pytest.mark.parametrize("path", TRITONS)
def test_versions_that_no_number_holds_triton(served, channel, path, version):  # noqa: ARG001
    code, details = refusal(channel, path, lambda request: setattr(request, "version", version))
    assert code == "INVALID_ARGUMENT"
    assert details.startswith("model version: expected a whole number")


@pytest.mark.parametrize("path", RPCS)
def test_bytes_that_are_no_request(served, channel, path):  # noqa: ARG001
    outcome = call(channel, RPCS[path], [b"\xff"])
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
    assert outcome.details == f"{path}: expected its request, got 1 bytes that are no such message"


@pytest.mark.parametrize("path", SINGLE)
def test_no_request_at_all(served, channel, path):  # noqa: ARG001
    with pytest.raises(grpc.RpcError) as error:
        list(channel.stream_stream(path)(iter([]), timeout=60))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == f"{path}: expected one request, got none"


ASCENTS = {
    "a scale of 0": ({"transforms": [T.Affine(0.0)]}, "INVALID_ARGUMENT", "numbers that lead to positions near the image"),
    "a scale of almost 0": ({"transforms": [T.Affine(1e-12)]}, "INVALID_ARGUMENT", "positions near the image"),
    "far away": ({"transforms": [T.Affine(down=1e300)]}, "INVALID_ARGUMENT", "positions near the image"),
    "numbers too far apart": (
        {"transforms": [T.Rotate(numbers.Uniform(-1.7e308, 1.7e308))]},
        "INVALID_ARGUMENT",
        "positions near the image",
    ),
    "a scale without end": (
        {"transforms": [T.Scale(1e308)]},
        "RESOURCE_EXHAUSTED",
        "pixels of an image after it (max_ascent_mib)",
    ),
    "a scale below 0": ({"transforms": [T.Scale(-1e308)]}, "OK", ""),
    "a wide frame": ({"transforms": [T.Pad(2**14)]}, "RESOURCE_EXHAUSTED", "pixels of an image after it (max_ascent_mib)"),
    "frame in frame": ({"transforms": [T.Pad(500), T.Pad(9000)]}, "RESOURCE_EXHAUSTED", "(max_ascent_mib)"),
    "a large image": (
        {"image_size": (2**14, 2**14), "count": 2},
        "RESOURCE_EXHAUSTED",
        "image_size: expected at most 1024 MiB",
    ),
    "far and far again": ({"transforms": [T.Affine(1e-4), T.Affine(1e-4)]}, "OK", ""),
}


@pytest.mark.parametrize("case", ASCENTS)
def test_ascents_that_lead_nowhere(served, channel, case):  # noqa: ARG001
    settings, code, text = ASCENTS[case]
    request = _calls.ascend("digits", O.unit("logits", 7), {"steps": 2} | settings).request
    outcome = call(channel, RPCS[f"{GRADIENT}/Ascend"], [request.SerializeToString()])
    assert outcome.code.name == code, outcome.details
    assert text in outcome.details


def test_a_transform_without_its_number(served, channel):  # noqa: ARG001
    request = _calls.ascend("digits", O.unit("logits", 7), {"steps": 2}).request
    request.transforms.add().blur.radius = 2
    outcome = call(channel, RPCS[f"{GRADIENT}/Ascend"], [request.SerializeToString()])
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
    assert outcome.details == "blur: expected a sigma, got none"
