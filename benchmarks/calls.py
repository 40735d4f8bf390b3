"""What a call over gRPC costs beside the same call in process: a gradient, and a prediction, with 600 kB each way.

python benchmarks/calls.py [--rounds 9] [--seconds 0.5]

Gradients of two models by our client: ResNet-50, and a single product, whose call is nearly all transport. A prediction of a
single Neg by Triton's client, with its tensors in the message and in system shared memory (written and read by the client in
its time too); and by a server that reads nothing and has its answer ready: what Triton's client alone costs. The bare
echo of the same bytes through grpcio's thread-pool server is what the transport alone costs. Servers have processes of their
own. Contenders run in turn; every time is the median of the turns.
"""

import argparse
import multiprocessing.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from turns import Contender, Ready, take_turns

ECHO = "echo"
READY = "ready"
"""Answers every prediction of a Neg with the same bytes."""
THREADS = len(os.sched_getaffinity(0))
UNIT = 5
SHAPE = (3, 224, 224)


def product(path: Path) -> None:
    """A model of one product and one sum: its gradient is quick."""
    info, helper = onnx.helper.make_tensor_value_info, onnx.helper
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), "w")
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes = [
        helper.make_node("Mul", ["image", "w"], ["p"]),
        helper.make_node("ReduceSum", ["p", "axes"], ["logits"], keepdims=0),
    ]
    image = info("image", onnx.TensorProto.FLOAT, ["N", *SHAPE])
    logits = info("logits", onnx.TensorProto.FLOAT, ["N", SHAPE[0]])
    graph = helper.make_graph(nodes, "product", [image], [logits], [weight, axes])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), path)


def negation(path: Path) -> None:
    """A model that answers with as much as it is asked."""
    info, helper = onnx.helper.make_tensor_value_info, onnx.helper
    image, negative = (info(name, onnx.TensorProto.FLOAT, ["N", *SHAPE]) for name in ("image", "negative"))
    graph = helper.make_graph([helper.make_node("Neg", ["image"], ["negative"])], "negation", [image], [negative])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), path)


# ---- servers ---------------------------------------------------------------------------------------------------------


def serve(what: str) -> None:
    """Serves a model file, or the echo, and says where; until standard input ends."""
    import grpc

    from gradserve_server import Engine, ServerConfig
    from gradserve_server.rpc.app import Server
    from gradserve_server.runtime.freed_memory import keep_freed_memory

    keep_freed_memory()
    if what in BARE:
        service, rpc, answer = BARE[what]()
        handlers = {rpc: grpc.unary_unary_rpc_method_handler(lambda request, _: answer(request))}
        bare_server = grpc.server(ThreadPoolExecutor(4))
        bare_server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        address = f"127.0.0.1:{bare_server.add_insecure_port('127.0.0.1:0')}"
        bare_server.start()
    else:
        server = Server(Engine(what), ServerConfig(port=0, allow_shared_memory=True))
        address = server.address
    print(address, flush=True)
    sys.stdin.read()
    os._exit(0)  # the client is gone


def _ready_answer() -> tuple[str, str, Callable[[bytes], bytes]]:
    from architectures import resnet
    from tritonclient.grpc import service_pb2

    image = resnet.photograph()
    response = service_pb2.ModelInferResponse(model_name="negation", model_version="1")
    response.outputs.add(name="negative", datatype="FP32", shape=image.shape)
    response.raw_output_contents.append((-image).tobytes())
    serialized = response.SerializeToString()
    return "inference.GRPCInferenceService", "ModelInfer", lambda _: serialized


BARE: dict[str, Callable[[], tuple[str, str, Callable[[bytes], bytes]]]] = {
    ECHO: lambda: ("bench", "Echo", lambda request: request),
    READY: _ready_answer,
}
"""Servers without a model: service, RPC, and what answers bytes with bytes."""


@dataclass
class Served:
    """A server in a process of its own, which ends with this one."""

    what: str

    def __post_init__(self) -> None:
        command = [sys.executable, __file__, "--serve", self.what]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()


# ---- contenders ------------------------------------------------------------------------------------------------------


def gradient(path: Path, image: NDArray[np.float32], unit: int, *, served: bool) -> Ready:
    """One unary gradient, in process or through a server on loopback."""
    import gradserve
    from gradserve import objectives as O
    from gradserve_server import Engine

    server = Served(str(path)) if served else None
    verbs = gradserve.Client(server.address) if server is not None else Engine(path)

    def call(_alive: object = server) -> NDArray[np.float32]:
        return verbs.gradient(path.stem, {"image": image}, objective=O.unit("logits", unit)).gradients["image"]

    return _ready(call)


def prediction(path: Path, image: NDArray[np.float32]) -> Ready:
    """One prediction in process."""
    from gradserve_server import Engine

    engine = Engine(path)
    return _ready(lambda: engine.infer(path.stem, {"image": image})["negative"])


def in_message(path: Path, image: NDArray[np.float32], what: str = "") -> Ready:
    """One prediction by Triton's client; of our server, or of a bare one."""
    from tritonclient.grpc import InferenceServerClient, InferInput

    server = Served(what or str(path))
    client = InferenceServerClient(server.address)
    given = InferInput("image", image.shape, "FP32")

    def call(_alive: object = server) -> NDArray[np.float32]:
        given.set_data_from_numpy(image)
        return client.infer(path.stem, [given]).as_numpy("negative")

    return _ready(call)


def in_shared_memory(path: Path, image: NDArray[np.float32]) -> Ready:
    """One prediction by Triton's client, whose tensors go there and back through shared memory."""
    from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
    from tritonclient.utils import shared_memory

    server = Served(str(path))
    client = InferenceServerClient(server.address)
    given, asked = InferInput("image", image.shape, "FP32"), InferRequestedOutput("negative")
    regions = {}
    for tensor, name in ((given, "there"), (asked, "back")):
        key = f"/gradserve-calls-{name}-{os.getpid()}"
        regions[name] = shared_memory.create_shared_memory_region(name, key, image.nbytes)
        client.register_system_shared_memory(name, key, image.nbytes)
        tensor.set_shared_memory(name, image.nbytes)

    def call(_alive: object = server) -> NDArray[np.float32]:
        shared_memory.set_shared_memory_region(regions["there"], [image])
        client.infer(path.stem, [given], outputs=[asked])
        return shared_memory.get_contents_as_numpy(regions["back"], np.float32, image.shape).copy()

    multiprocessing.util.Finalize(None, _destroy, [list(regions.values())], exitpriority=0)
    return _ready(call)


def _destroy(regions: list[Any]) -> None:
    from tritonclient.utils import shared_memory

    for region in regions:
        shared_memory.destroy_shared_memory_region(region)


def echo(image: NDArray[np.float32]) -> Ready:
    """The same bytes there and back, without a message around them."""
    import grpc

    server = Served(ECHO)
    call = grpc.insecure_channel(server.address).unary_unary("/bench/Echo")

    def run(_alive: object = server) -> NDArray[np.float32]:
        return np.frombuffer(call(image.tobytes()), np.float32)

    return _ready(run)


def _ready(call: Callable[[], NDArray[np.float32]]) -> Ready:
    from gradserve_server.runtime.freed_memory import keep_freed_memory

    # A process that never had a large array gives the memory of each message back to the system and gets it again, page by
    # page: up to a millisecond of a call, for the echo and for us. One that had works as any that has run for a while.
    keep_freed_memory()

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - started

    return run, call


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn (default: %(default)s)")
    parser.add_argument("--serve", metavar="WHAT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    from architectures import resnet

    image = resnet.photograph()
    title = f"A unary call, {image.nbytes / 1000:.0f} kB each way, {THREADS} threads; ms, medians"
    table = Table(title=title)
    for heading in ("", "in process", "over gRPC", "more", "bare echo", "more / echo"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in ("negation", "product", "resnet50")}
        negation(files["negation"])
        product(files["product"])
        resnet.export(resnet.resnet50(), files["resnet50"], keep_batchnorm=True)

        def compare(here: Contender, *there: tuple[str, Contender]) -> None:
            contenders = {"here": here, **dict(there), "echo": partial(echo, image)}
            outcomes = take_turns(contenders, arguments.rounds, arguments.seconds)
            alone, bare = outcomes["here"].seconds * 1e3, outcomes["echo"].seconds * 1e3
            for name, _ in there:
                np.testing.assert_array_equal(outcomes["here"].report, outcomes[name].report)
                time_there = outcomes[name].seconds * 1e3
                more = time_there - alone
                table.add_row(name, f"{alone:.2f}", f"{time_there:.2f}", f"{more:.2f}", f"{bare:.2f}", f"{more / bare:.2f}")

        compare(
            partial(prediction, files["negation"], image),
            ("prediction, Triton's client", partial(in_message, files["negation"], image)),
            ("the same, its answer ready", partial(in_message, files["negation"], image, READY)),
            ("the same in shared memory", partial(in_shared_memory, files["negation"], image)),
        )
        for name, file, unit in (("product", files["product"], 1), ("ResNet-50", files["resnet50"], UNIT)):
            here, there = (partial(gradient, file, image, unit, served=served) for served in (False, True))
            compare(here, (f"gradient of {'a ' if unit == 1 else ''}{name}", there))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
