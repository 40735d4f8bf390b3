"""Gradients of every architecture in the zoo, exported by both of torch's exporters, against float64 autograd.

PYTHONPATH=benchmarks python -m zoo [NAME ...] [--exports torchscript-17 dynamo-18] [--backends auto portable] [--json FILE]

Two targets each: a random unit of the logits, and a random cotangent at a middle layer; the error is the larger of both,
relative in the L2 norm. `sensitivity` is what even a right float32 gradient may be off by: torch's own float32 gradient, and
its change when the input moves by 1e-6. Parameters are all random, so that no layer scale is zero.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.progress import track

from gradserve import objectives as O
from gradserve.errors import GradserveError
from gradserve_server import Engine, EngineConfig
from gradserve_server.runtime.wheel import installed_wheel

from . import Architecture, Exporter, Reference, export, load_table, reference
from .selection import CORE

PROMISED = 1e-3
"""Relative L2 error of a float32 gradient."""
EXPORTS = ("torchscript-17", "dynamo-18")
BACKENDS = ("auto", "portable")


@dataclass(frozen=True)
class Outcome:
    """One architecture, by one exporter and one backend."""

    name: str
    family: str
    export: str
    backend: str
    made_by: str
    """Who made the gradient of the logits: "training" or "portable"; with "auto" that is a choice."""
    error: float
    """Of the worse target; NaN where there is none."""
    sensitivity: float
    operators: int
    """Kinds of operators in the file."""
    seconds: float
    """To load the file and answer both requests for the first time."""
    problem: str = ""

    @property
    def right(self) -> bool:
        """Whether the promise is kept."""
        return self.error <= PROMISED


def main() -> int:
    """Prints the table; returns how many gradients were not right."""
    options = _options()
    table = load_table()
    names = options.names or list(CORE if options.core else table)
    runtime = f"{installed_wheel()} {onnxruntime.__version__}"
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in track(names, "zoo", console=Console(stderr=True)):
            for outcome in try_architecture(table[name], options.exports, options.backends, Path(folder)):
                outcomes.append(outcome)
                sys.stderr.write(f"{outcome.name:32} {outcome.export:15} {outcome.backend:9} {outcome.error:.1e}")
                sys.stderr.write(f" {outcome.problem[:300]}\n")
            if options.json:
                document = {"onnxruntime": runtime, "outcomes": [asdict(outcome) for outcome in outcomes]}
                options.json.write_text(json.dumps(document, indent=1) + "\n")
    wrong = [outcome for outcome in outcomes if not outcome.right and not outcome.problem.startswith("export")]
    sys.stdout.write(f"{len(outcomes) - len(wrong)} of {len(outcomes)} gradients within {PROMISED:.0e}\n")
    return len(wrong)


def try_architecture(architecture: Architecture, exports: list[str], backends: list[str], folder: Path) -> Iterator[Outcome]:
    """Every export by every backend."""
    module, inputs = architecture.module(), architecture.inputs()
    truth = reference(module, inputs, architecture.wrt)
    for spelled in exports:
        exporter, opset = Exporter(spelled.partition("-")[0]), int(spelled.partition("-")[2])
        path = folder / "model.onnx"

        def outcome(backend: str, spelled: str = spelled, **found: object) -> Outcome:
            facts = {"made_by": "", "error": float("nan"), "operators": 0, "seconds": 0.0}
            return Outcome(
                architecture.name, architecture.family, spelled, backend, sensitivity=truth.sensitivity, **facts | found
            )

        reason = architecture.why(architecture.fails, str(exporter), opset)
        if reason is not None:
            yield from (outcome(backend, problem=f"export: {reason}") for backend in backends)
            continue
        fixed = architecture.why(architecture.fixed_batch, str(exporter), opset)
        # What keeps the batch of its example is exported with the batch that is asked for.
        example = {name: value[: len(truth.inputs[name])] for name, value in inputs.items()} if fixed else inputs
        try:
            exported = export(module, example, path, exporter, opset)
        except Exception as error:  # the exporters' own are many
            first = str(error).strip().splitlines()[0]
            yield from (outcome(backend, problem=f"export: {type(error).__name__}: {first}") for backend in backends)
            continue
        for backend in backends:
            start = time.perf_counter()
            try:
                made_by, error = compare(path, architecture.wrt, truth, backend)
                seconds = time.perf_counter() - start
                yield outcome(backend, made_by=made_by, error=error, operators=len(exported.operators), seconds=seconds)
            except GradserveError as refused:
                yield outcome(backend, operators=len(exported.operators), problem=f"{type(refused).__name__}: {refused}")


def compare(path: Path, wrt: str, truth: Reference, backend: str) -> tuple[str, float]:
    """Who made the gradients, and the larger of their errors."""
    with Engine(path, config=EngineConfig(backend=backend)) as engine:
        model = engine.models()[0].name
        inputs = {name: np.asarray(array) for name, array in truth.inputs.items()}
        unit = _gradient(engine, model, inputs, "logits", _one_hot(truth), wrt)
        product = _gradient(engine, model, inputs, "middle", truth.cotangent, wrt)
        layers = {layer.name: layer for layer in engine.layers(model)}
        made_by = "portable" if wrt == "embedding" else layers["logits"].backend
    return made_by, max(_error(unit, truth.unit.gradient), _error(product, truth.product.gradient))


def _gradient(
    engine: Engine, model: str, inputs: dict[str, np.ndarray], layer: str, cotangent: np.ndarray, wrt: str
) -> np.ndarray:
    return engine.gradient(model, inputs, O.cotangent(layer, cotangent), wrt=[wrt]).gradients[wrt]


def _one_hot(truth: Reference) -> np.ndarray:
    array = np.zeros(truth.outputs["logits"].shape, np.float32)
    array[(slice(None), *truth.index)] = 1
    return array


def _error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got.astype(np.float64) - expected) / np.linalg.norm(expected))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures (default: all)")
    parser.add_argument("--core", action="store_true", help="only the core of the zoo: every family, once or twice")
    parser.add_argument("--exports", nargs="+", default=list(EXPORTS), metavar="EXPORTER-OPSET", help="default: %(default)s")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to a file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main() > 0)
