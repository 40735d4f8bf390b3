"""A real server on a real socket, asked by the real clients."""

import asyncio
import itertools
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support import golden
from support.jobs import Crowd
from support.paths import MODELS
from support.waiting import WAIT, wait_for

import gradserve
from gradserve import Adam, Noise, Sgd, StopReason, errors
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.rpc.app import SERVICES, Server
from gradserve_server.runtime.runs import Prediction

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)


# ---- the answers are the engine's ------------------------------------------------------------------------------------


def test_infer(client, engine):
    got = client.infer("digits", IMAGE)
    assert got["logits"].tobytes() == engine.infer("digits", IMAGE)["logits"].tobytes()


@pytest.mark.parametrize("case", list(golden.cases()), ids=lambda case: case.name)
def test_gradient(client, engine, case):
    got, expected = (verbs.gradient("digits", IMAGE, case.objective) for verbs in (client, engine))
    assert got.values.tobytes() == expected.values.tobytes()
    assert got.gradients["image"].tobytes() == expected.gradients["image"].tobytes()


def test_vjp(client, engine):
    cotangents = {"logits": np.ones((4, 10)), "relu6": np.ones((4, 48, 7, 7), np.float32)}
    (outputs, gradients), expected = (verbs.vjp("digits", IMAGE, cotangents) for verbs in (client, engine))
    assert outputs.keys() == cotangents.keys()
    assert gradients["image"].tobytes() == expected[1]["image"].tobytes()


