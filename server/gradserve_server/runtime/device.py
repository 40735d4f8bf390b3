"""Where models run: the processor, or a GPU by onnxruntime's CUDA provider."""

from enum import StrEnum
from typing import Any

import onnx

from gradserve.errors import BackendMissing
from gradserve_server.runtime.probe import open_probe
from gradserve_server.runtime.wheel import installed_wheel

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

Provider = str | tuple[str, dict[str, Any]]


class Device(StrEnum):
    """The names are those of `--device`."""

    CPU = "cpu"
    CUDA = "cuda"


PROVIDERS: dict[Device, list[Provider]] = {
    Device.CPU: [CPU_PROVIDER],
    Device.CUDA: [
        # TF32 would round every product to 11 bits; the search for the fastest convolution is over after a load.
        (CUDA_PROVIDER, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
        CPU_PROVIDER,
    ],
}
"""What a session may run on, the best first: what the GPU has no kernel for runs on the processor."""


def check_device(device: Device) -> None:
    """Makes sure that the installed onnxruntime runs there. It would silently take the processor instead.

    Raises:
        BackendMissing: It does not; or there is no onnxruntime, or more than one.
    """
    installed_wheel()
    import onnxruntime

    if device is Device.CPU:
        return
    available = onnxruntime.get_available_providers()
    if CUDA_PROVIDER not in available:
        msg = f"device 'cuda': expected an onnxruntime with {CUDA_PROVIDER}, got {', '.join(available)}; "
        msg += "install gradserve-server[gpu] in place of the other extra"
        raise BackendMissing(msg)
    if not _starts(device):
        version = onnxruntime.__version__
        msg = f"device 'cuda': expected a GPU, with the CUDA and cuDNN that onnxruntime {version} was built for, got none"
        raise BackendMissing(msg)


def _starts(device: Device) -> bool:
    """Whether a session gets what it asks for; found by opening one."""
    try:
        session = open_probe(onnx.helper.make_node("Neg", ["x"], ["y"]), [1], PROVIDERS[device])
    except Exception:  # onnxruntime's exceptions have no common base
        return False
    return CUDA_PROVIDER in session.get_providers()
