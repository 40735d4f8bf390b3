"""A call: its request id, and the model that it asks for."""

import pytest
from google.protobuf.message_factory import GetMessageClass
from support.contexts import Context

from gradserve.v1 import gradient_service_pb2, model_service_pb2
from gradserve_server.rpc import call
from gradserve_server.rpc.oip import messages
from gradserve_server.runtime.events import Run, Turn
from gradserve_server.runtime.work import Priority, Subject

SERVICES = (
    gradient_service_pb2.DESCRIPTOR.services_by_name["GradientService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
    messages.service(),
)
REQUESTS = {method.input_type.full_name: method.input_type for service in SERVICES for method in service.methods}
OF_NO_MODEL = {
    f"inference.{name}Request"
    for name in (
        "ServerLive",
        "ServerReady",
        "ServerMetadata",
        "RepositoryIndex",
        "LogSettings",
        "SystemSharedMemoryStatus",
        "SystemSharedMemoryRegister",
        "SystemSharedMemoryUnregister",
        "CudaSharedMemoryStatus",
        "CudaSharedMemoryRegister",
        "CudaSharedMemoryUnregister",
    )
} | {"gradserve.v1.ListModelsRequest"}


@pytest.fixture(autouse=True)
def _no_call_stays():
    yield
    call.current.set(None)


@pytest.mark.parametrize("given", ["order-42", "a", "Root=1-67891233-abcdef012345678912345678", "x" * 128, "a/b:c_d.e+f@g="])
def test_a_request_id_that_comes_is_kept(given):
    context = Context(("user-agent", "me"), ("x-request-id", given))
    assert call.begin("/rpc", context).request_id == given == call.request_id()
    assert context.trailing == (("x-request-id", given),)


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "line\nbreak", 'quo"te', "zwölf", "a,b", b"bytes"])
def test_what_is_no_request_id_is_replaced(given):
    request_id = call.begin("/rpc", Context(("x-request-id", given))).request_id
    assert request_id != given
    assert len(request_id) == 32


def test_request_ids_are_made_and_differ():
    assert call.begin("/rpc", Context()).request_id != call.begin("/rpc", Context()).request_id
    call.current.set(None)
    assert call.request_id() != call.request_id()


@pytest.mark.parametrize("name", REQUESTS)
def test_the_model_that_is_asked_for(name):
    descriptor = REQUESTS[name]
    request = GetMessageClass(descriptor)()
    fields = descriptor.fields_by_name
    version = ""
    if name in OF_NO_MODEL:
        assert call.asked_model(request) == ("", "")
        return
    if "model" in fields:
        request.model.name, request.model.version = "m", (version := "2")
    elif "model_version" in fields:
        request.model_name, request.model_version = "m", (version := "2")
    elif "model_name" in fields:
        request.model_name = "m"
    else:
        request.name, request.version = "m", (version := "2")
    assert call.asked_model(request) == ("m", version)


def test_a_name_that_nobody_has_checked_is_cut_short():
    request = messages.message("ModelInferRequest")(model_name="m" * 1000, model_version="1" * 1000)
    assert tuple(map(len, call.asked_model(request))) == (128, 128)


def test_other_requests_ask_for_no_model():
    assert call.asked_model(object()) == ("", "")


def test_a_call_hears_of_its_turns():
    turn = Turn(Subject("digits", 3, "ascend"), Priority.ASCENT, 1, asked=10.0, began=12.5, ended=13.0, batch=1)
    call.observe_turns(turn)  # of nobody's call
    made = call.begin("/rpc", Context())
    before = made.waited
    for event in (turn, Run(Priority.ASCENT, 1, 9.0), turn):
        call.observe_turns(event)
    assert (made.model, made.version) == ("digits", "3")
    assert made.waited == before + 5.0
