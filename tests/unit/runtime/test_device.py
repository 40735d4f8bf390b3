"""Where models run. What needs a GPU is skipped without one."""

import numpy as np
import onnxruntime
import pytest
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve.errors import BackendMissing
from gradserve_server import Engine, EngineConfig
from gradserve_server.runtime.device import PROVIDERS, Device, check_device


def has_gpu() -> bool:
    try:
        check_device(Device.CUDA)
    except BackendMissing:
        return False
    return True


HAS_GPU = has_gpu()


def test_every_device_has_providers_and_ends_with_the_processor():
    assert PROVIDERS.keys() == set(Device)
    assert all(providers[-1] == "CPUExecutionProvider" for providers in PROVIDERS.values())


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_a_device_that_is_not_there_is_never_silently_the_processor():
    with pytest.raises(BackendMissing, match=r"device 'cuda': expected (a GPU, with the CUDA|an onnxruntime with CUDA)"):
        Engine(MODELS, config=EngineConfig(device="cuda"))


def test_a_wheel_without_the_provider_is_named_with_the_one_that_has_it(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendMissing, match=r"got CPUExecutionProvider; install gradserve-server\[gpu\]"):
        check_device(Device.CUDA)


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU, and gradserve-server[gpu]")
def test_a_gpu_gives_the_processors_gradients():
    x = np.random.default_rng(0).normal(size=(3, 1, 28, 28)).astype(np.float32)
    objective = O.unit("logits", 7)
    with Engine(MODELS) as processor, Engine(MODELS, config=EngineConfig(device="cuda")) as gpu:
        expected = processor.gradient("digits", {"image": x}, objective)
        first, second = (gpu.gradient("digits", {"image": x}, objective) for _ in range(2))
        steps = list(gpu.ascend("digits", objective, steps=4, seed=0))
    assert relative_error(first.gradients["image"], expected.gradients["image"]) < TOLERANCE["float32 network"]
    np.testing.assert_array_equal(first.gradients["image"], second.gradients["image"])
    assert np.isfinite(steps[-1].value).all()
