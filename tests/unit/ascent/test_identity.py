"""What makes two ascents the same: every setting that decides what follows is told, and no other."""

from dataclasses import replace

import numpy as np
import pytest

from gradserve import (
    Adam,
    AscentSettings,
    Checkpoint,
    GradientNormalization,
    ImageDescription,
    ModelDescription,
    Noise,
    Sgd,
    TensorDescription,
)
from gradserve import objectives as O
from gradserve.numbers import Linear
from gradserve.parameterizations import Alpha, Fourier, Shared
from gradserve.projections import LInfBall
from gradserve.regularizers import GaussianBlur
from gradserve.stopping import Value
from gradserve.transforms import Pad
from gradserve_server import EngineConfig
from gradserve_server.ascent.identity import identity, text
from gradserve_server.ascent.spec import resolve

IMAGE = TensorDescription("x", "float32", ("N", 3, 4, 5), ImageDescription("NCHW"))
DIRECTION = np.arange(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.float64(1), "1"),
        (0.1, "0.1"),
        (np.float64(0.1), "0.1"),
        (np.float32(0.5), "0.5"),
        (np.inf, "inf"),
        (-np.inf, "-inf"),
        (2**64 - 1, "18446744073709551615"),
        ("name", "name"),
        (None, "None"),
        ((1.0, 2), "(1, 2)"),
        (Sgd(1), "Sgd(learning_rate=1)"),
        (GradientNormalization.L2, "l2"),
        (Noise(0.5), "Noise(standard_deviation=0.5)"),
    ],
)
def test_text(value, expected):
    assert text(value) == expected


def test_arrays_are_told_by_type_shape_and_bytes():
    texts = {text(array) for array in (DIRECTION, DIRECTION.astype(np.float64), DIRECTION.reshape(1, 3), DIRECTION + 1)}
    assert len(texts) == 4
    assert text(DIRECTION) == text(DIRECTION.copy())
    assert len(text(np.zeros(10**6))) < 200
    wide = np.arange(6).reshape(2, 3)
    assert text(wide.T) == text(np.ascontiguousarray(wide.T))
    assert text(wide.T) != text(wide)


DECIDES = {
    "inputs": {"other": np.ones((1, 2))},
    "seed": 1,
    "count": 2,
    "start": Noise(0.02),
    "optimizer": Adam(0.06),
    "gradient_normalization": "l2",
    "weight_decay": 0.1,
    "jitter": 1,
    "bounds": (0.0, 0.5),
    "regularizers": (GaussianBlur(0.5, 4),),
    "projection": LInfBall(0.1),
    "stop_at": Value(1.0),
    "keep": "best",
    "shared": (Shared(),),
    "alpha": Alpha(),
    "redirect_relu_steps": 16,
    "parameterization": Fourier(colours=()),
    "transforms": (Pad(1),),
    "resample_each": True,
    "image_size": (7, 6),
}
"""Each setting that decides what follows, at another value."""
TOLD_BY_THE_MODEL = {"version", "input", "shape"}
MAY_CHANGE = {"steps": 11, "report_every": 2, "image_every": 2, "checkpoint_every": 2, "resume": Checkpoint(0, {}, {})}
MODEL = ModelDescription("m", "1", "ab", 17, (), ())
TERMS = O.unit("logits", 7).terms
OTHER = TensorDescription("other", "float32", ("N", 2))


def who(model=MODEL, terms=TERMS, tensor=IMAGE, **settings):
    spec = resolve({"inputs": {"other": np.zeros((1, 2))}, **settings}, [tensor, OTHER], ["x"], EngineConfig())
    return identity(spec, model, terms, spec.feeds)


def test_every_setting_is_in_this_test_of_identity():
    assert DECIDES.keys() | TOLD_BY_THE_MODEL | MAY_CHANGE.keys() == AscentSettings.__annotations__.keys()
    assert who().keys() >= TOLD_BY_THE_MODEL


def test_fields_that_came_later_are_told_where_they_have_not_their_defaults():
    """So that older checkpoints still fit."""
    ((_, plain),) = O.direction("l", DIRECTION).terms
    assert text(plain) == f"Direction(layer=l, vector={text(DIRECTION)})"
    for other in (O.direction("l", DIRECTION, 1), O.direction("l", DIRECTION, axis=2)):
        assert text(other.terms[0][1]) != text(plain)


def test_numbers_that_change_depend_on_the_steps():
    rising = (Linear(0.0, 1.0) * O.unit("logits", 7)).terms
    assert who(terms=rising, steps=5) != who(terms=rising, steps=6)
    moving = Sgd(Linear(1.0, 0.5))
    assert who(optimizer=moving, steps=5) != who(optimizer=moving, steps=6)
    assert who(optimizer=Sgd(1.0), steps=5) == who(optimizer=Sgd(1.0), steps=6)


@pytest.mark.parametrize("name", DECIDES)
def test_a_setting_that_decides_is_told_by_its_name(name):
    then, now = who(), who(**{name: DECIDES[name]})
    # `count` repeats the other inputs.
    expected = {"inputs": {"inputs: other"}, "count": {"count", "inputs: other"}}.get(name, {name})
    assert {key for key in then | now if now.get(key) != then.get(key)} == expected


@pytest.mark.parametrize("name", MAY_CHANGE)
def test_a_setting_that_may_change_is_not_told(name):
    assert who(**{name: MAY_CHANGE[name]}) == who()


@pytest.mark.parametrize("start", [0.5, np.full((3, 4, 5), 0.5), np.full((1, 3, 4, 5), 0.5), Noise(0.5)])
def test_each_start_is_another(start):
    assert who(start=start)["start"] != who()["start"]
    assert who(start=start) == who(start=start)


@pytest.mark.parametrize(
    "change",
    [
        *({"model": replace(MODEL, **{name: "z"})} for name in ("name", "version", "sha256")),
        {"terms": (2 * O.unit("logits", 7)).terms},
        {"terms": O.unit("logits", 8).terms},
        {"terms": O.unit("logit", 7).terms},
        {"terms": O.channel("logits", 7).terms},
        {"terms": TERMS * 2},
        {"terms": (O.unit("logits", 7) - O.l2()).terms},
        {"terms": (Linear(1.0, 2.0) * O.unit("logits", 7)).terms},
        {"tensor": replace(IMAGE, image=ImageDescription("NCHW", mean=(0.1,)))},
        {"tensor": TensorDescription("x", "float32", ("N", 4, 5, 3), ImageDescription("NHWC"))},
    ],
)
def test_another_model_or_objective(change):
    assert who(**change) != who()


@pytest.mark.parametrize("make", [O.direction, O.cotangent])
def test_arrays_in_an_objective(make):
    array = DIRECTION.reshape(1, 3) if make is O.cotangent else DIRECTION
    terms = make("l", array).terms
    assert who(terms=terms) == who(terms=make("l", array.copy()).terms)
    assert who(terms=terms) != who(terms=make("l", array + 1).terms)
