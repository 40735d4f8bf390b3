"""Arrays that stay on the device, from one run to the next."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from gradserve.errors import RunFailed
from gradserve_server.graph.load import MAX_IR_VERSION
from gradserve_server.runtime.device import PROVIDERS, Device, touching
from gradserve_server.runtime.probe import OPSET, quiet_options

Array = npt.NDArray[Any]


def contiguous(array: npt.ArrayLike) -> Array:
    """The array as onnxruntime takes it: C-contiguous, in this machine's byte order; a copy only if it must be."""
    array = np.asarray(array)
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


class OnDevice:
    """Something that takes memory of a device, until nobody holds it.

    Attributes:
        value: As onnxruntime has it.
    """

    __slots__ = ("_device", "value")

    def __init__(self, value: Any, device: Device) -> None:
        self.value, self._device = value, device

    def __del__(self) -> None:
        with touching(self._device):
            self.value = None


class Tensor(OnDevice):
    """An array on a device: what a run reads and writes there. `Session.bind` takes it."""

    __slots__ = ()

    def numpy(self) -> Array:
        """A copy on this side."""
        with touching(self._device):
            return np.array(self.value.numpy())


def place(array: Array, device: Device) -> Tensor:
    """A copy on a device.

    By a graph that copies: every provider runs it, while only CUDA's has a function of its own in onnxruntime's Python.

    Raises:
        RunFailed: There is no room for it, or the device has gone.
    """
    try:
        with touching(device):
            return Tensor(_copied(contiguous(array), device), device)
    except Exception as error:  # onnxruntime's exceptions have no common base
        msg = f"device '{device}' takes no array of {array.nbytes} bytes: {error}"
        raise RunFailed(msg) from error


def _copied(array: Array, device: Device) -> Any:
    session = _copy(device, onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
    binding = session.io_binding()
    binding.bind_cpu_input("x", array)
    binding.bind_output("y", str(device))
    session.run_with_iobinding(binding)
    (value,) = binding.get_outputs()
    return value


@cache
def _copy(device: Device, dtype: int) -> Any:
    import onnxruntime

    helper = onnx.helper
    x, y = (helper.make_tensor_value_info(name, dtype, None) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "copy", [x], [y])
    model = helper.make_model(graph, ir_version=MAX_IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    return onnxruntime.InferenceSession(model.SerializeToString(), quiet_options(), PROVIDERS[device])
