"""Where models run: the processor, or a GPU by one of onnxruntime's providers."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Any

import onnx

from gradserve.errors import BackendMissing
from gradserve_server.runtime.probe import open_probe
from gradserve_server.runtime.wheel import installed_wheel

CPU_PROVIDER = "CPUExecutionProvider"

Provider = str | tuple[str, dict[str, Any]]


class Device(StrEnum):
    """The names are those of `--device`, and onnxruntime's for memory there."""

    CPU = "cpu"
    CUDA = "cuda"
    WEBGPU = "webgpu"


_CUDA = {
    "use_tf32": "0",  # it would round every product to 11 bits
    "cudnn_conv_algo_search": "HEURISTIC",  # the search for the fastest convolution is over after a load
    "arena_extend_strategy": "kSameAsRequested",  # as on the processor (`session._share_memory`)
}

PROVIDERS: dict[Device, list[Provider]] = {
    Device.CPU: [CPU_PROVIDER],
    Device.CUDA: [
        ("CUDAExecutionProvider", _CUDA),
        CPU_PROVIDER,
    ],
    Device.WEBGPU: ["WebGpuExecutionProvider", CPU_PROVIDER],
}
"""What a session may run on, the best first: what the GPU has no kernel for runs on the processor."""

NEEDS: dict[Device, tuple[str, str]] = {
    Device.CUDA: ("gpu", "a GPU, with the CUDA and cuDNN that onnxruntime {version} was built for"),
    Device.WEBGPU: ("webgpu", "a GPU with a driver for Vulkan, Metal or Direct3D 12"),
}
"""The extra of gradserve-server that brings the provider, and what the machine must have."""


_ONE_AT_A_TIME: Mapping[Device, AbstractContextManager[object]] = {Device.WEBGPU: threading.RLock()}
"""Of devices whose sessions share one list of commands that knows of no threads: what one thread copies, makes or lets go
while another runs something breaks that run off, or the process."""

_AT_ANY_TIME = nullcontext()


def touching(device: Device) -> AbstractContextManager[object]:
    """Around all that has to do with the memory of a device. It may be entered again within itself."""
    return _ONE_AT_A_TIME.get(device, _AT_ANY_TIME)


def provider(device: Device) -> str:
    """The name of the provider that makes the device what it is."""
    first = PROVIDERS[device][0]
    return first if isinstance(first, str) else first[0]


def check_device(device: Device) -> None:
    """Makes sure that the installed onnxruntime runs there. It would silently take the processor instead.

    Raises:
        BackendMissing: It does not; or there is no onnxruntime, or more than one.
    """
    installed_wheel()
    import onnxruntime

    if device is Device.CPU:
        return
    extra, machine = NEEDS[device]
    available = onnxruntime.get_available_providers()
    if provider(device) not in available:
        msg = f"device '{device}': expected an onnxruntime with {provider(device)}, got {', '.join(available)}; "
        msg += f"install gradserve-server[{extra}] in place of the other extra"
        raise BackendMissing(msg)
    if not _starts(device):
        msg = f"device '{device}': expected {machine.format(version=onnxruntime.__version__)}, got none"
        raise BackendMissing(msg)


def _starts(device: Device) -> bool:
    """Whether a session gets what it asks for; found by opening one."""
    try:
        session = open_probe(onnx.helper.make_node("Neg", ["x"], ["y"]), [1], PROVIDERS[device])
    except Exception:  # onnxruntime's exceptions have no common base
        return False
    return provider(device) in session.get_providers()
