"""Where models run. What needs a GPU is skipped without one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.capi._pybind_state import EPFail
from support.devices import GPUS, MISSING
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve import transforms as T
from gradserve.errors import BackendMissing, InvalidModel, RunFailed
from gradserve.stopping import Probability
from gradserve_server import Engine, EngineConfig
from gradserve_server.runtime.device import NEEDS, PROVIDERS, Device, check_device, provider
from gradserve_server.runtime.session import Session

OBJECTIVE = O.unit("logits", 7)


def test_every_device_has_providers_and_ends_with_the_processor():
    assert PROVIDERS.keys() == set(Device)
    assert NEEDS.keys() == set(Device) - {Device.CPU}
    assert all(providers[-1] == "CPUExecutionProvider" for providers in PROVIDERS.values())


@pytest.mark.parametrize("device", NEEDS)
def test_a_device_that_is_not_there_is_never_silently_the_processor(device):
    if not MISSING[device]:
        pytest.skip(f"there is {device}")
    expected = rf"device '{device}': expected (a GPU,? with |an onnxruntime with {provider(device)})"
    with pytest.raises(BackendMissing, match=expected):
        Engine(MODELS, config=EngineConfig(device=device))


@pytest.mark.parametrize("device", NEEDS)
def test_a_provider_that_finds_no_gpu_says_what_it_looked_for(device, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider(device)])
    monkeypatch.setattr("gradserve_server.runtime.device._starts", lambda _: False)
    with pytest.raises(BackendMissing, match=rf"device '{device}': expected a GPU,? with .*, got none"):
        check_device(device)


@pytest.mark.parametrize("device", NEEDS)
def test_a_wheel_without_the_provider_is_named_with_the_one_that_has_it(device, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    extra, _ = NEEDS[device]
    with pytest.raises(BackendMissing, match=rf"got CPUExecutionProvider; install gradserve-server\[{extra}\]"):
        check_device(device)


@pytest.mark.parametrize("device", NEEDS)
def test_a_session_that_would_run_on_the_processor_is_refused(device):
    """onnxruntime turns to it where a GPU has gone, or has no memory left."""
    if not MISSING[device]:
        pytest.skip(f"there is {device}")
    x = ir.Value(name="x", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Neg", [x])
    node.outputs[0].name = "y"
    model = ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 17}), ir_version=8)
    with pytest.raises((BackendMissing, InvalidModel)):
        Session(model, 1, device=device)


def test_a_provider_that_fails_in_a_run_is_never_silently_the_processor():
    x = ir.Value(name="x", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Neg", [x])
    node.outputs[0].name = "y"
    session = Session(ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 17}), ir_version=8), 1)

    class Failing:
        def __getattr__(self, name):
            return getattr(works, name)

        def run(self, *_):
            msg = "the GPU has gone"
            raise EPFail(msg)

    works, session._session._sess = session._session._sess, Failing()
    with pytest.raises(RunFailed, match="the GPU has gone"):
        session.run({"x": np.zeros(2, np.float32)})


@pytest.fixture(scope="module")
def processor():
    with Engine(MODELS) as engine:
        yield engine


@pytest.fixture(scope="module", params=GPUS)
def gpu(request):
    with Engine(MODELS, config=EngineConfig(device=request.param)) as engine:
        yield engine


def pictures(seed=0):
    return {"image": np.random.default_rng(seed).normal(size=(3, 1, 28, 28)).astype(np.float32)}


VERBS = {
    "infer": lambda engine: engine.infer("digits", pictures())["logits"],
    "gradient": lambda engine: engine.gradient("digits", pictures(), OBJECTIVE).gradients["image"],
    "vjp": lambda engine: engine.vjp("digits", pictures(), cotangents={"logits": np.eye(3, 10, dtype=np.float32)})[1][
        "image"
    ],
    "jvp": lambda engine: engine.jvp("digits", pictures(), pictures(1))[1]["logits"],
    "hvp": lambda engine: engine.hvp("digits", pictures(), O.layer("relu3"), pictures(1)).products["image"],
    "activations": lambda engine: engine.activations("digits", pictures(), layers=["relu3"])["relu3"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_gpu_answers_as_the_processor_does_and_the_same_twice(verb, processor, gpu):
    expected = VERBS[verb](processor)
    first, second = (VERBS[verb](gpu) for _ in range(2))
    assert relative_error(first, expected) < TOLERANCE["float32 network"]
    np.testing.assert_array_equal(first, second)


def test_predictions_of_a_gpu_are_pure(gpu):
    before = VERBS["infer"](gpu).tobytes()
    for _ in gpu.ascend("digits", OBJECTIVE, steps=3, jitter=2):
        assert VERBS["infer"](gpu).tobytes() == before
    VERBS["gradient"](gpu)
    assert VERBS["infer"](gpu).tobytes() == before


def test_several_ascents_at_once_on_a_gpu_are_those_one_by_one(gpu):
    """Each places and fetches its images when it wants to, whatever runs meanwhile."""
    several = [{"seed": 1}, {"seed": 2, "stop_at": Probability(0.99)}, {"seed": 3, "keep": "best"}, {"seed": 4, "jitter": 2}]

    def last(settings):
        *_, step = gpu.ascend("digits", OBJECTIVE, steps=3, image_every=1, count=2, **settings)
        return step.image

    expected = [last(settings) for settings in several]
    with ThreadPoolExecutor(len(several)) as pool:
        for got, image in zip(pool.map(last, several), expected, strict=True):
            np.testing.assert_array_equal(got, image)


ASCENTS = {
    "on the device": {"jitter": 2},
    "with transforms on the processor": {"transforms": (T.Rotate(5.0),)},
}


@pytest.mark.parametrize("name", ASCENTS)
def test_an_ascent_on_a_gpu_is_that_of_the_processor(processor, gpu, name):
    here, there = (
        list(e.ascend("digits", OBJECTIVE, steps=6, image_every=1, count=2, **ASCENTS[name])) for e in (processor, gpu)
    )
    assert len({step.values.tobytes() for step in there}) == len(here)
    for expected, got in zip(here, there, strict=True):
        assert relative_error(got.image, expected.image) < TOLERANCE["float32 network"]
        assert relative_error(got.gradient_norms, expected.gradient_norms) < TOLERANCE["float32 network"]
