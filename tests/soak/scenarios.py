"""What clients of a server do, good and bad; each once, at random."""

import random
import socket
from collections.abc import Callable
from contextlib import suppress

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support import golden, oip
from support.fuzz.rpcs import LOADING, RPCS, call
from support.fuzz.seeds import valid
from support.server_process import ServerProcess
from support.victim import KINDS, victim
from tritonclient.grpc import InferenceServerClient

import gradserve
from gradserve import errors
from gradserve import objectives as O

LAYERS = ("relu1", "relu3", "relu6", "logits")
TERMS = (None, O.layer, lambda layer: O.unit(layer, 0))
MODELS = ("digits", "digits_batchnorm")
DEFECTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}


class World:
    """A server and the clients of one thread.

    Args:
        server: That is driven.
        seed: Of what is random.
    """

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self.server, self.random = server, random.Random(seed)
        self.channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.ours = gradserve.Client(server.address, timeout=60)
        self.hurried = gradserve.Client(server.address, timeout=0.002)
        self.triton = InferenceServerClient(server.address)

    def image(self) -> dict[str, np.ndarray]:
        """Some digits."""
        return {"image": golden.digits()[: self.random.randint(1, 4)]}

    def unit(self) -> gradserve.Objective:
        """Some logit."""
        return O.unit("logits", self.random.randrange(10))

    def model(self) -> str:
        """Some model."""
        return self.random.choice(MODELS)

    def close(self) -> None:
        """Lets go of the clients."""
        for client in (self.channel, self.ours, self.hurried, self.triton):
            client.close()


def predict(world: World) -> None:
    world.ours.infer(world.model(), world.image())


def predict_by_triton(world: World) -> None:
    world.triton.infer(world.model(), [oip.infer_input(*item) for item in world.image().items()])


def gradient(world: World) -> None:
    world.ours.gradient(world.model(), world.image(), world.unit())


def vjp(world: World) -> None:
    image = world.image()
    world.ours.vjp("digits", image, {"logits": np.ones((len(image["image"]), 10), np.float32)})


def jvp(world: World) -> None:
    image = world.image()
    world.ours.jvp("digits", image, image)


def hvp(world: World) -> None:
    image = world.image()
    world.ours.hvp("digits", image, O.layer("relu6"), image)


def activations(world: World) -> None:
    world.ours.activations("digits", world.image(), [world.random.choice(LAYERS)])


def ascend(world: World) -> None:
    settings = {"count": world.random.randint(1, 4), "jitter": world.random.randint(0, 2), "image_every": 4}
    list(world.ours.ascend(world.model(), world.unit(), steps=world.random.randint(1, 20), **settings))


def ascend_and_leave(world: World) -> None:
    steps = world.ours.ascend(world.model(), world.unit(), steps=1_000_000, image_every=1)
    next(steps)
    steps.close()


def new_plan(world: World) -> None:
    """Of one of 80 objectives, each of which needs a plan of its own: ten times what the server keeps."""
    terms = [make(layer) for layer in LAYERS if (make := world.random.choice(TERMS)) is not None]
    world.ours.gradient(world.model(), world.image(), sum(terms, world.unit()))


def stream(world: World) -> None:
    requests = [oip.request(world.model(), world.image()) for _ in range(world.random.randint(1, 8))]
    for answer in oip.stub(world.channel).ModelStreamInfer(iter(requests)):
        assert not answer.error_message, answer.error_message


def stream_and_leave(world: World) -> None:
    requests = (oip.request("digits", world.image()) for _ in range(100))
    answers = oip.stub(world.channel).ModelStreamInfer(requests)
    next(answers)
    answers.cancel()


def bad_request(world: World) -> None:
    """A valid request with a few bytes changed, or cut off; of any RPC but those that take models away from the others."""
    rpc = RPCS[world.random.choice([path for path in RPCS if path not in LOADING])]
    data = bytearray(world.random.choice(valid(rpc)).SerializeToString() or b"?")
    for _ in range(world.random.randint(1, 4)):
        data[world.random.randrange(len(data))] = world.random.randrange(256)
    outcome = call(world.channel, rpc, [bytes(data[: world.random.randint(1, len(data))])], linger=0.05)
    assert outcome.code not in DEFECTS, (rpc.path, outcome.details, bytes(data))


def too_late(world: World) -> None:
    with suppress(errors.DeadlineExceeded):
        world.hurried.gradient(world.model(), world.image(), world.unit())


def watch_health(world: World) -> None:
    watcher = health_pb2_grpc.HealthStub(world.channel).Watch(
        health_pb2.HealthCheckRequest(service=f"model {world.random.random()}")
    )
    next(watcher)
    watcher.cancel()


def scrape(world: World) -> None:
    assert world.server.scrape()["process_resident_memory_bytes"] > 0


def reload(world: World) -> None:
    """While others use it."""
    world.ours.load(world.model())


def describe(world: World) -> None:
    world.ours.layers(world.model())
    world.ours.inspect(world.model())
    world.triton.get_inference_statistics()


def new_connection(world: World) -> None:
    with gradserve.Client(world.server.address, timeout=60) as client:
        client.infer("digits", world.image())


def broken_connection(world: World) -> None:
    host, _, port = world.server.address.rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(world.random.randbytes(world.random.randint(0, 2000)))


def killed_client(world: World) -> None:
    with victim(world.server.address, world.random.choice(list(KINDS))):
        pass


SCENARIOS: dict[Callable[[World], None], int] = {
    predict: 10,
    predict_by_triton: 10,
    gradient: 10,
    vjp: 5,
    jvp: 5,
    hvp: 5,
    activations: 5,
    ascend: 5,
    ascend_and_leave: 5,
    new_plan: 1,
    stream: 5,
    stream_and_leave: 5,
    bad_request: 10,
    too_late: 5,
    watch_health: 3,
    scrape: 1,
    reload: 1,
    describe: 3,
    new_connection: 3,
    broken_connection: 3,
}
"""How often each is done, beside the others."""


def pick(world: World) -> Callable[[World], None]:
    """One of them."""
    (scenario,) = world.random.choices(list(SCENARIOS), list(SCENARIOS.values()))
    return scenario
