"""Steps per second of a gradient ascent on ResNet-50: gradserve, in process and through a server, and PyTorch's best.

python benchmarks/ascent.py [--rounds 9] [--seconds 0.7]

The same loop everywhere: jitter, gradient of one logit, division by its standard deviation, step, clip. PyTorch runs eager
and compiled, in both memory formats, without gradients of the weights; its fastest is the yardstick. Contenders run in
processes of their own, in turn, on the same cores; every time is the median of the turns.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from turns import Ready, take_turns

UNIT = 145
RATE, JITTER, LOW, HIGH = 0.02, 8, -2.5, 2.5
THREADS = len(os.sched_getaffinity(0))
AGREEMENT = 0.05
"""Relative difference between the first gradients: float32 leaves some ReLUs on either side of their kink."""


def gradserve_steps(path: Path, image: NDArray[np.float32], *, served: bool) -> Ready:
    """An ascent in process, or through a server on loopback."""
    import gradserve
    from gradserve import objectives as O
    from gradserve_server import Engine, ServerConfig
    from gradserve_server.rpc.app import Server

    engine = Engine(path)
    server = Server(engine, ServerConfig(port=0)) if served else None
    verbs = gradserve.Client(server.address) if server is not None else engine
    settings = gradserve.AscentSettings(
        start=image[0], optimizer=gradserve.Sgd(RATE), gradient_normalization="std", jitter=JITTER, bounds=(LOW, HIGH)
    )

    def run(count: int, _alive: object = server) -> float:
        # From the report on the start to the last one: a stream left open would run on during the others' turns.
        ascent = verbs.ascend(path.stem, O.unit("logits", UNIT), steps=count, **settings)
        next(ascent)
        started = time.perf_counter()
        for _ in ascent:
            pass
        return time.perf_counter() - started

    return run, lambda: engine.gradient(path.stem, {"image": image}, O.unit("logits", UNIT)).gradients["image"]


def torch_steps(image: NDArray[np.float32], *, compiled: bool, channels_last: bool) -> Ready:
    """The same loop in PyTorch."""
    import torch
    from architectures import resnet

    torch.set_num_threads(THREADS)
    form = torch.channels_last if channels_last else torch.contiguous_format
    network = resnet.resnet50().requires_grad_(False).to(memory_format=form)
    model = torch.compile(network) if compiled else network
    random = np.random.default_rng(0)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.to(memory_format=form).detach().requires_grad_()
        return torch.autograd.grad(model(x)[:, UNIT].sum(), x)[0]

    x = torch.from_numpy(image)

    def run(count: int) -> float:
        nonlocal x
        started = time.perf_counter()
        for _ in range(count):
            dy, dx = (int(shift) for shift in random.integers(-JITTER, JITTER + 1, 2))
            g = gradient(x.roll((dy, dx), (2, 3))).roll((-dy, -dx), (2, 3))
            x = (x + RATE * g / g.std(correction=0)).clamp_(LOW, HIGH)
        return time.perf_counter() - started

    return run, lambda: gradient(torch.from_numpy(image)).contiguous().numpy()


def outside_the_model(path: Path, image: NDArray[np.float32], steps: int) -> float:
    """The share of an in-process step that is not the run of the model."""
    import gradserve
    from gradserve import objectives as O
    from gradserve_server import Engine
    from gradserve_server.runtime.session import Session

    inside = 0.0
    bind = Session.bind

    def timed(self: Session, *arguments: object) -> Callable[[], None]:
        run = bind(self, *arguments)  # type: ignore[arg-type]

        def measured() -> None:
            nonlocal inside
            started = time.perf_counter()
            run()
            inside += time.perf_counter() - started

        return measured

    Session.bind = timed  # type: ignore[method-assign]
    try:
        with Engine(path) as engine:
            ascent = engine.ascend(
                path.stem,
                O.unit("logits", UNIT),
                steps=steps + 2,
                start=image[0],
                optimizer=gradserve.Adam(RATE),
                gradient_normalization="std",
                jitter=JITTER,
                weight_decay=0.01,
                bounds=(LOW, HIGH),
            )
            next(ascent), next(ascent)
            inside, started = 0.0, time.perf_counter()
            for _ in range(steps):
                next(ascent)
            return 1 - inside / (time.perf_counter() - started)
    finally:
        Session.bind = bind  # type: ignore[method-assign]


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.7, help="of a turn (default: %(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it needs minutes to set up)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    from architectures import resnet

    image = resnet.photograph()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.onnx"
        resnet.export(resnet.resnet50(), path, keep_batchnorm=True)
        contenders = {
            "gradserve, in process": partial(gradserve_steps, path, image, served=False),
            "gradserve, through the server": partial(gradserve_steps, path, image, served=True),
            "PyTorch eager": partial(torch_steps, image, compiled=False, channels_last=False),
            "PyTorch eager, channels last": partial(torch_steps, image, compiled=False, channels_last=True),
        }
        if not arguments.no_compile:
            contenders |= {
                "PyTorch compiled": partial(torch_steps, image, compiled=True, channels_last=False),
                "PyTorch compiled, channels last": partial(torch_steps, image, compiled=True, channels_last=True),
            }
        times = take_turns(contenders, arguments.rounds, arguments.seconds)
        share = outside_the_model(path, image, 20)
    reference = times["PyTorch eager"].report
    for name, gradient in ((name, outcome.report) for name, outcome in times.items()):
        difference = np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
        assert difference < AGREEMENT, f"{name}: expected PyTorch's gradient, got one {difference:.1e} away"
    best = min(outcome.seconds for name, outcome in times.items() if name.startswith("PyTorch"))
    table = Table(title=f"Ascent on ResNet-50, one image of 224x224, {THREADS} threads")
    for heading in ("", "ms/step", "steps/s", "time / best PyTorch"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, seconds in ((name, outcome.seconds) for name, outcome in times.items()):
        table.add_row(name, f"{seconds * 1e3:.0f}", f"{1 / seconds:.1f}", f"{seconds / best:.2f}")
    console.print(table)
    console.print(f"outside the model: {share:.1%} of a step (Adam, decay, jitter and clip on)")


if __name__ == "__main__":
    main()
