"""What a call over gRPC costs beside the same call in process: a gradient with 600 kB each way.

python benchmarks/calls.py [--rounds 9] [--seconds 0.5]

Two models: ResNet-50, and a single product, whose call is nearly all transport. The bare echo of the same bytes through
grpcio's thread-pool server is what the transport alone costs. Server and client share a process, so that they also share
its GIL: two processes do better. Contenders run in turn; every time is the median of the turns.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from turns import Ready, take_turns

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


def gradient(path: Path, image: NDArray[np.float32], unit: int, *, served: bool) -> Ready:
    """One unary gradient, in process or through a server on loopback."""
    import gradserve
    from gradserve import objectives as O
    from gradserve_server import Engine, ServerConfig
    from gradserve_server.rpc.app import Server

    engine = Engine(path)
    server = Server(engine, ServerConfig(port=0)) if served else None
    verbs = gradserve.Client(server.address) if server is not None else engine

    def call(_alive: object = server) -> NDArray[np.float32]:
        return verbs.gradient(path.stem, {"image": image}, objective=O.unit("logits", unit)).gradients["image"]

    return _ready(call)


def echo(image: NDArray[np.float32]) -> Ready:
    """The same bytes there and back, without a message around them."""
    import grpc

    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench", {"Echo": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/bench/Echo")

    def run(_alive: object = server) -> NDArray[np.float32]:
        return np.frombuffer(call(image.tobytes()), np.float32)

    return _ready(run)


def _ready(call: Callable[[], NDArray[np.float32]]) -> Ready:
    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - started

    return run, call


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn (default: %(default)s)")
    arguments = parser.parse_args()
    from architectures import resnet

    image = resnet.photograph()
    table = Table(title=f"A unary gradient, {image.nbytes / 1000:.0f} kB each way, {THREADS} threads; ms, medians")
    for heading in ("", "in process", "over gRPC", "more", "bare echo"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        models = {"a product": (Path(folder) / "product.onnx", 1), "ResNet-50": (Path(folder) / "resnet50.onnx", UNIT)}
        product(models["a product"][0])
        resnet.export(resnet.resnet50(), models["ResNet-50"][0], keep_batchnorm=True)
        for name, (path, unit) in models.items():
            contenders = {
                "in process": partial(gradient, path, image, unit, served=False),
                "over gRPC": partial(gradient, path, image, unit, served=True),
                "echo": partial(echo, image),
            }
            outcomes = take_turns(contenders, arguments.rounds, arguments.seconds)
            here, there = outcomes["in process"], outcomes["over gRPC"]
            np.testing.assert_array_equal(here.report, there.report)
            times = [outcome.seconds * 1e3 for outcome in outcomes.values()]
            table.add_row(name, f"{times[0]:.2f}", f"{times[1]:.2f}", f"{times[1] - times[0]:.2f}", f"{times[2]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
