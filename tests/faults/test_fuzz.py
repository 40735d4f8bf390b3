"""Fuzzed requests of every RPC: each is answered with a documented status, none with a defect, and nothing hangs.

A few for each RPC, always the same; `--fuzz 10000` (or GRADSERVE_FUZZ=10000) makes as many others.
"""

import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzz.messages import GARBAGE, Texts, mangled, nearly_valid, random_message, serialized, texts_in
from support.fuzz.rpcs import RPCS, call
from support.fuzz.seeds import NAMES, VALID, valid
from support.fuzz.statuses import documented

from gradserve_server.rpc.oip.service import UNIMPLEMENTED

FEW = 100
"""Requests for each RPC where nobody asks for more."""

CHECK_EVERY = 50
"""Requests after which the predictions are compared, beside the thread that does so all the time."""

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


NOT_DONE = {f"/inference.GRPCInferenceService/{rpc}" for rpc in UNIMPLEMENTED}
UNREGISTER = "/inference.GRPCInferenceService/SystemSharedMemoryUnregister"


@pytest.fixture(scope="session")
def texts():
    return Texts(sorted(set(NAMES).union(*(texts_in(message) for messages in VALID.values() for message in messages))))


def requests(rpc, texts):
    """Bytes to send, most of them nearly valid."""
    messages = valid(rpc)
    nearly = nearly_valid(messages, texts).map(serialized)
    one = st.one_of(
        nearly,
        nearly,
        nearly,
        random_message(rpc.request, texts).map(serialized),
        mangled([message.SerializeToString() for message in messages]),
        GARBAGE,
    )
    return st.lists(one, max_size=4) if rpc.takes_stream else one.map(lambda data: [data])


@pytest.mark.timeout(0)
@pytest.mark.parametrize("path", RPCS)
def test_requests(path, channel, watched, texts, request):
    rpc, many = RPCS[path], request.config.getoption("--fuzz")
    allowed = documented(rpc) | {"OK"}
    sent = 0

    @settings(
        max_examples=many or FEW,
        derandomize=not many,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=requests(rpc, texts), statuses=st.booleans())
    def send(data, statuses):
        nonlocal sent
        metadata = (("triton_grpc_error", "true"),) if path == STREAM and statuses else ()
        outcome = call(channel, rpc, data, metadata)
        assert outcome.code.name in allowed, f"{outcome.code.name}: {outcome.details}"
        # What goes wrong in the stream is told in a message.
        assert not any(b"internal error" in response for response in outcome.responses)
        sent += 1
        if sent % CHECK_EVERY == 0:
            watched.check()

    send()


# ---- nothing is left out ---------------------------------------------------------------------------------------------


def test_every_rpc_that_the_server_describes_is_fuzzed(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    described = {
        f"/{service}/{method.name}"
        for service in database.get_services()
        for file in [database.FindFileContainingSymbol(service)]
        for one in file.service
        if service == f"{file.package}.{one.name}"
        for method in one.method
    }
    assert described == RPCS.keys() == VALID.keys()
    assert all(VALID.values())


@pytest.mark.parametrize("path", RPCS)
def test_valid_requests_are_answered(path, channel):
    """But for what is not done."""
    call(channel, RPCS[UNREGISTER], [b""])  # what the tests above have registered
    for message in valid(RPCS[path]):
        outcome = call(channel, RPCS[path], [message.SerializeToString()])
        expected = "UNIMPLEMENTED" if path in NOT_DONE else "OK"
        assert outcome.code.name == expected, outcome.details


def test_statuses_are_read_from_the_documents():
    """Those that the tests above rest on: a comment that is not understood allows nothing, or too much."""
    got = {path.rsplit("/", 1)[1]: documented(rpc) for path, rpc in RPCS.items()}
    common = {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    assert got["ListLayers"] == common | {"NOT_FOUND"}
    assert got["Infer"] == common | {"NOT_FOUND"}
    assert got["Activations"] == got["Infer"]
    assert got["Gradient"] == got["Infer"] | {"FAILED_PRECONDITION", "UNIMPLEMENTED"}
    assert got["HessianVectorProduct"] == got["Ascend"] == got["Gradient"]
    assert got["ServerLive"] == common
    assert got["ModelInfer"] == common | {"NOT_FOUND", "UNIMPLEMENTED", "UNAVAILABLE"}
    assert got["CudaSharedMemoryStatus"] == got["CudaSharedMemoryUnregister"] == common | {"UNIMPLEMENTED"}
