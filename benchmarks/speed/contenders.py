"""Who is timed. Each sets itself up in a process of its own and then computes the same gradient, again and again."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .memory import Memory, settle
from .suite import SUITE

UNIT = 5
Array = NDArray[np.float32]
Ready = tuple[Callable[[int], float], Callable[[], dict[str, object]]]
"""A function that does n gradients and returns the seconds, and one that tells the gradient and the peak memory."""


def gradserve(path: Path, image: Array, threads: int, *, backend: str) -> Ready:
    """Our engine, in process: the whole call of a user."""
    import onnxruntime  # noqa: F401 -- a library, loaded before memory is counted

    from gradserve import objectives as O
    from gradserve_server import Engine, EngineConfig

    memory = Memory()
    engine = Engine(path, config=EngineConfig(backend=backend, threads=threads))
    model = engine.models()[0].name
    (tensor,) = engine.inspect(model).inputs
    objective = O.unit("logits", UNIT)
    return _ready(lambda: engine.gradient(model, {tensor.name: image}, objective).gradients[tensor.name], memory)


def forward(path: Path, image: Array, threads: int) -> Ready:
    """Our engine's prediction: the unit that a gradient is measured in."""
    import onnxruntime  # noqa: F401 -- as above

    from gradserve_server import Engine, EngineConfig

    memory = Memory()
    engine = Engine(path, config=EngineConfig(threads=threads))
    model = engine.models()[0].name
    (tensor,) = engine.inspect(model).inputs
    return _ready(lambda: engine.infer(model, {tensor.name: image}, outputs=["logits"])["logits"], memory)


def training(path: Path, image: Array, threads: int) -> Ready:
    """onnxruntime-training as it comes: the graph that its builder makes of the exported file, in a session."""
    import onnx
    import onnxruntime
    from onnxruntime.capi._pybind_state import GradientGraphBuilder

    memory = Memory()
    model = onnx.load(path)
    name, opset = model.graph.input[0].name, model.opset_import[0].version
    graph = model.graph
    del graph.value_info[:]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([UNIT]), "bench/unit"))
    graph.node.append(onnx.helper.make_node("Gather", ["logits", "bench/unit"], ["bench/value"], axis=1))
    graph.node.append(onnx.helper.make_node("ReduceSum", ["bench/value"], ["bench/loss"], keepdims=0))
    graph.output.append(onnx.helper.make_tensor_value_info("bench/loss", onnx.TensorProto.FLOAT, []))
    assert opset >= 13
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    builder = GradientGraphBuilder(model.SerializeToString(), {"bench/loss"}, {name}, "bench/loss", options)
    builder.build()
    whole = onnx.ModelProto.FromString(builder.get_model())
    gradient = f"{name}_grad"
    del whole.graph.output[:]
    whole.graph.output.append(onnx.helper.make_tensor_value_info(gradient, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options, ["CPUExecutionProvider"])
    feeds = {name: image} | {
        value.name: np.ones(1, np.float32) for value in session.get_inputs() if value.name != name and value.shape == [1]
    }
    return _ready(lambda: session.run([gradient], feeds)[0], memory)


def onnx2torch(path: Path, image: Array, threads: int) -> Ready:
    """The exported file back in PyTorch, eager, without gradients of the weights."""
    import onnx
    import torch
    from zoo.libraries import prepare_imports

    prepare_imports()
    from onnx2torch import convert

    torch.set_num_threads(threads)
    memory = Memory()
    network = convert(onnx.load(path)).eval().requires_grad_(requires_grad=False)
    return _autograd(network, torch.from_numpy(image), memory)


def pytorch(subject: str, image: Array, threads: int, *, compiled: bool, channels_last: bool) -> Ready:
    """PyTorch itself, without gradients of the weights, with BatchNorm folded."""
    import torch

    torch.set_num_threads(threads)
    # What a network is built with, and the compiler, are libraries: loaded before memory is counted.
    import zoo.randomize  # noqa: F401

    SUITE[subject].build()
    if compiled:
        import torch._inductor.compile_fx
    settle()
    memory = Memory()
    network = SUITE[subject].folded()
    x = torch.from_numpy(image)
    if channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    settle()  # making up random parameters leaves more behind than reading them would
    return _autograd(torch.compile(network) if compiled else network, x, memory)


def _autograd(network: Callable[..., object], x: object, memory: Memory) -> Ready:
    import torch

    def gradient() -> Array:
        leaf = x.detach().requires_grad_()  # type: ignore[attr-defined]
        return torch.autograd.grad(network(leaf)[:, UNIT].sum(), leaf)[0].numpy()  # type: ignore[index]

    return _ready(gradient, memory)


def _ready(compute: Callable[[], Array], memory: Memory) -> Ready:
    compute()  # compiles, allocates
    memory.restart()

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            compute()
        return time.perf_counter() - started

    return run, lambda: {"result": np.ascontiguousarray(compute()), "peak_bytes": memory.peak()}
