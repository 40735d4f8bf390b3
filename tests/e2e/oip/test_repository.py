"""The model repository through the stock client: index, load, unload, overrides, and what goes on meanwhile."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from support import oip
from support.repositories import explicit, put, scaling, spoil
from support.waiting import WAIT
from tritonclient.grpc import InferenceServerClient, service_pb2
from tritonclient.utils import InferenceServerException

import gradserve
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.oip import servicer

X = np.ones((1, 2), np.float32)
MODEL = scaling(7).SerializeToString()


@pytest.fixture
def root(tmp_path):
    return put(put(tmp_path, "a", 1), "b", 2)


@pytest.fixture
def engine(root):
    with explicit(root) as engine:
        yield engine


@pytest.fixture
def server(engine):
    with Server(engine, ServerConfig(port=0, drain_seconds=2)) as server:
        yield server


@pytest.fixture
def triton(server):
    with InferenceServerClient(server.address) as client:
        yield client


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(server.address) as channel:
        yield oip.stub(channel)


def factor(triton, name, version=""):
    return float(triton.infer(name, [oip.infer_input("x", X)], model_version=version).as_numpy("y")[0, 0])


def index(triton):
    return [(m.name, m.version, m.state, m.reason) for m in triton.get_model_repository_index().models]


def refused(call, *arguments, status, text, **options):
    with pytest.raises(InferenceServerException) as error:
        call(*arguments, **options)
    assert (error.value.status(), text in error.value.message()) == (f"StatusCode.{status}", True), error.value


# ---- index, load, unload ---------------------------------------------------------------------------------------------


def test_a_life(triton, stub, root):
    assert index(triton) == [("a", "", "UNKNOWN", ""), ("b", "", "UNKNOWN", "")]
    assert not triton.is_model_ready("a")
    refused(factor, triton, "a", status="NOT_FOUND", text="model 'a': no model is loaded")
    triton.load_model("a")
    assert triton.is_model_ready("a")
    assert factor(triton, "a") == 1
    assert index(triton) == [("a", "1", "READY", ""), ("b", "", "UNKNOWN", "")]
    ready = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True)).models
    assert [model.name for model in ready] == ["a"]
    put(root, "a", 3, version=2)
    triton.load_model("a")
    assert factor(triton, "a") == 3
    assert list(triton.get_model_metadata("a").versions) == ["2"]
    assert index(triton)[:2] == [("a", "1", "UNAVAILABLE", "unloaded"), ("a", "2", "READY", "")]
    triton.unload_model("a")
    assert not triton.is_model_ready("a")
    refused(factor, triton, "a", status="NOT_FOUND", text="model 'a'")
    assert index(triton)[:2] == [(("a"), version, "UNAVAILABLE", "unloaded") for version in "12"]
    assert triton.is_server_ready()
    triton.unload_model("a", unload_dependents=True)


def test_a_load_that_fails(triton, root):
    spoil(root, "a")
    refused(
        triton.load_model, "a", status="INTERNAL", text="failed to load 'a', model file 'model.onnx': expected a readable"
    )
    (told, _) = index(triton)
    assert told[:3] == ("a", "1", "UNAVAILABLE")
    assert told[3].startswith("model file 'model.onnx': expected a readable ONNX model")
    assert not triton.is_server_ready()
    assert not triton.is_model_ready("a")
    put(root, "a", 4)
    triton.load_model("a")
    assert triton.is_server_ready()
    spoil(root, "a")
    refused(triton.load_model, "a", status="INTERNAL", text="failed to load 'a', ")
    assert factor(triton, "a") == 4
    assert index(triton)[0][2] == "READY"
    assert index(triton)[0][3].startswith("not loaded again: ")
    assert triton.is_server_ready()


def test_readiness_that_is_not_strict(engine, root):
    spoil(root, "a")
    config = ServerConfig(port=0, strict_readiness=False)
    with Server(engine, config) as server, InferenceServerClient(server.address) as triton:
        refused(triton.load_model, "a", status="INTERNAL", text="failed to load 'a'")
        assert triton.is_server_ready()


def test_models_that_are_not_there(triton):
    refused(triton.load_model, "x", status="INTERNAL", text="failed to load 'x', model 'x': expected one in the repository")
    refused(triton.unload_model, "x", status="NOT_FOUND", text="model 'x': expected one in the repository ('a', 'b')")
    for name in ("../a", "/etc", "a/1", "", "."):
        refused(triton.load_model, name, status="INTERNAL", text=f"failed to load '{name}', ")


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_other_modes_refuse(root, mode):
    with (
        Engine(root, config=EngineConfig(model_control_mode=mode)) as engine,
        Server(engine, ServerConfig(port=0)) as server,
        InferenceServerClient(server.address) as triton,
    ):
        for call in (triton.load_model, triton.unload_model):
            refused(call, "a", status="UNAVAILABLE", text="only with model_control_mode 'explicit'")
        assert factor(triton, "a") == 1


def test_there_is_one_repository(stub):
    for rpc in ("Index", "ModelLoad", "ModelUnload"):
        with pytest.raises(grpc.RpcError, match="repository 'other': expected no name") as error:
            getattr(stub, f"Repository{rpc}")(getattr(service_pb2, f"Repository{rpc}Request")(repository_name="other"))
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


# ---- overrides -------------------------------------------------------------------------------------------------------


def test_another_configuration(triton):
    triton.load_model("a", config=json.dumps({"max_batch_size": 5, "version_policy": {"all": {}}}))
    assert triton.get_model_config("a").config.max_batch_size == 5
    triton.load_model("a")
    assert triton.get_model_config("a").config.max_batch_size == 0


def test_other_files(triton):
    triton.load_model("a")
    triton.load_model("a", config="{}", files={"file:1/model.onnx": MODEL, "file:1/notes.txt": b"x"})
    assert factor(triton, "a") == 7
    triton.load_model("new", config='{"name": "new"}', files={"file:3/model.onnx": MODEL})
    assert factor(triton, "new", "3") == 7
    assert ("new", "3", "READY", "") in index(triton)
    triton.load_model("a")
    assert factor(triton, "a") == 1


@pytest.mark.parametrize("path", ["../x", "1/../../x", "/etc/x", "1/a/x", "x", "1/", "0/x", "1/..", "1/a\\x"])
def test_no_file_gets_out(triton, path):
    refused(
        triton.load_model, "a", config="{}", files={f"file:{path}": MODEL}, status="INVALID_ARGUMENT",
        text=f"parameter 'file:{path}': expected",
    )  # fmt: skip
    assert index(triton)[0] == ("a", "", "UNKNOWN", "")


def parameter(**value):
    return service_pb2.ModelRepositoryParameter(**value)


PARAMETERS = {
    "config": ({"config": parameter(int64_param=1)}, "parameter 'config': expected a text, got int64"),
    "nothing": ({"config": parameter()}, "parameter 'config': expected a text, got nothing"),
    "json": ({"config": parameter(string_param="no")}, "expected a ModelConfig as JSON"),
    "file": ({"file:1/x": parameter(string_param="x")}, "parameter 'file:1/x': expected bytes, got string"),
    "alone": ({"file:1/x": parameter(bytes_param=b"x")}, "parameter 'config': expected the model's configuration"),
    "other": ({"speed": parameter(bool_param=True)}, "parameter 'speed': expected config or file:<version>/<name>"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_of_a_load(stub, case):
    parameters, text = PARAMETERS[case]
    with pytest.raises(grpc.RpcError) as error:
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="a", parameters=parameters))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in error.value.details()


def test_parameters_of_an_unload(stub):
    for parameters in ({"x": parameter(bool_param=True)}, {"unload_dependents": parameter(int64_param=1)}):
        with pytest.raises(grpc.RpcError) as error:
            stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="a", parameters=parameters))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# ---- statistics ------------------------------------------------------------------------------------------------------


def test_statistics_begin_anew_and_tell_the_memory(triton):
    triton.load_model("a")
    factor(triton, "a")
    (stats,) = triton.get_inference_statistics("a").model_stats
    (usage,) = stats.memory_usage
    assert stats.inference_count == 1
    assert (usage.type, usage.id) == ("CPU", 0)
    assert usage.byte_size >= 16
    triton.load_model("a")
    (stats,) = triton.get_inference_statistics("a").model_stats
    assert stats.inference_count == 0
    triton.unload_model("a")
    assert not triton.get_inference_statistics().model_stats


def test_the_memory_limit(root):
    put(put(root, "large", 1, size=512), "larger", 1, size=1024)
    with (
        explicit(root, memory_limit_mib=4) as engine,
        Server(engine, ServerConfig(port=0)) as server,
        InferenceServerClient(server.address) as triton,
    ):
        triton.load_model("large")
        text = "model 'larger' version 1: needs 8.0 MiB, but 2.0 MiB of 4.0 MiB"
        refused(triton.load_model, "larger", status="UNAVAILABLE", text=text)


# ---- what goes on meanwhile ------------------------------------------------------------------------------------------


def test_a_stream_goes_over_to_the_new_version_and_loses_nothing(stub, triton, root):
    triton.load_model("a")
    go, request = threading.Semaphore(1), oip.request("a", {"x": X})

    def requests():
        for _ in range(3):
            assert go.acquire(timeout=WAIT)
            yield request

    seen = []
    for response in stub.ModelStreamInfer(requests()):
        seen.append(np.frombuffer(response.infer_response.raw_output_contents[0], "<f4")[0])
        put(root, "a", 1 + len(seen))
        triton.load_model("a")
        go.release()
    assert seen == [1, 2, 3]


def test_ascents_and_calls_finish_on_the_version_that_they_began_with(server, triton, root):
    triton.load_model("a")
    with gradserve.Client(server.address) as client:
        steps = client.ascend("a", O.unit("y", 0), steps=2000, report_every=1, start=X)
        first = next(steps)
        put(root, "a", 100)
        triton.load_model("a")
        assert factor(triton, "a") == 100
        triton.unload_model("a")
        norms = {step.gradient_norm for step in steps}
        assert norms == {first.gradient_norm} == {1.0}


def test_a_call_that_has_its_model_keeps_it(engine, triton, monkeypatch):
    triton.load_model("a")
    monkeypatch.setattr(servicer, "check_batch", lambda *_: engine.unload("a"))
    assert factor(triton, "a") == 1
    assert not triton.is_model_ready("a")


def test_nothing_fails_while_models_are_loaded_again(server, triton, root):
    """Thousands of requests from many threads, unary, streamed and of our own client, during loads, of other models too."""
    triton.load_model("a")
    triton.load_model("b")
    stop = threading.Event()

    def unary():
        with InferenceServerClient(server.address) as own:
            seen = []
            while not stop.is_set() or len(seen) < 400:
                seen.append(factor(own, "a"))
            return seen

    def streamed():
        request = oip.request("a", {"x": X})

        def requests():
            sent = 0
            while not stop.is_set() or sent < 400:
                sent += 1
                yield request

        with grpc.insecure_channel(server.address) as channel:
            responses = list(oip.stub(channel).ModelStreamInfer(requests()))
        assert not {response.error_message for response in responses} - {""}
        return [float(np.frombuffer(r.infer_response.raw_output_contents[0], "<f4")[0]) for r in responses]

    def ours():
        with gradserve.Client(server.address) as client:
            seen = []
            while not stop.is_set() or len(seen) < 400:
                seen.append(float(client.gradient("a", {"x": X}, O.unit("y", 0)).gradients["x"][0, 0]))
            return seen

    def others():
        with InferenceServerClient(server.address) as own:
            while not stop.is_set():
                own.load_model("b")
                assert index(own)
        return []

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask) for ask in (unary, unary, unary, streamed, ours, others)]
        try:
            for new in range(2, 12):
                put(root, "a", new)
                triton.load_model("a")
                assert factor(triton, "a") == new
        finally:
            stop.set()
        answers = [future.result(WAIT) for future in asking]
    assert sum(map(len, answers)) >= 2000
    for seen in answers:
        assert seen == sorted(seen)
        assert set(seen) <= set(range(1, 12))


def test_loads_and_unloads_of_one_model_at_once(server, triton):
    """Whatever their order, each answers, and what is left is whole."""

    def change(number):
        with InferenceServerClient(server.address) as own:
            (own.load_model if number % 2 else own.unload_model)("a")

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(change, number) for number in range(24)]:
            future.result(WAIT)
    triton.load_model("a")
    assert factor(triton, "a") == 1
    assert index(triton)[0] == ("a", "1", "READY", "")
