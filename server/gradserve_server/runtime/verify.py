"""The load-time check: what is served must reproduce the predictions of the file, whatever was rewritten or tuned.

Both run on one random batch. Rewriting only reorders a few roundings, so what remains is rounding error, relative to
each output's largest value.
"""

import math

import numpy as np
import onnx_ir as ir

from gradserve.errors import InvalidModel, RunFailed
from gradserve_server.graph.inference_form import InferenceForm
from gradserve_server.runtime.session import Array, Session

TOLERANCES = {
    "float16": 2e-2,  # 11 bits, and deep networks multiply the error of each layer
    "bfloat16": 1e-1,  # 8 bits
    "float32": 1e-3,  # 24 bits; ResNet-50 with folded BatchNorm measures 1e-6, a wrong fold 1e-1
    "float64": 1e-9,  # 53 bits
}
"""By the type of an output. Integers are not compared: an ArgMax at a tie may go either way."""

OPEN_SIZE = 2
"""What a symbolic size is in the random batch; tried first, then the sizes that images and sequences usually have."""
SIZES = (OPEN_SIZE, 64, 224, 299)

MAX_ELEMENTS = 2**27
"""Of an input of the random batch, in float64 1 GiB. A file that says that it takes more is not tried out."""


def rewrite_error(name: str, form: InferenceForm, served: Session, threads: int) -> float:
    """The largest difference between both stages, relative to each output's largest value.

    Returns:
        The difference; NaN where the model runs on no batch that could be made up, or predicts at random.

    Raises:
        InvalidModel: It is larger than the tolerance of the output's type.
    """
    # As it is written: a fusion of onnxruntime 1.19 breaks MatMul with BatchNormalization, which the rewritten form has not.
    reference = Session(form.reference, threads, prepack=False, optimize=False)
    for size in SIZES:
        try:
            feeds = random_feeds(form.model, size)
            expected = reference.run(feeds, shrink=True)
        except Exception:
            continue
        try:
            return _compare(name, expected, _run(name, served, feeds))
        except InvalidModel:
            if _is_random(expected, reference.run(feeds, shrink=True)):
                break
            raise
    return float("nan")


def _run(name: str, served: Session, feeds: dict[str, Array]) -> dict[str, Array]:
    try:
        return served.run(feeds, shrink=True)
    except RunFailed as error:
        msg = f"model '{name}': expected inference form that runs as the file does: {error}"
        raise InvalidModel(msg) from error


def _is_random(first: dict[str, Array], second: dict[str, Array]) -> bool:
    """Whether the file itself predicts something else each time."""
    return any(not np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def _compare(name: str, expected: dict[str, Array], got: dict[str, Array]) -> float:
    worst = 0.0
    for output, array in expected.items():
        tolerance = TOLERANCES.get(array.dtype.name)
        if tolerance is None:
            continue
        error = difference(array, got[output])
        if not error <= tolerance:
            msg = f"model '{name}': output '{output}': expected inference form within {tolerance:.0e}, got {error:.1e}"
            raise InvalidModel(msg)
        worst = max(worst, error)
    return worst


def difference(expected: Array, got: Array) -> float:
    """The largest difference of two outputs of one shape, relative to the largest value."""
    before, after = expected.astype(np.float64), got.astype(np.float64)
    # A random batch may leave a logarithm's domain: what is not finite must be so in both, and the same.
    finite = np.isfinite(before)
    same = np.array_equal(before[~finite], after[~finite], equal_nan=True)
    largest = np.abs(before[finite]).max(initial=float(np.finfo(np.float32).tiny))
    return float(np.abs(before[finite] - after[finite]).max(initial=0.0) / largest) if same else float("nan")


def largest_change(before: Array, after: Array) -> tuple[float, float]:
    """The largest difference of two outputs, absolute and relative as `difference` has it.

    NaN where they have different shapes, or one is a number where the other is none.
    """
    if before.shape != after.shape:
        return float("nan"), float("nan")
    a, b = before.astype(np.float64), after.astype(np.float64)
    differs = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(a[differs] - b[differs]).max(initial=0.0))
    return (largest if np.isfinite(largest) else float("nan")), difference(before, after)


def has_floats(array: Array) -> bool:
    """Whether an output is of floats, half types among them."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def random_feeds(model: ir.Model, size: int, batch: int = OPEN_SIZE) -> dict[str, Array]:
    """A random batch: normally distributed floats, integers 0 or 1.

    Args:
        model: Whose inputs it fits.
        size: What an open size is, but for the first axis.
        batch: What that is, where it is open.

    Raises:
        ValueError: There is no such batch, or it would be huge.
    """
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        shape = [
            dim if isinstance(dim, int) else (batch if axis == 0 else size) for axis, dim in enumerate(value.shape or ())
        ]
        if math.prod(shape) > MAX_ELEMENTS:
            raise ValueError(shape)
        dtype = np.dtype(value.dtype.numpy()) if value.dtype is not None else np.dtype(np.float32)
        floating = value.dtype is None or value.dtype.is_floating_point()
        numbers = random.normal(size=shape) if floating else random.integers(0, 2, size=shape)
        feeds[value.name or ""] = numbers.astype(dtype)
    return feeds
