"""What fuzzing has found, and must not come back."""

import grpc
import pytest
from support.fuzz.rpcs import RPCS, call
from support.fuzz.seeds import valid

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