def test_activations(client, engine):
    got, expected = (verbs.activations("digits", IMAGE, ["relu6", "logits"]) for verbs in (client, engine))
    assert {name: array.tobytes() for name, array in got.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def test_layers_and_inspect(client, engine):
    assert client.layers("digits") == engine.layers("digits")
    assert client.inspect("digits_batchnorm") == engine.inspect("digits_batchnorm")
    assert client.inspect("digits").outputs[0].labels == tuple("0123456789")


SETTINGS = {
    "defaults": {},
    "everything": {
        "optimizer": Sgd(0.02),
        "gradient_normalization": "std",
        "weight_decay": 0.01,
        "jitter": 2,
        "start": Noise(0.05),
        "count": 3,
        "bounds": (0.1, 0.9),
        "report_every": 4,
        "image_every": 5,
    },
    "from an image": {"start": np.full((1, 28, 28), 0.5), "optimizer": Adam(0.01, 0.8, 0.99, 1e-6)},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_ascend_gives_the_same_bytes_in_process_and_over_the_wire(client, engine, name):
    settings = {"steps": 12, "seed": 3, **SETTINGS[name]}
    got, expected = (list(verbs.ascend("digits", UNIT, **settings)) for verbs in (client, engine))
    assert [step.index for step in got] == [step.index for step in expected]
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.values.tobytes() == theirs.values.tobytes()
        assert ours.gradient_norms.tobytes() == theirs.gradient_norms.tobytes()
        assert (ours.image is None) == (theirs.image is None)
        assert ours.image is None or ours.image.tobytes() == theirs.image.tobytes()
    assert got[-1].stop_reason is StopReason.FINISHED


def test_an_ascent_goes_on_in_process_and_over_the_wire(client, engine):
    settings = {"steps": 12, "seed": 3, "jitter": 2, "count": 2, "checkpoint_every": 1}
    whole = list(engine.ascend("digits", UNIT, **settings))
    for first, second in ((client, engine), (engine, client), (client, client)):
        *_, half = itertools.islice(first.ascend("digits", UNIT, **settings), 6)
        rest = list(second.ascend("digits", UNIT, **settings, resume=half.checkpoint))
        assert [step.checkpoint.to_bytes() for step in rest] == [step.checkpoint.to_bytes() for step in whole[5:]]
        assert rest[-1].image.tobytes() == whole[-1].image.tobytes()


def test_an_ascent_reports_the_value_of_the_picture_it_delivers(client):
    description = client.inspect("digits").input("image").image
    *_, last = client.ascend("digits", UNIT, steps=20, jitter=2, seed=1)
    value = client.gradient("digits", {"image": description.normalize(last.image)}, UNIT).values
    np.testing.assert_array_equal(value, last.values)


def test_the_async_client_has_the_same_answers(server, engine):
    async def ask():
        async with gradserve.aio.Client(server.address) as client:
            inferred, result, layers = await asyncio.gather(
                client.infer("digits", IMAGE), client.gradient("digits", IMAGE, UNIT), client.layers("digits")
            )
            steps = [step async for step in client.ascend("digits", UNIT, steps=5)]
            with pytest.raises(errors.ModelNotFound):
                await client.infer("nowhere", {})
            return inferred, result, layers, steps

    inferred, result, layers, steps = asyncio.run(ask())
    assert inferred["logits"].tobytes() == engine.infer("digits", IMAGE)["logits"].tobytes()
    assert result.gradients["image"].tobytes() == engine.gradient("digits", IMAGE, UNIT).gradients["image"].tobytes()
    assert layers == engine.layers("digits")
    assert steps[-1].image.tobytes() == list(engine.ascend("digits", UNIT, steps=5))[-1].image.tobytes()


# ---- errors ----------------------------------------------------------------------------------------------------------

SAVED = {"seed": 1, "checkpoint_every": 1}
MISTAKES = {
    errors.ModelNotFound: lambda c: c.infer("nowhere", IMAGE),
    errors.InvalidTensor: lambda c: c.infer("digits", {"image": golden.digits()[0]}),
    errors.UnknownInput: lambda c: c.infer("digits", {"picture": golden.digits()}),
    errors.UnknownLayer: lambda c: c.gradient("digits", IMAGE, O.unit("logit", 0)),
    errors.InvalidObjective: lambda c: c.gradient("digits", IMAGE, O.unit("logits", 10)),
    errors.InvalidAscent: lambda c: list(
        c.ascend("digits", UNIT, resume=next(c.ascend("digits", UNIT, **SAVED)).checkpoint)
    ),
}


@pytest.mark.parametrize("error", MISTAKES, ids=lambda error: error.__name__)
def test_a_mistake_raises_the_same_exception_as_in_process(client, engine, error):
    with pytest.raises(error) as remote:
        MISTAKES[error](client)
    with pytest.raises(error) as local:
        MISTAKES[error](engine)
    assert str(remote.value) == str(local.value)


def test_a_layer_that_folding_removed_names_the_nearest(client):
    with pytest.raises(errors.UnknownLayer, match="nearest layer is 'bn1'"):
        client.activations("digits_batchnorm", IMAGE, ["conv1"])


def test_garbage_on_the_wire_leaves_the_server_up(server, client):
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/gradserve.v1.GradientService/Infer")
        with pytest.raises(grpc.RpcError):
            call(b"\xff" * 1000)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/gradserve.v1.GradientService/NoSuchRpc")(b"")
    assert client.infer("digits", IMAGE)["logits"].shape == (4, 10)


def test_a_defect_answers_internal_without_its_text(engine, monkeypatch):
    def fail(*_args, **_kwargs):
        return 1 // 0

    monkeypatch.setattr(engine, "infer_with", fail)
    with (
        Server(engine, ServerConfig(port=0)) as server,
        gradserve.Client(server.address) as client,
        pytest.raises(errors.InternalError, match=r"^internal error; request id \w{32}$"),
    ):
        client.infer("digits", IMAGE)


def test_nobody_there():
    with gradserve.Client("127.0.0.1:1", timeout=5) as client, pytest.raises(errors.ServerUnavailable):
        client.infer("digits", IMAGE)


def test_a_port_that_is_taken(server, engine):
    with pytest.raises(OSError, match="cannot listen"):
        Server(engine, ServerConfig(port=server.port))


# ---- many at once, and cancelling ------------------------------------------------------------------------------------


def slow_ascent(client, **settings):
    return client.ascend("digits", UNIT, steps=1_000_000, **settings)


def test_predictions_are_answered_while_ascents_run(client):
    ascents = [slow_ascent(client, report_every=1000) for _ in range(4)]
    for ascent in ascents:
        next(ascent)
    started = time.monotonic()
    client.infer("digits", IMAGE)
    # Nowhere near the hours that the ascents would take; not a measurement.
    assert time.monotonic() - started < 10
    for ascent in ascents:
        ascent.close()


@pytest.mark.parametrize("how", ["close", "break", "client closed"])
def test_a_cancelled_ascent_stops(server, how):
    client = gradserve.Client(server.address)
    ascent = slow_ascent(client, report_every=1)
    next(ascent)
    wait_for(lambda: server.running_ascents == 1)
    if how == "client closed":
        client.close()
    elif how == "break":
        for _ in ascent:
            break
        del ascent
    else:
        ascent.close()
    wait_for(lambda: server.running_ascents == 0)
    client.close()


def test_a_cancelled_ascent_stops_within_one_step():
    """Counted by the engine's own steps: none after the one that was running when the call was cancelled."""
    with Engine(MODELS) as engine:
        steps: list[bool] = []
        stop = threading.Event()

        def should_stop() -> bool:
            steps.append(stop.is_set())
            return stop.is_set()

        ascent = engine.ascend("digits", UNIT, steps=1000, should_stop=should_stop)
        for _ in range(5):
            next(ascent)
        stop.set()
        assert list(ascent) == []
        assert steps == [False] * 5 + [True]


def test_too_many_ascents_are_refused_by_name(engine):
    config = ServerConfig(port=0, max_ascents=2, drain_seconds=1)
    with Server(engine, config) as server, gradserve.Client(server.address) as client:
        running = [slow_ascent(client) for _ in range(2)]
        for ascent in running:
            next(ascent)
        with pytest.raises(errors.LimitExceeded, match="at most 2"):
            next(slow_ascent(client))
        running[0].close()
        wait_for(lambda: server.running_ascents == 1)
        again = slow_ascent(client)
        next(again)
        again.close()
        running[1].close()


@pytest.fixture
def busy():
    """A server whose device is busy, and the crowd that keeps it so."""
    with (
        Engine(MODELS, config=EngineConfig(max_queue=4)) as engine,
        Server(engine, ServerConfig(port=0, drain_seconds=2)) as server,
        Crowd(engine._scheduler) as crowd,
    ):
        yield server, crowd


UNARY = {
    "infer": lambda client: client.infer("digits", IMAGE),
    "gradient": lambda client: client.gradient("digits", IMAGE, UNIT),
    "vjp": lambda client: client.vjp("digits", IMAGE, {"logits": np.ones((4, 10))}),
    "jvp": lambda client: client.jvp("digits", IMAGE, {"image": IMAGE["image"]}),
    "hvp": lambda client: client.hvp("digits", IMAGE, UNIT, {"image": IMAGE["image"]}),
    "activations": lambda client: client.activations("digits", IMAGE, ["relu6"]),
}


def test_calls_wait_in_line_and_a_full_line_refuses(busy):
    server, crowd = busy
    with gradserve.Client(server.address) as client:
        calls = [crowd.join(call, client) for call in list(UNARY.values())[:4]]
        with pytest.raises(errors.LimitExceeded, match="at most 4 runs"):
            client.infer("digits", IMAGE)
        crowd.let_go()
        for call in calls:
            call.result(WAIT)


@pytest.mark.parametrize("verb", UNARY)
def test_every_call_waits_on_behalf_of_its_caller(busy, verb):
    server, crowd = busy
    with gradserve.Client(server.address, timeout=WAIT) as client:
        call = crowd.join(UNARY[verb], client)
        (ticket,) = crowd.scheduler._line
        # The client's, not "as long as it takes": rounded up, for gRPC sends it with three digits.
        assert ticket.work.caller.deadline < time.monotonic() + 1.1 * WAIT
        assert ticket.work.caller.refusal() is None
        crowd.let_go()
        call.result(WAIT)
    wait_for(ticket.work.caller.should_stop)


def test_a_deadline_takes_a_call_out_of_the_line(busy):
    server, crowd = busy
    with gradserve.Client(server.address, timeout=2) as client:
        waiting = crowd.join(UNARY["infer"], client)
        assert crowd.scheduler.waiting == 1
        with pytest.raises(errors.DeadlineExceeded):
            waiting.result(WAIT)
        wait_for(lambda: crowd.scheduler.waiting == 0)


def test_a_client_that_goes_away_is_not_run_for(busy, monkeypatch):
    server, crowd = busy
    ran = []
    monkeypatch.setattr(Prediction, "alone", lambda work: ran.append(work) or {})
    client = gradserve.Client(server.address)
    waiting = crowd.join(UNARY["infer"], client)
    assert crowd.scheduler.waiting == 1
    client.close()
    with pytest.raises((errors.CallError, ValueError)):
        waiting.result(WAIT)
    (ticket,) = crowd.scheduler._line
    wait_for(lambda: ticket.work.caller.refusal() is not None)
    crowd.let_go()
    wait_for(lambda: crowd.scheduler.waiting == 0)
    assert ran == []


def test_large_messages_pass_and_larger_ones_are_refused(engine):
    images = np.zeros((2000, 1, 28, 28), np.float32)  # 6.3 MB, over grpc's default of 4 MiB
    with Server(engine, ServerConfig(port=0)) as server, gradserve.Client(server.address) as client:
        assert client.infer("digits", {"image": images})["logits"].shape == (2000, 10)
    config = ServerConfig(port=0, max_message_mib=1)
    with Server(engine, config) as server, gradserve.Client(server.address) as client:
        with pytest.raises(errors.LimitExceeded):
            client.infer("digits", {"image": images})
        assert client.infer("digits", IMAGE)["logits"].shape == (4, 10)


# ---- operations ------------------------------------------------------------------------------------------------------


def test_health_of_each_service(server):
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", *SERVICES):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            stub.Check(health_pb2.HealthCheckRequest(service="nowhere"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_watchers_take_no_thread(engine):
    config = ServerConfig(port=0, max_calls=2, max_ascents=1, max_streams=0)
    with (
        Server(engine, config) as server,
        grpc.insecure_channel(server.address) as channel,
        gradserve.Client(server.address, timeout=10) as client,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watchers = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(5)]
        assert all(next(watcher).status == health_pb2.HealthCheckResponse.SERVING for watcher in watchers)
        assert client.inspect("digits").name == "digits"
        for watcher in watchers:
            watcher.cancel()


def test_reflection_lists_the_services(server):
    with grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(SERVICES) <= set(database.get_services())
        for service in SERVICES:
            (described,) = database.FindFileContainingSymbol(service).service
            assert service.endswith(f".{described.name}")
