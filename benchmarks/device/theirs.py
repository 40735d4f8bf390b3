"""The same in PyTorch, as fast as it can be had there: everything stays on the device, and kernels may be one CUDA graph."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from ascent.loops import HIGH, LOW, UNIT
from speed.suite import SUITE
from speed.summary import TORCH
from torch import Tensor
from turns import Ready

from .memory import device_bytes
from .tasks import ASCENT, CHECKED_STEPS, GRADIENT, JITTER, RATE, Array, Task

Value = Callable[[Tensor], Tensor]
"""The sum of the objective over a batch."""
CUDA_ONLY = "needs a GPU: a CUDA graph"


@dataclass(frozen=True)
class Setting:
    """A way to run PyTorch."""

    compiled: bool = False
    """By torch.compile, for each batch size anew."""
    captured: bool = False
    """A step's kernels, forward and backward, as one CUDA graph."""
    channels_last: bool = False

    def __str__(self) -> str:
        parts = ("compiled" if self.compiled else "eager", "captured" * self.captured, "channels last" * self.channels_last)
        return f"{TORCH} {', '.join(filter(None, parts))}"


def pytorch_on(name: str, device: str, threads: int, setting: Setting) -> Callable[[Task], Ready]:
    """A network that stays for every task, without gradients of the weights."""
    if setting.captured and device != "cuda":
        raise ValueError(CUDA_ONLY)
    torch.set_num_threads(threads)
    # float32 for everybody: TF32 would round every product to 11 bits.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # takes the fastest of all algorithms
    form = torch.channels_last if setting.channels_last else torch.contiguous_format
    network = SUITE[name].folded().to(device)
    network = network.to(memory_format=form)  # type: ignore[call-overload]
    compute = torch.compile(network, dynamic=False) if setting.compiled else network
    kinds = {GRADIENT: _gradient, ASCENT: _ascent}

    def value(x: Tensor) -> Tensor:
        logits: Tensor = compute(x.to(memory_format=form) if setting.channels_last else x)
        return logits[:, UNIT].sum()

    def prepare(task: Task) -> Ready:
        if device == "cuda":
            torch.cuda.empty_cache()  # of the last task
        run, result = kinds[task.measure](value, task.inputs(SUITE[name]), device, setting)
        return run, lambda: {"result": result(), "bytes": device_bytes()}

    return prepare


def _gradient(
    value: Value, image: Array, device: str, setting: Setting
) -> tuple[Callable[[int], float], Callable[[], Array]]:
    compute = (_gradient_there if device == "cuda" else _gradient_here)(value, image, setting)

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            compute()
        return time.perf_counter() - started

    return run, lambda: compute().copy()


def _gradient_here(value: Value, image: Array, _: Setting) -> Callable[[], Array]:
    def compute() -> Array:
        x = torch.from_numpy(image).requires_grad_()
        gradient: Array = torch.autograd.grad(value(x), x)[0].contiguous().numpy()
        return gradient

    return compute


def _gradient_there(value: Value, image: Array, setting: Setting) -> Callable[[], Array]:
    """By way of pinned memory. The array that comes back is that memory, which the next call overwrites."""
    sent, received = (torch.empty(image.shape, pin_memory=True) for _ in range(2))
    x = torch.empty(image.shape, device="cuda").requires_grad_()
    gradient = torch.empty(image.shape, device="cuda")

    def differentiate() -> None:
        gradient.copy_(torch.autograd.grad(value(x), x)[0])

    step = captured(differentiate) if setting.captured else differentiate

    def compute() -> Array:
        sent.copy_(torch.from_numpy(image))
        with torch.no_grad():
            x.copy_(sent, non_blocking=True)
        step()
        received.copy_(gradient, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        array: Array = received.numpy()
        return array

    return compute


def _ascent(value: Value, start: Array, device: str, setting: Setting) -> tuple[Callable[[int], float], Callable[[], Array]]:
    loop = Loop(value, torch.from_numpy(start).to(device))
    step = captured(loop.step) if setting.captured else loop.step

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            step()
        loop.image.detach().cpu()  # waits for the device
        return time.perf_counter() - started

    def result() -> Array:
        x = torch.from_numpy(start).to(device)
        loop.restart(x)
        for _ in range(CHECKED_STEPS):
            step()
        moved = loop.image.detach() - x
        x = x.requires_grad_()
        weighted: Array = (torch.autograd.grad(value(x), x)[0].abs() * moved).contiguous().cpu().numpy()
        return weighted

    return run, result


class Loop:
    """An ascent whose steps need nothing of the host: jitter, gradient, its standard deviation, Adam, bounds.

    One shift for all images of a batch, where gradserve draws one for each.
    """

    def __init__(self, value: Value, start: Tensor) -> None:
        self._value = value
        self.image = start.clone().requires_grad_()
        on_gpu = start.device.type == "cuda"
        self._optimizer = torch.optim.Adam([self.image], RATE, maximize=True, fused=True, capturable=on_gpu)
        shifts = torch.arange(-JITTER, JITTER + 1, device=start.device)
        self._rows, self._columns = (
            (torch.arange(size, device=start.device) - shifts[:, None]) % size for size in start.shape[2:]
        )
        """[shift, size]: where each pixel of a shifted image comes from."""
        self._axes = tuple(range(1, start.ndim))

    def step(self) -> None:
        """Changes the image once."""
        down, right = torch.randint(2 * JITTER + 1, (2, 1), device=self.image.device)
        shifted = _picked(self.image.detach(), self._rows, self._columns, down, right).requires_grad_()
        gradient = torch.autograd.grad(self._value(shifted), shifted)[0]
        gradient = _picked(gradient, self._rows, self._columns, 2 * JITTER - down, 2 * JITTER - right)
        self.image.grad = gradient / gradient.std(self._axes, correction=0, keepdim=True)
        self._optimizer.step()
        with torch.no_grad():
            self.image.clamp_(LOW, HIGH)

    def restart(self, start: Tensor) -> None:
        """Goes back to the start, from where it goes on without jitter."""
        with torch.no_grad():
            self.image.copy_(start)
        for number in self._optimizer.state[self.image].values():
            number.zero_()
        for table in (self._rows, self._columns):
            table.copy_(torch.arange(table.shape[1], device=table.device).expand_as(table))


def _picked(image: Tensor, rows: Tensor, columns: Tensor, down: Tensor, right: Tensor) -> Tensor:
    picked_rows, picked_columns = rows.index_select(0, down)[0], columns.index_select(0, right)[0]
    return image.index_select(2, picked_rows).index_select(3, picked_columns)


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The kernels of a step as one CUDA graph, after some steps that compile and allocate."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay
