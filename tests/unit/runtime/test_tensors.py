"""Arrays that stay on a device, and runs that read and write them. Here the device is the processor, or a stand-in."""

import threading
import weakref

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build

from gradserve.errors import RunFailed
from gradserve_server.runtime import device as devices
from gradserve_server.runtime import tensors
from gradserve_server.runtime.device import NEEDS, Device, touching
from gradserve_server.runtime.session import Session
from gradserve_server.runtime.tensors import place

DOUBLED = "y = Add(x, x)"


def session():
    return Session(ir.from_proto(build(DOUBLED, inputs="float[2] x", outputs="float[2] y")), 1)


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3.5),
        np.array(7, np.int64),
        np.zeros((0, 3), np.float32),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(3, dtype=">f4"),
        np.array([[True, False]]),
    ],
    ids=["number", "integer", "empty", "transposed", "other byte order", "bits"],
)
def test_what_is_placed_comes_back(array):
    """A number without axes, too: a model's input or a weight of an objective may be one."""
    got = place(array, Device.CPU).numpy()
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


def test_what_comes_back_is_a_copy():
    tensor = place(np.zeros(2, np.float32), Device.CPU)
    tensor.numpy()[:] = 5
    assert tensor.numpy().tolist() == [0, 0]


def test_what_is_placed_is_a_copy():
    array = np.zeros(2, np.float32)
    tensor = place(array, Device.CPU)
    array[:] = 5
    assert tensor.numpy().tolist() == [0, 0]


def test_a_device_without_room_breaks_a_call_off_as_a_run_does(monkeypatch):
    def full(*_):
        msg = "Failed to allocate memory"
        raise RuntimeError(msg)

    monkeypatch.setattr(tensors, "_copied", full)
    with pytest.raises(RunFailed, match="device 'cpu' takes no array of 8 bytes: Failed to allocate"):
        place(np.zeros(2, np.float32), Device.CPU)


def test_a_run_reads_and_writes_tensors():
    x, y = (place(np.array(numbers, np.float32), Device.CPU) for numbers in ([1, 2], [0, 0]))
    session().bind({"x": x}, {"y": y})()
    assert y.numpy().tolist() == [2, 4]


def test_a_run_keeps_the_memory_that_it_reads_and_writes():
    """onnxruntime knows the addresses only."""
    x, y = np.ones(2, np.float32), np.zeros(2, np.float32)
    alive = [weakref.ref(x), weakref.ref(y)]
    run = session().bind({"x": x}, {"y": y})
    del x, y
    assert all(ref() is not None for ref in alive)
    run()
    assert alive[1]().tolist() == [2, 2]
    del run
    assert all(ref() is None for ref in alive)


class Copying:
    """As onnxruntime's binding to another device: that has a copy of an array, made when it is bound."""

    def __init__(self, binding):
        self._binding = binding

    def bind_cpu_input(self, name, array):
        self._binding.bind_cpu_input(name, array.copy())

    def __getattr__(self, name):
        return getattr(self._binding, name)


class Elsewhere:
    """A session on the processor that takes its inputs as one on another device does."""

    def __init__(self, session):
        self._session = session

    def io_binding(self):
        return Copying(self._session.io_binding())

    def run_with_iobinding(self, binding):
        self._session.run_with_iobinding(binding._binding)


@pytest.mark.parametrize("device", NEEDS)
def test_another_device_sees_what_an_array_holds_when_a_run_starts(device):
    doubling = session()
    doubling._session, doubling._device = Elsewhere(doubling._session), device
    x, y = np.array([1, 2], np.float32), np.zeros(2, np.float32)
    run = doubling.bind({"x": x}, {"y": y})
    x[:] = 3, 4
    run()
    assert y.tolist() == [6, 8]
    x[:] = 5, 6
    run()
    assert y.tolist() == [10, 12]


def test_what_touches_webgpu_waits_for_what_does():
    inside, events = threading.Event(), []

    def other():
        inside.wait()
        with touching(Device.WEBGPU):
            events.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with touching(Device.WEBGPU), touching(Device.WEBGPU):
        inside.set()
        thread.join(0.05)
        events.append("first")
    thread.join()
    assert events == ["first", "other"]


class Watched:
    """Something of onnxruntime's that is only called, and only let go, inside."""

    def __init__(self, of, inside, seen):
        self._of, self._inside, self._seen = of, inside, seen

    def __getattr__(self, name):
        value = getattr(self._of, name)
        if not callable(value):
            return value

        def call(*args):
            self._seen.append((name, bool(self._inside)))
            made = value(*(getattr(arg, "_of", arg) for arg in args))
            return Watched(made, self._inside, self._seen) if name == "io_binding" else made

        return call

    def __del__(self):
        self._seen.append(("let go", bool(self._inside)))


def test_every_touch_of_a_device_is_inside(monkeypatch):
    inside, seen = [], []

    class Each:
        def __enter__(self):
            inside.append(1)

        def __exit__(self, *_):
            inside.pop()

    monkeypatch.setattr(devices, "_ONE_AT_A_TIME", {Device.CPU: Each()})
    doubling = session()
    doubling._session = Watched(doubling._session, inside, seen)
    x = place(np.array([1, 2], np.float32), Device.CPU)
    x.value = Watched(x.value, inside, seen)
    y = np.zeros(2, np.float32)
    run = doubling.bind({"x": np.array([1, 2], np.float32)}, {"y": y})
    run()
    doubling.run({"x": y})
    x.numpy()
    del x, run
    assert {name for name, _ in seen} >= {"io_binding", "run_with_iobinding", "run", "numpy", "let go"}
    assert [name for name, was_inside in seen if not was_inside] == []
