"""Scenario B: `forward` and `predict` disagree. The doctor says why, and repairs the file.

    python examples/scenario_b_two_forms.py [--output out]

Breaks the digits network in the ways that people meet: its state was never written back; it was exported in training form;
its statistics are those of another input that shared its BatchNorms. Each is examined on the training digits, repaired as
the findings say, and measured on test digits: before by onnxruntime as the file is, afterwards by gradserve. Needs
the `demo` extra; half a minute.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import digits_data
import numpy as np
import onnx
import onnxruntime
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from gradserve import Finding
from gradserve_server import Engine, diagnose, repair

MODEL = Path(__file__).resolve().parents[1] / "models/digits_batchnorm/1/model.onnx"
MEAN, STD = 0.2268, 0.33
"""Of its pixels: its config.pbtxt says so."""

Pixels = NDArray[np.float32]


def never_written_back(model: onnx.ModelProto) -> None:
    """Running means 0 and variances 1, as before training."""
    _set_statistics(model, lambda _, __, is_variance: float(is_variance))


def of_another_input(model: onnx.ModelProto) -> None:
    """The statistics of an input of three times the contrast, which went through the same BatchNorms last."""
    _set_statistics(model, lambda _, old, is_variance: old * (9.0 if is_variance else 3.0))


def in_training_form(model: onnx.ModelProto) -> None:
    """Every BatchNorm normalizes by its own batch, and tells new statistics."""
    for node in _norms(model):
        node.attribute.append(onnx.helper.make_attribute("training_mode", 1))
        node.output.extend(f"{node.name}/{what}" for what in ("mean", "variance"))


def _norms(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "BatchNormalization"]


def _set_statistics(model: onnx.ModelProto, change: Callable[[str, NDArray[np.float32], bool], object]) -> None:
    names = {name: index == 1 for node in _norms(model) for index, name in enumerate(node.input[3:5])}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            old = numpy_helper.to_array(tensor)
            new = np.broadcast_to(np.float32(change(tensor.name, old, names[tensor.name])), old.shape)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new), tensor.name))


@dataclass(frozen=True)
class Case:
    """A way to break a network."""

    name: str
    harm: Callable[[onnx.ModelProto], None]
    repairs: tuple[str, ...] = ()
    """Beyond those that its findings ask for."""


CASES = (
    Case("state never written back", never_written_back, ("recalibrate",)),
    Case("statistics of another input", of_another_input, ("recalibrate",)),
    Case("exported in training form", in_training_form),
)


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    before: float
    """The share of test digits that it knows; NaN where it does not run."""
    finding: Finding
    after: float


def share_known(answer: Callable[[Pixels], Pixels], pixels: Pixels, labels: NDArray[np.int64]) -> float:
    """The share of digits that a function from an image to its logits knows, asked one at a time."""
    return float(np.mean([answer(x[None]).argmax() == label for x, label in zip(pixels, labels, strict=True)]))


def elsewhere(path: Path, pixels: Pixels, labels: NDArray[np.int64]) -> float:
    """What the file knows as it is, by onnxruntime; NaN where that refuses it."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return share_known(lambda x: np.asarray(session.run(["logits"], {"image": x})[0]), pixels, labels)
    except Exception as error:
        print(f"  onnxruntime does not run it: {error}")
        return float("nan")


def here(path: Path, pixels: Pixels, labels: NDArray[np.int64]) -> float:
    """What the file knows, by gradserve."""
    with Engine(path) as engine:
        name = engine.models()[0].name
        return share_known(lambda x: engine.infer(name, {"image": x})["logits"], pixels, labels)


def examine(case: Case, folder: Path, train: Pixels, test: Pixels, labels: NDArray[np.int64]) -> Outcome:
    """Breaks, examines, repairs, measures."""
    print(f"{case.name}:")
    model = onnx.load(MODEL)
    case.harm(model)
    broken, repaired = folder / "broken.onnx", folder / "repaired.onnx"
    onnx.save(model, broken)
    finding, *_ = diagnose(broken, {"image": train}).findings  # the worst first
    print(f"  {finding.code} at {finding.node}: {finding.effect}")
    treatment = repair(broken, repaired, case.repairs, inputs={"image": train})
    assert not treatment.after.has_errors
    return Outcome(elsewhere(broken, test, labels), finding, here(repaired, test, labels))


def main() -> None:
    """Examines every case, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the picture (default: %(default)s)")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    train, test = (((part.pixels - MEAN) / STD).astype(np.float32) for part in digits_data.load())
    labels = digits_data.load()[1].labels
    with tempfile.TemporaryDirectory() as folder:
        trained = here(MODEL, test, labels)
        outcomes = {case.name: examine(case, Path(folder), train, test, labels) for case in CASES}
    table = Table(title=f"Test digits known; {trained:.1%} as it was trained")
    for heading in ("", "as it came", "what the doctor found", "repaired"):
        table.add_column(heading)
    for name, one in outcomes.items():
        table.add_row(name, "refused" if np.isnan(one.before) else f"{one.before:.1%}", one.finding.code, f"{one.after:.1%}")
    Console(width=110).print(table)
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    rows = np.arange(len(outcomes))
    axes.barh(rows - 0.2, [np.nan_to_num(one.before) for one in outcomes.values()], 0.38, label="as it came")
    axes.barh(rows + 0.2, [one.after for one in outcomes.values()], 0.38, label="repaired")
    axes.axvline(trained, color="black", linewidth=1, linestyle=":", label="as it was trained")
    axes.set_yticks(rows, list(outcomes))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="test digits known")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(output / "scenario_b.png", dpi=110)
    print(output / "scenario_b.png")


if __name__ == "__main__":
    main()
