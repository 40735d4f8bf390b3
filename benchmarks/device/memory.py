"""What a process holds of a GPU, its own code there included."""

import os


def device_bytes() -> int | None:
    """Of this process, as the driver counts it; None without a GPU, or where the driver does not tell.

    Neither onnxruntime nor PyTorch gives memory back while it works, so that this is the peak as well.
    """
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:
        return None
    return next((process.usedGpuMemory for process in processes if process.pid == os.getpid()), None)


def device_name() -> str:
    """Of the first GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except Exception:  # without the module, or by the driver: the numbers are still worth having
        return "a GPU"
