"""Eight gradient ascents at a time, each of its own caller: what continuous batching makes of them.

python benchmarks/batching.py [--rounds 9] [--seconds 2] [--resnet18] [--resnet50] [--only digits]

The same images and steps: by the model alone, eight batches of 1 against a batch of 8; one ascent after the other; all at a
time without batching, with it, and with it through a server; and as one ascent of eight images, which is what batching can
reach at best. Contenders run in processes of their own, in turn; every time is the median of the turns. A turn has to
last: ascents begin one by one, and that is no part of a step (ResNet-50: 4 seconds at least).

The second table of a model: a prediction every 100 ms, alone and while the eight ascents run, over gRPC.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table
from turns import Ready, take_turns

import gradserve
from gradserve import Step
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.graph.derivatives import Wanted
from gradserve_server.graph.objectives import heads
from gradserve_server.rpc.app import Server
from gradserve_server.runtime.events import Run
from gradserve_server.runtime.terms import resolved, weights_of

CALLERS = 8
DIGITS = Path(__file__).parents[1] / "models/digits/1/model.onnx"
THREADS = len(os.sched_getaffinity(0))
WIDTH, DEPTH = 2048, 3
PERIOD = 0.1
"""Seconds from one prediction to the next."""


def model(path: Path, *, batch: int) -> Ready:
    """The gradient's graph by itself, on all the images."""
    engine = Engine(path)
    served = engine.versions[0]
    image, output = served.description.inputs[0], served.description.outputs[0].name
    terms = resolved(served, O.unit(output, 3))
    plan = served.plan(Wanted((image.name,), heads(terms.of_layers)))
    x = np.random.default_rng(0).normal(size=[size if isinstance(size, int) else batch for size in image.shape])
    feeds = {image.name: x.astype(np.float32)}
    feeds |= weights_of(served, terms, feeds, image.name).all()

    def run(number: int) -> float:
        started = time.perf_counter()
        for _ in range(number * (CALLERS // batch)):
            plan.session.run(feeds)
        return time.perf_counter() - started

    return run, lambda: None


def steps(path: Path, *, at_once: bool, count: int, max_batch: int, served: bool = False) -> Ready:
    """Ascents on one unit of the first output; each caller has a seed of its own."""
    engine = Engine(path, config=EngineConfig(max_batch=max_batch))
    name = engine.models()[0].name
    output = engine.inspect(name).outputs[0].name
    server = Server(engine, ServerConfig(port=0)) if served else None
    verbs = gradserve.Client(server.address) if server is not None else engine

    def ascend(seed: int, number: int) -> Step:
        *_, last = verbs.ascend(name, O.unit(output, 3), steps=number, report_every=number, count=count, seed=seed)
        return last

    def run(number: int, _alive: object = server) -> float:
        ascents = [partial(ascend, seed, number) for seed in range(CALLERS // count)]
        seconds = timed(ascents) if at_once else sum(timed([ascent]) for ascent in ascents)
        return seconds * number / (number + 1)  # the model sees the image of the start, and that of each step

    def report() -> float:
        return float(ascend(0, 20).values[0])

    return run, report


def timed(ascents: Sequence[Callable[[], object]]) -> float:
    """The seconds from the start of all to the end of the last, each in a thread of its own.

    Their start is measured too: a server does not wait for whoever reads the reports.
    """
    callers = [threading.Thread(target=ascent) for ascent in ascents]
    started = time.perf_counter()
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return time.perf_counter() - started


def dense(path: Path) -> None:
    """A network of dense layers: at batch 1 its time goes into reading weights, which a batch reads once."""
    random = np.random.default_rng(0)
    weights = {f"W{i}": random.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 32 for i in range(DEPTH)}
    body = " ".join(f"a{i} = MatMul({'x' if i == 0 else f'h{i - 1}'}, W{i}) h{i} = Tanh(a{i})" for i in range(DEPTH))
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> dense (float[N,{WIDTH}] x) => (float[N,{WIDTH}] h{DEPTH - 1}) {{ {body} }}'
    )
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path)


def measure(title: str, path: Path, rounds: int, seconds: float) -> Table:
    """A table for one model."""
    contenders = {
        "the model, 8 batches of 1": partial(model, path, batch=1),
        "the model, a batch of 8": partial(model, path, batch=CALLERS),
        "one after the other": partial(steps, path, at_once=False, count=1, max_batch=8),
        "at once, not batched": partial(steps, path, at_once=True, count=1, max_batch=1),
        "at once, batched": partial(steps, path, at_once=True, count=1, max_batch=8),
        "at once, batched, served": partial(steps, path, at_once=True, count=1, max_batch=8, served=True),
        "one ascent of eight images": partial(steps, path, at_once=True, count=CALLERS, max_batch=8),
    }
    outcomes = take_turns(contenders, rounds, seconds)
    first = outcomes["one after the other"]
    table = Table(title=f"{title}, {CALLERS} images, {THREADS} threads")
    for heading in ("", "ms/step of all", "image steps/s", "gain"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, outcome in outcomes.items():
        assert not outcome.problem, f"{name}: {outcome.problem}"
        alone = outcomes["the model, 8 batches of 1"] if name.startswith("the model") else first
        if outcome.report is not None:
            difference = abs(outcome.report - first.report) / abs(first.report)
            assert difference < 1e-2, f"{name}: expected the same value after 20 steps, got one {difference} away"
        rate = CALLERS / outcome.seconds
        table.add_row(name, f"{outcome.seconds * 1e3:.2f}", f"{rate:.0f}", f"{alone.seconds / outcome.seconds:.2f}")
    return table


def latencies(title: str, path: Path, seconds: float) -> Table:
    """A table of how long predictions take, one every `PERIOD`."""
    engine = Engine(path)
    name = engine.models()[0].name
    description = engine.inspect(name)
    image, objective = description.inputs[0], O.unit(description.outputs[0].name, 3)
    feeds = {image.name: np.zeros([size if isinstance(size, int) else 1 for size in image.shape], np.float32)}
    over = threading.Event()

    def climb(seed: int) -> None:
        for _ in engine.ascend(name, objective, should_stop=over.is_set, steps=10**5, report_every=10**5, seed=seed):
            pass

    def predictions(client: gradserve.Client) -> list[float]:
        times = []
        for _ in range(int(seconds / PERIOD)):
            started = time.perf_counter()
            client.infer(name, feeds)
            times.append(time.perf_counter() - started)
            time.sleep(max(PERIOD - times[-1], 0))
        return times

    runs: list[float] = []
    with Server(engine, ServerConfig(port=0)) as server, gradserve.Client(server.address) as client:
        client.infer(name, feeds)
        times = {"alone": predictions(client)}
        callers = [threading.Thread(target=climb, args=(seed,)) for seed in range(CALLERS)]
        for caller in callers:
            caller.start()
        time.sleep(1)  # the first batch is run one by one as well
        engine.observers.add(
            lambda event: runs.append(event.seconds) if isinstance(event, Run) and event.samples > 1 else None
        )
        times["beside eight ascents"] = predictions(client)
        over.set()
        for caller in callers:
            caller.join()
    step = statistics.median(runs)
    table = Table(title=f"{title}: a prediction every {PERIOD * 1e3:.0f} ms; a step of all takes {step * 1e3:.2f} ms")
    for heading in ("", "median, ms", "p99, ms", "aim, ms"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    aim = 3 * np.quantile(times["alone"], 0.99) + step
    for what, taken in times.items():
        wanted = "" if what == "alone" else f"{aim * 1e3:.2f}"
        table.add_row(what, f"{np.median(taken) * 1e3:.2f}", f"{np.quantile(taken, 0.99) * 1e3:.2f}", wanted)
    return table


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (default: %(default)s)")
    parser.add_argument("--resnet18", action="store_true", help="also ResNet-18 at 224x224 (needs torch)")
    parser.add_argument("--resnet50", action="store_true", help="also ResNet-50 (needs torch)")
    parser.add_argument("--only", default="", help="only models whose title begins so")
    parser.add_argument("--predictions", type=float, default=20.0, help="seconds of predictions (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = {"Digits": DIGITS, f"{DEPTH} dense layers of {WIDTH}": Path(folder) / "dense.onnx"}
        dense(models[f"{DEPTH} dense layers of {WIDTH}"])
        for name in ("resnet18", "resnet50"):
            if getattr(arguments, name):
                from architectures import resnet

                title = name.replace("resnet", "ResNet-")
                models[title] = Path(folder) / f"{name}.onnx"
                resnet.export(getattr(resnet, name)(), models[title], keep_batchnorm=False)
        for title, path in models.items():
            if title.lower().startswith(arguments.only.lower()):
                Console().print(measure(title, path, arguments.rounds, arguments.seconds))
                Console().print(latencies(title, path, arguments.predictions))


if __name__ == "__main__":
    main()
