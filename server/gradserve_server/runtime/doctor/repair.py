"""Repairs a model file, step by step, and measures what each step changes.

| repair | does | without being asked |
|---|---|---|
| `switch` | BatchNormalization and Dropout to inference form; statistics are no outputs any more | where a finding says so |
| `drop` | Dropout and Identity go | where there is a Dropout |
| `opset` | an opset, and a file format, that the runtime loads | where a finding says so |
| `recalibrate` | running statistics become those of given data | never |
| `batch` | any batch size | where it is fixed, and samples stay the same |
| `fold` | BatchNormalization goes into the operator before it | never |
| `cut-softmax` | the logits become the output | never |
| `describe` | range, mean, layout, channel order go into the file | where a description is given |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from gradserve.diagnosis import Repaired
from gradserve.errors import GradserveError, InvalidModel, InvalidParameter
from gradserve_server.graph.contained.limits import DEFAULT, Limits
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.inference_form.convert_opset import CannotConvert, convert_opset
from gradserve_server.graph.inference_form.drop_identities import drop_identities
from gradserve_server.graph.inference_form.fold_batchnorm import fold_batchnorm
from gradserve_server.graph.inference_form.switch_mode import switch_mode, switch_off_dropout
from gradserve_server.graph.load import MAX_IR_VERSION, MIN_OPSET, load
from gradserve_server.graph.repairs import CannotRepair, cut_softmax, drop_statistics, modernize, open_batch
from gradserve_server.graph.save import save
from gradserve_server.graph.values import is_op, opset_of
from gradserve_server.runtime.doctor.own_statistics import own_statistics
from gradserve_server.runtime.doctor.recalibrate import recalibrate
from gradserve_server.runtime.doctor.samples import Samples, given_samples, made_up_samples
from gradserve_server.runtime.image_descriptions import PREFIX, said
from gradserve_server.runtime.session import Session, newest_opset
from gradserve_server.runtime.verify import TOLERANCES, difference, has_floats, largest_change


@dataclass
class Operation:
    """A model on its way."""

    model: ir.Model
    codes: frozenset[str]
    """What was found in the file."""
    asked: frozenset[str]
    """Repairs that were asked for."""
    ir_version: int
    """Of the file."""
    given: Samples | None
    """Data, where some was given."""
    threads: int
    description: Mapping[str, str] = field(default_factory=dict)
    """Keys of image descriptions (`runtime.image_descriptions`)."""
    removed: dict[str, str] = field(default_factory=dict)


def only_if_asked(_: Operation) -> bool:
    """Never by itself."""
    return False


@dataclass(frozen=True)
class Repair:
    """One row of the table."""

    apply: Callable[[Operation], list[str]]
    """Changes the model; what it did, in words, nothing where there is nothing to do."""
    wanted: Callable[[Operation], bool] = only_if_asked
    """Whether it is made without being asked for."""


def repair(
    source: Path,
    output: Path,
    *,
    codes: Sequence[str],
    asked: Sequence[str] = (),
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    description: Mapping[str, str] | None = None,
    threads: int = 1,
    limits: Limits = DEFAULT,
) -> list[Repaired]:
    """Writes a repaired copy of a model.

    Args:
        source: The file.
        output: Where the copy goes; not the same file.
        codes: What was found in it.
        asked: Repairs beyond those that the findings ask for.
        inputs: Samples, to recalibrate on and to measure changes with; random ones by default.
        description: Keys and values of image descriptions.
        threads: Of a run.
        limits: What the file may claim.

    Returns:
        What was done, and what could not be, in order.

    Raises:
        InvalidModel: The file cannot be read.
        InvalidParameter: An unknown repair, a bad description, recalibration without data.
        InvalidTensor, UnknownInput: The samples do not fit the model.
    """
    for name in asked:
        if name not in REPAIRS:
            msg = f"repair '{name}': expected one of {', '.join(REPAIRS)}"
            raise InvalidParameter(msg)
    if "recalibrate" in asked and inputs is None:
        msg = "repair 'recalibrate': expected data to measure statistics on, got none"
        raise InvalidParameter(msg)
    file = load(source, limits, oldest=1)
    _check_description(description or {}, file.model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(file.model)
    if opset_of(file.model) >= MIN_OPSET:
        infer_shapes(file.model)
    given = given_samples(file.model, inputs) if inputs is not None else None
    state = Operation(file.model, frozenset(codes), frozenset(asked), file.ir_version, given, threads, description or {})
    done = [
        found for name, row in REPAIRS.items() if name in asked or row.wanted(state) for found in [_step(name, row, state)]
    ]
    save(state.model, output)
    return [one for one in done if one.done or one.problem]


def _step(name: str, row: Repair, state: Operation) -> Repaired:
    before = state.model
    state.model = before.clone()
    try:
        done = row.apply(state)
    except (CannotRepair, CannotConvert, GradserveError) as error:
        state.model = before
        return Repaired(name, (), float("nan"), float("nan"), str(error))
    if not done:
        state.model = before
        return Repaired(name, (), 0.0, 0.0)
    return Repaired(name, tuple(done), *_change(before, state))


def _change(before: ir.Model, state: Operation) -> tuple[float, float]:
    """The largest change of an output, absolute and relative to the output's largest value.

    NaN where it does not run before or after, has no float output, or gives numbers on one side only.
    """
    changes = list[tuple[float, float]]()
    try:
        sessions = [_session(model, state.threads) for model in (before, state.model)]
        samples = state.given or made_up_samples(before, sessions[0].run)
        for feeds in samples.runs() if samples is not None else ():
            old, new = (session.run(feeds) for session in sessions)
            changes += [largest_change(old[name], new[name]) for name in new if has_floats(new[name])]
    except GradserveError:
        changes.clear()
    if not changes:
        return float("nan"), float("nan")
    largest, relative = np.max(changes, axis=0)  # of which NaN is the largest
    return float(largest), float(relative)


def _session(model: ir.Model, threads: int) -> Session:
    if opset_of(model) < MIN_OPSET:
        msg = f"opset {opset_of(model)} does not run"
        raise InvalidModel(msg)
    clone = model.clone()
    own_statistics(clone)
    return Session(clone, threads, prepack=False, optimize=False)


# ---- the repairs -----------------------------------------------------------------------------------------------------


def _switch(state: Operation) -> list[str]:
    done = drop_statistics(state.model)
    done += switch_mode(state.model, untrained="recalibrate" in state.asked)
    if opset_of(state.model) >= MIN_OPSET:
        infer_shapes(state.model)
    return done


def _drop(state: Operation) -> list[str]:
    switch_off_dropout(state.model)
    return drop_identities(state.model, state.removed)


def _opset(state: Operation) -> list[str]:
    done = []
    if (old := opset_of(state.model)) < MIN_OPSET:
        state.model = modernize(state.model)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(state.model)
        done.append(f"converted opset {old} to {MIN_OPSET}")
        infer_shapes(state.model)
        done += convert_opset(state.model)
    else:
        done += convert_opset(state.model, oldest=18, newest=newest_opset()) if old > newest_opset() else []
    infer_shapes(state.model)
    if state.ir_version > MAX_IR_VERSION:
        done.append(f"wrote IR version {state.model.ir_version} instead of {state.ir_version}")
    return done


def _recalibrate(state: Operation) -> list[str]:
    assert state.given is not None
    return recalibrate(state.model, state.given, state.threads)


def _batch(state: Operation) -> list[str]:
    fixed = state.model.clone()
    done = open_batch(state.model)
    if done:
        _check_open(fixed, state)
    return done


def _check_open(fixed: ir.Model, state: Operation) -> None:
    """Twice the batch at once, and each sample alone, must give what the fixed batches give."""
    size = fixed.graph.inputs[0].shape[0] if fixed.graph.inputs[0].shape is not None else None
    old, new = _session(fixed, state.threads), _session(state.model, state.threads)
    samples = made_up_samples(fixed, old.run)
    if samples is None or not isinstance(size, int):
        msg = "it runs on no random batch that could be made up"
        raise CannotRepair(msg)
    batch = samples.first(size)
    other = {
        name: array[::-1] * np.asarray(0.5, array.dtype) if array.dtype.kind == "f" else array
        for name, array in batch.items()
    }
    expected = [old.run(batch), old.run(other)]
    together = new.run({name: np.concatenate([batch[name], other[name]]) for name in batch})
    for name in together:
        alone = [
            new.run({key: array[i : i + 1] for key, array in feeds.items()})[name]
            for feeds in (batch, other)
            for i in range(size)
        ]
        wanted = np.concatenate([part[name] for part in expected])
        for got in (together[name], np.concatenate(alone)):
            tolerance = TOLERANCES.get(wanted.dtype.name, 0.0)
            if got.shape != wanted.shape or not difference(wanted, got) <= tolerance:
                msg = f"output '{name}' of a sample depends on the batch, or its size stands elsewhere in the graph"
                raise CannotRepair(msg)


def _fold(state: Operation) -> list[str]:
    done = fold_batchnorm(state.model, state.removed)
    RemoveUnusedNodesPass()(state.model)
    infer_shapes(state.model)
    return done


def _cut_softmax(state: Operation) -> list[str]:
    return cut_softmax(state.model)


def _describe(state: Operation) -> list[str]:
    if not state.description:
        msg = "expected a description to write, got none (--describe INPUT.mean='...')"
        raise CannotRepair(msg)
    parameters = {f"{PREFIX}{key}": value for key, value in state.description.items()}
    state.model.metadata_props.update(parameters)
    return [f"wrote {key} = {value}" for key, value in state.description.items()]


def _check_description(description: Mapping[str, str], model: ir.Model) -> None:
    """Refuses what a model file could not be served with."""
    inputs = {value.name for value in model.graph.inputs}
    try:
        described = said({f"{PREFIX}{key}": value for key, value in description.items()}, "description")
    except InvalidModel as error:
        raise InvalidParameter(str(error)) from error
    for name in described.keys() - inputs:
        msg = f"description of input '{name}': expected one of {', '.join(sorted(filter(None, inputs)))}"
        raise InvalidParameter(msg)


def _found(*codes: str) -> Callable[[Operation], bool]:
    return lambda state: bool(state.codes & set(codes))


REPAIRS: dict[str, Repair] = {
    "switch": Repair(_switch, _found("batchnorm-training-form", "batchnorm-extra-outputs", "dropout-training-form")),
    "drop": Repair(_drop, lambda state: any(is_op(node, "Dropout") for node in state.model.graph)),
    "opset": Repair(_opset, _found("opset-too-old", "opset-too-new", "ir-too-new")),
    "recalibrate": Repair(_recalibrate),
    "batch": Repair(_batch, _found("batch-fixed")),
    "fold": Repair(_fold),
    "cut-softmax": Repair(_cut_softmax),
    "describe": Repair(_describe, lambda state: bool(state.description)),
}
"""THE table of repairs, in the order in which they are made."""
