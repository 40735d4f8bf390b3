"""Fuzzed requests of every RPC: each is answered with a documented status, none with a defect, and nothing hangs.

A few for each RPC, always the same; `--fuzz 10000` (or GRADSERVE_FUZZ=10000) makes as many others.
"""

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzz.messages import GARBAGE, Texts, mangled, nearly_valid, random_message, serialized, texts_in
from support.fuzz.rpcs import LOADING, RPCS, call
from support.fuzz.seeds import NAMES, VALID, valid
from support.fuzz.statuses import documented
from support.purity import Purity

import gradserve
from gradserve_server.rpc.oip.service import UNIMPLEMENTED

FEW = 50
"""Requests for each RPC where nobody asks for more: they are the longest file of the gate."""

FEW_LOADS = 20
"""The same, where each may load a model."""

CHECK_EVERY = 50
"""Requests after which the predictions are compared, beside the thread that does so all the time."""

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
NOT_DONE = {f"/inference.GRPCInferenceService/{rpc}" for rpc in UNIMPLEMENTED}
UNREGISTER = "/inference.GRPCInferenceService/SystemSharedMemoryUnregister"


@pytest.fixture(scope="session")
def texts():
    return Texts(sorted(set(NAMES).union(*(texts_in(message) for rpc in RPCS.values() for message in valid(rpc)))))


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


def fuzz(channel, rpc, texts, many, check, few=FEW):
    """Sends requests, and calls `check` after some.

    Args:
        channel: To the server.
        rpc: What is called.
        texts: For its requests.
        many: How many; 0: a few, always the same.
        check: Makes sure that the server answers as before.
        few: How many are a few.
    """
    allowed, sent = documented(rpc) | {"OK"}, 0

    @settings(
        max_examples=many or few,
        derandomize=not many,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=requests(rpc, texts), statuses=st.booleans())
    def send(data, statuses):
        nonlocal sent
        metadata = (("triton_grpc_error", "true"),) if rpc.path == STREAM and statuses else ()
        outcome = call(channel, rpc, data, metadata)
        assert outcome.code.name in allowed, f"{outcome.code.name}: {outcome.details}"
        # What goes wrong in the stream is told in a message.
        assert not any(b"internal error" in told for told in (outcome.details.encode(), *outcome.responses))
        sent += 1
        if sent % CHECK_EVERY == 0:
            check()

    send()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("path", [path for path in RPCS if path not in LOADING])
def test_requests(path, channel, watched, texts, pytestconfig):
    fuzz(channel, RPCS[path], texts, pytestconfig.getoption("--fuzz"), watched.check)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("path", LOADING)
def test_requests_that_load_and_unload(path, loading, texts, pytestconfig):
    """Whatever they did, the models load again, and predict as they did."""
    with gradserve.Client(loading.address) as client, grpc.insecure_channel(loading.address) as channel:

        def load():
            for model in ("digits", "digits_batchnorm", "scenario_a"):
                client.load(model)

        load()
        purity = Purity(loading.address)

        def check():
            load()
            purity.check()

        fuzz(channel, RPCS[path], texts, pytestconfig.getoption("--fuzz"), check, few=FEW_LOADS)
        check()
        purity.close()
    assert loading.alive, loading.log()


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
def test_valid_requests_are_answered(path, channel, loading):
    """But for what is not done."""
    call(channel, RPCS[UNREGISTER], [b""])  # what the tests above have registered
    if path in LOADING:
        channel = grpc.insecure_channel(loading.address)
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
    assert got["ModelInfer"] == common | {"NOT_FOUND", "UNIMPLEMENTED", "UNAVAILABLE", "INTERNAL"}
    assert got["CudaSharedMemoryStatus"] == got["CudaSharedMemoryUnregister"] == common | {"UNIMPLEMENTED"}
