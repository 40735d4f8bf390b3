"""ModelStreamInfer, and the stock client's asynchronous ways to ask."""

import asyncio
from queue import Queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio
from support import golden, metrics, oip
from support.waiting import wait_for
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server

X = golden.digits()
TIMEOUT = 60
"""Seconds before a test gives up on an answer; not a measurement."""


def inputs(array=X):
    return [oip.infer_input("image", array)]


class Answers:
    """The callback of the stock client, and what came."""

    def __init__(self):
        self._queue = Queue()

    def __call__(self, result, error):
        self._queue.put((result, error))

    def next(self):
        return self._queue.get(timeout=TIMEOUT)


@pytest.fixture
def streaming(server):
    with InferenceServerClient(server.address) as client:
        yield client
        client.stop_stream(cancel_requests=True)


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_requests(streaming, engine):
    answers = Answers()
    streaming.start_stream(answers)
    for index in range(8):
        streaming.async_stream_infer("digits", inputs(X[: 1 + index % 4]), request_id=str(index))
    for index in range(8):
        result, error = answers.next()
        assert error is None
        assert result.get_response().id == str(index)
        assert result.get_response().parameters["triton_final_response"].bool_param
        expected = engine.infer("digits", {"image": X[: 1 + index % 4]})["logits"]
        assert result.as_numpy("logits").tobytes() == expected.tobytes()


def test_an_error_is_a_message_and_the_stream_goes_on(streaming):
    answers = Answers()
    streaming.start_stream(answers)
    streaming.async_stream_infer("nowhere", inputs(), request_id="1")
    streaming.async_stream_infer("digits", inputs(X[0]), request_id="2")
    streaming.async_stream_infer("digits", inputs(), request_id="3", enable_empty_final_response=True)
    texts = [answers.next()[1].message() for _ in range(2)]
    assert texts[0].startswith("model 'nowhere': expected one of 'digits'")
    assert texts[1] == "input 'image': expected float32 [batch,1,28,28], got float32 [1,28,28]"
    result, error = answers.next()
    assert error is None
    assert result.get_response().id == "3"


def test_a_failed_answer_has_the_id_of_its_request(stub):
    responses = list(stub.ModelStreamInfer(iter([oip.request("nowhere", {"image": X}, id="seven")])))
    assert [response.infer_response.id for response in responses] == ["seven"]
    assert responses[0].error_message


def test_an_error_is_a_status_where_that_is_asked_for(streaming):
    answers = Answers()
    streaming.start_stream(answers, headers={"triton_grpc_error": "true"})
    streaming.async_stream_infer("digits", inputs())
    assert answers.next()[1] is None
    streaming.async_stream_infer("nowhere", inputs())
    _, error = answers.next()
    assert error.status() == "StatusCode.NOT_FOUND"


def test_a_defect_in_a_stream_keeps_its_text(engine, monkeypatch):
    monkeypatch.setattr(engine, "infer_with", lambda *_args, **_kwargs: 1 // 0)
    with Server(engine, ServerConfig(port=0)) as server, grpc.insecure_channel(server.address) as channel:
        (response,) = oip.stub(channel).ModelStreamInfer(iter([oip.request("digits", {"image": X})]))
        assert response.error_message.startswith("internal error; request id ")


def test_one_stream_too_many_is_refused_and_predictions_are_answered(engine):
    config = ServerConfig(port=0, max_calls=1, max_ascents=0, max_streams=2)
    with Server(engine, config) as server, grpc.insecure_channel(server.address) as channel:
        stub = oip.stub(channel)
        requests = [Queue() for _ in range(2)]
        streams = [stub.ModelStreamInfer(iter(queue.get, None)) for queue in requests]
        for queue, stream in zip(requests, streams, strict=True):
            queue.put(oip.request("digits", {"image": X}))
            assert not next(stream).error_message
        with pytest.raises(grpc.RpcError) as error:
            next(stub.ModelStreamInfer(iter([])))
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error.value.details().startswith("streams: at most 2 run at a time")
        assert len(stub.ModelInfer(oip.request("digits", {"image": X})).outputs) == 1
        for queue, stream in zip(requests, streams, strict=True):
            queue.put(None)
            assert list(stream) == []
        assert not next(stub.ModelStreamInfer(iter([oip.request("digits", {"image": X})]))).error_message


def test_a_stream_whose_client_goes_ends_and_is_no_defect(engine, caplog):
    with Server(engine, ServerConfig(port=0)) as server, grpc.insecure_channel(server.address) as channel:
        requests = Queue()
        stream = oip.stub(channel).ModelStreamInfer(iter(requests.get, None))
        requests.put(oip.request("digits", {"image": X}))
        assert not next(stream).error_message
        assert metrics.value(server, "gradserve_open_streams") == 1
        stream.cancel()
        requests.put(None)
        wait_for(lambda: metrics.value(server, "gradserve_open_streams") == 0)
    assert not caplog.records


# ---- asynchronous calls ----------------------------------------------------------------------------------------------


def test_async_infer(triton, engine):
    answers = Answers()
    for _ in range(4):
        triton.async_infer("digits", inputs(), answers)
    expected = engine.infer("digits", {"image": X})["logits"].tobytes()
    for _ in range(4):
        result, error = answers.next()
        assert error is None
        assert result.as_numpy("logits").tobytes() == expected


def test_async_infer_of_a_mistake(triton):
    answers = Answers()
    triton.async_infer("digits", inputs(X[0]), answers)
    _, error = answers.next()
    assert error.status() == "StatusCode.INVALID_ARGUMENT"


def test_the_asyncio_client(server, engine):
    async def ask():
        async with tritonclient.grpc.aio.InferenceServerClient(server.address) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("digits")
            assert not await client.is_model_ready("nowhere")
            assert (await client.get_server_metadata()).name == "gradserve"
            assert (await client.get_model_metadata("digits")).platform == "onnxruntime_onnx"
            assert (await client.get_model_config("digits")).config.max_batch_size == 64
            assert len((await client.get_model_repository_index()).models) == 3
            assert len((await client.get_inference_statistics("digits")).model_stats) == 1
            with pytest.raises(InferenceServerException, match="model 'nowhere'"):
                await client.infer("nowhere", inputs())
            results = await asyncio.gather(*(client.infer("digits", inputs(X[:n])) for n in (1, 2, 3, 4)))

            async def requests():
                for index in range(3):
                    yield {"model_name": "digits", "inputs": inputs(), "request_id": str(index)}
                yield {"model_name": "nowhere", "inputs": inputs()}

            streamed = [answer async for answer in client.stream_infer(requests())]
            return results, streamed

    results, streamed = asyncio.run(ask())
    for n, result in zip((1, 2, 3, 4), results, strict=True):
        assert result.as_numpy("logits").tobytes() == engine.infer("digits", {"image": X[:n]})["logits"].tobytes()
    assert [result.get_response().id for result, error in streamed if error is None] == ["0", "1", "2"]
    assert [error.message()[:15] for result, error in streamed if error is not None] == ["model 'nowhere'"]
    np.testing.assert_array_equal(streamed[0][0].as_numpy("logits"), results[3].as_numpy("logits"))
