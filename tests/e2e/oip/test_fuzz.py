"""Requests that nobody sane would send: each is answered with a status of the protocol, and the next good one is right."""

import grpc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import golden, oip
from tritonclient.grpc import service_pb2 as pb

X = golden.digits()[:2]
GOOD = oip.request("digits", {"image": X})
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}

texts = st.one_of(
    st.sampled_from(["", "digits", "image", "logits", "FP32", "INT8", "BYTES", "BF16", "BOOL", "1"]), st.text(max_size=8)
)
sizes = st.one_of(st.sampled_from([0, 1, 2, 28, 784, -1, 2**62, 2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
shapes = st.lists(sizes, max_size=70)
parameters = st.dictionaries(
    st.sampled_from(
        ["timeout", "priority", "sequence_id", "classification", "shared_memory_region", "triton_x", "mine", ""]
    ),
    st.one_of(
        st.just(pb.InferParameter()),
        st.booleans().map(lambda v: pb.InferParameter(bool_param=v)),
        st.integers(-(2**63), 2**63 - 1).map(lambda v: pb.InferParameter(int64_param=v)),
        st.integers(0, 2**64 - 1).map(lambda v: pb.InferParameter(uint64_param=v)),
        st.text(max_size=4).map(lambda v: pb.InferParameter(string_param=v)),
        st.floats().map(lambda v: pb.InferParameter(double_param=v)),
    ),
    max_size=3,
)
contents = st.builds(
    pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=2),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
    uint64_contents=st.lists(st.integers(0, 2**64 - 1), max_size=2),
    fp32_contents=st.lists(st.floats(width=32), max_size=2),
    bytes_contents=st.lists(st.binary(max_size=4), max_size=2),
)
tensors = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=texts,
    datatype=texts,
    shape=shapes,
    parameters=parameters,
    contents=st.one_of(st.none(), contents),
)
outputs = st.builds(pb.ModelInferRequest.InferRequestedOutputTensor, name=texts, parameters=parameters)
requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.sampled_from(["digits", "scenario_a", "", "x"]),
    model_version=st.sampled_from(["", "1", "2", "x", "-1"]),
    id=st.text(max_size=4),
    parameters=parameters,
    inputs=st.lists(tensors, max_size=3),
    outputs=st.lists(outputs, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=64), max_size=3),
)


@st.composite
def nearly_good(draw):
    """The good request with one part of a random one in place of its own: gets further than a random one."""
    request, other = pb.ModelInferRequest(), draw(requests)
    request.CopyFrom(GOOD)
    tensor = draw(tensors)
    match draw(
        st.sampled_from(["parameters", "outputs", "raw", "shape", "datatype", "contents", "input parameters", "extra"])
    ):
        case "parameters":
            request.MergeFrom(pb.ModelInferRequest(parameters=other.parameters))
        case "outputs":
            request.outputs.extend(other.outputs)
        case "raw":
            request.raw_input_contents[0] = draw(st.binary(max_size=64))
        case "shape":
            del request.inputs[0].shape[:]
            request.inputs[0].shape.extend(tensor.shape)
        case "datatype":
            request.inputs[0].datatype = tensor.datatype
        case "contents":
            del request.raw_input_contents[:]
            request.inputs[0].contents.CopyFrom(tensor.contents)
        case "input parameters":
            request.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(parameters=tensor.parameters))
        case "extra":
            request.inputs.append(tensor)
    return request


def good_again(stub, engine):
    answer = stub.ModelInfer(GOOD)
    assert answer.raw_output_contents[0] == engine.infer("digits", {"image": X})["logits"].tobytes()


FUZZ = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def outcome(call, request):
    """The response, or None, and the status."""
    try:
        return call(request), grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        return None, error.code(), error.details()


@FUZZ
@given(request=st.one_of(requests, nearly_good()))
@example(request=pb.ModelInferRequest())
def test_requests(stub, engine, request):
    response, code, details = outcome(stub.ModelInfer, request)
    if response is None:
        assert code in REFUSALS, details
        assert details
    else:
        assert len(response.outputs) == len(response.raw_output_contents)
    good_again(stub, engine)


@FUZZ
@given(given=st.lists(st.one_of(requests, nearly_good()), max_size=4))
def test_streams(stub, given):
    responses = list(stub.ModelStreamInfer(iter([*given, GOOD])))
    assert len(responses) == len(given) + 1
    assert not any("internal error" in response.error_message for response in responses)
    assert not responses[-1].error_message


@FUZZ
@given(at=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, len(GOOD.SerializeToString())))
def test_bytes_that_are_no_request(server, stub, engine, at, byte, cut):
    data = bytearray(GOOD.SerializeToString())
    data[at] = byte
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        _, code, details = outcome(call, bytes(data[: max(cut, at)]))
    assert code in REFUSALS | {grpc.StatusCode.OK}, details
    good_again(stub, engine)
