"""Eight gradient ascents at a time, each of its own caller: what continuous batching makes of them.

python benchmarks/batching.py [--rounds 9] [--seconds 0.7] [--resnet18]

The same images and steps, four ways: one ascent after the other, all at a time without batching, all at a time with it, and
as one ascent of eight images, which is what batching can reach at best. Contenders run in processes of their own, in turn;
every time is the median of the turns.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table
from turns import Ready, take_turns

from gradserve import AscentSettings, Step
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig

CALLERS = 8
DIGITS = Path(__file__).parents[1] / "models/digits/1/model.onnx"
THREADS = len(os.sched_getaffinity(0))
WIDTH, DEPTH = 2048, 3


def steps(path: Path, *, at_once: bool, count: int, max_batch: int) -> Ready:
    """Ascents on one unit of the first output; each caller has a seed of its own."""
    engine = Engine(path, config=EngineConfig(max_batch=max_batch))
    name = engine.models()[0].name
    output = engine.inspect(name).outputs[0].name

    def begun(seed: int, number: int) -> Iterator[Step]:
        # Up to the report on the start, so that what is made once is not measured.
        settings = AscentSettings(steps=number, report_every=number, count=count, seed=seed)
        ascent = engine.ascend(name, O.unit(output, 3), **settings)
        next(ascent)
        return ascent

    def run(number: int) -> float:
        if not at_once:
            return sum(timed([begun(seed, number)]) for seed in range(CALLERS))
        return timed([begun(seed, number) for seed in range(CALLERS // count)])

    def report() -> float:
        return next(begun(0, 20)).values[0]

    return run, report


def timed(ascents: Sequence[Iterator[Step]]) -> float:
    """The seconds that ascents need to their end, each in a thread of its own."""
    callers = [threading.Thread(target=list, args=(ascent,)) for ascent in ascents]
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
        "one after the other": partial(steps, path, at_once=False, count=1, max_batch=8),
        "at once, not batched": partial(steps, path, at_once=True, count=1, max_batch=1),
        "at once, batched": partial(steps, path, at_once=True, count=1, max_batch=8),
        "one ascent of eight images": partial(steps, path, at_once=True, count=CALLERS, max_batch=8),
    }
    outcomes = take_turns(contenders, rounds, seconds)
    first = outcomes["one after the other"]
    table = Table(title=f"{title}, {CALLERS} images, {THREADS} threads")
    for heading in ("", "ms/step of all", "image steps/s", "throughput"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, outcome in outcomes.items():
        difference = abs(outcome.report - first.report) / abs(first.report)
        assert difference < 1e-2, f"{name}: expected the same value after 20 steps, got one {difference} away"
        rate = CALLERS / outcome.seconds
        table.add_row(name, f"{outcome.seconds * 1e3:.2f}", f"{rate:.0f}", f"{first.seconds / outcome.seconds:.2f}")
    return table


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.7, help="of a turn (default: %(default)s)")
    parser.add_argument("--resnet18", action="store_true", help="also ResNet-18 at 224x224 (needs torch)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = {"Digits": DIGITS, f"{DEPTH} dense layers of {WIDTH}": Path(folder) / "dense.onnx"}
        dense(models[f"{DEPTH} dense layers of {WIDTH}"])
        if arguments.resnet18:
            from architectures import resnet

            models["ResNet-18"] = Path(folder) / "resnet18.onnx"
            resnet.export(resnet.resnet18(), models["ResNet-18"], keep_batchnorm=False)
        for title, path in models.items():
            Console().print(measure(title, path, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
