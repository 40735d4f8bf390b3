"""Objectives: the algebra, the constructors, the text form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.objective_formulas import CASES, kinds

from gradserve import objectives as O
from gradserve.errors import InvalidObjective
from gradserve.numbers import Linear

A, B = O.unit("a", 1), 3.0 * O.channel("b", 2)
RANKS = {"logits": 2, "vector": 1, "relu3": 4, "tokens": 3, "blk:0": 4, "tensor:0": 2, "x@y": 4, "a^2": 4}


def spelled(objective):
    return [
        (scale, type(term).__name__, {k: np.asarray(v).tolist() for k, v in vars(term).items()})
        for scale, term in objective.terms
    ]


def scales(objective):
    return [scale for scale, _ in objective.terms]


# ---- algebra ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (A, [1]),
        (A + B, [1, 3]),
        (A - B, [1, -3]),
        (B - A, [3, -1]),
        (-B, [-3]),
        (A * 2, [2]),
        (2 * A, [2]),
        (np.float32(2) * A, [2]),
        (A * np.int64(2), [2]),
        (0.5 * (A + B), [0.5, 1.5]),
        (A - 2 * (B - A), [1, -6, 2]),
        (-(A - B), [-1, 3]),
    ],
)
def test_objectives_add_and_scale(objective, expected):
    assert isinstance(objective, O.Objective)
    assert scales(objective) == expected


def test_addition_keeps_the_terms_in_order():
    assert [term.layer for _, term in (A + B - A).terms] == ["a", "b", "a"]


def test_operands_are_not_changed():
    before = spelled(A), spelled(B)
    A + B, A - B, -A, 2 * A
    assert (spelled(A), spelled(B)) == before


@pytest.mark.parametrize(
    "wrong", [lambda: A + 1, lambda: 1 + A, lambda: A - 1, lambda: A * A, lambda: A * "2", lambda: A * None, lambda: A + "b"]
)
def test_what_has_no_meaning_is_a_type_error(wrong):
    with pytest.raises(TypeError):
        wrong()


@given(st.lists(st.floats(-10, 10).filter(bool), min_size=1, max_size=4))
def test_a_sum_scales_term_by_term(factors):
    total = factors[0] * A
    for factor in factors[1:]:
        total = total + factor * A
    assert scales(-2 * total) == [-2 * factor for factor in factors]


# ---- constructors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "kind", "fields"),
    [
        (O.unit("l", np.int64(7)), "Unit", {"index": 7}),
        (O.neuron("l", 4), "Neuron", {"channel": 4, "position": []}),
        (O.neuron("l", 4, 5, 6), "Neuron", {"channel": 4, "position": [5, 6]}),
        (O.channel("l", 4), "Channel", {"channel": 4, "axis": 1}),
        (O.channel("l", 4, axis=-1), "Channel", {"channel": 4, "axis": -1}),
        (O.channel_energy("l", 4, axis=3), "ChannelEnergy", {"channel": 4, "axis": 3}),
        (O.layer("l"), "LayerEnergy", {}),
        (O.direction("l", [1, 2]), "Direction", {"vector": [1.0, 2.0], "cosine_power": 0.0, "axis": 1}),
        (
            O.direction_neuron("l", [1, 2], 5, 6, cosine_power=2, axis=-1),
            "DirectionNeuron",
            {"vector": [1.0, 2.0], "position": [5, 6], "cosine_power": 2.0, "axis": -1},
        ),
        (O.cotangent("l", [[1, 2]]), "Cotangent", {"array": [[1.0, 2.0]]}),
        (O.matching("l", [[1, 2]]), "Matching", {"array": [[1.0, 2.0]]}),
        (O.style("l", [[1, 2]], axis=3), "Style", {"array": [[1.0, 2.0]], "axis": 3}),
        (O.caricature("l", [[1, 2]]), "Caricature", {"array": [[1.0, 2.0]], "cosine_power": 0.0}),
        (O.alignment("l"), "Alignment", {"decay": 2.0}),
        (O.diversity("l"), "Diversity", {"axis": 1}),
    ],
)
def test_a_constructor_makes_one_term(objective, kind, fields):
    assert spelled(objective) == [(1.0, kind, {"layer": "l", **fields})]


@pytest.mark.parametrize(
    ("objective", "kind", "fields"),
    [
        (O.l1(), "L1", {"constant": 0.0}),
        (O.l2(), "L2", {"constant": 0.0, "epsilon": 1e-6}),
        (O.total_variation(), "TotalVariation", {}),
        (O.boundary_complexity(), "BoundaryComplexity", {"width": 20, "constant": 0.5}),
        (O.blur_input_each_step(), "BlurInputEachStep", {}),
    ],
)
def test_penalties_have_lucids_defaults(objective, kind, fields):
    assert spelled(objective) == [(1.0, kind, {"layer": "", **fields})]


def test_an_interpolation_is_two_terms():
    objective = O.channel_interpolate("a", 1, "b", 2, axis=3)
    assert spelled(objective) == [
        (1.0, "InterpolatedChannel", {"layer": "a", "channel": 1, "axis": 3, "falling": True}),
        (1.0, "InterpolatedChannel", {"layer": "b", "channel": 2, "axis": 3, "falling": False}),
    ]


def test_every_kind_of_term_is_exported_and_has_a_constructor():
    assert {kind.__name__ for kind in kinds()} <= set(O.__all__)
    assert {type(term) for case in CASES for _, term in case.objective.terms} == kinds()


# ---- schedules -------------------------------------------------------------------------------------------------------


def test_a_scale_may_change():
    objective = Linear(0, 2) * A - 0.5 * (A * Linear(1, 3))
    assert scales(objective) == [Linear(0, 2), Linear(-0.5, -1.5)]
    assert O.terms_of(objective) == objective.terms


def test_a_product_of_straight_lines_is_none():
    with pytest.raises(TypeError):
        Linear(0, 1) * A * Linear(0, 1)


@pytest.mark.parametrize("ends", [(0, 0), (0, math.nan), (math.inf, 1), (1, 1e39), (0, 1e-300)])
def test_a_changing_scale_that_asks_for_nothing(ends):
    with pytest.raises(InvalidObjective, match="^objective on 'a': expected a scale other than 0 .*, got Linear"):
        O.terms_of(Linear(*ends) * A)


# ---- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [O.direction, O.direction_neuron, O.cotangent, O.matching, O.style, O.caricature])
def test_arrays_are_float32(make):
    ((_, term),) = make("l", np.ones(3, np.float64)).terms
    assert next(v for v in vars(term).values() if isinstance(v, np.ndarray)).dtype == np.float32


# ---- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logits:7", O.unit("logits", 7)),
        ("vector:7", O.unit("vector", 7)),
        ("unknown:7", O.channel("unknown", 7)),
        ("relu3:4", O.channel("relu3", 4)),
        ("tokens:4", O.channel("tokens", 4)),
        ("relu3:4@5,6", O.neuron("relu3", 4, 5, 6)),
        ("tokens:4@5", O.neuron("tokens", 4, 5)),
        ("relu3:4^2", O.channel_energy("relu3", 4)),
        ("logits:4^2", O.channel_energy("logits", 4)),
        ("relu3", O.layer("relu3")),
        ("logits", O.layer("logits")),
        ("unknown", O.layer("unknown")),
        ("blk:0", O.layer("blk:0")),
        ("blk:0:4", O.channel("blk:0", 4)),
        ("blk:0:4@5,6", O.neuron("blk:0", 4, 5, 6)),
        ("blk:0:4^2", O.channel_energy("blk:0", 4)),
        ("tensor:0", O.layer("tensor:0")),
        ("tensor:0:12", O.unit("tensor:0", 12)),
        ("x@y:1", O.channel("x@y", 1)),
        ("a^2", O.layer("a^2")),
        ("a^2:1^2", O.channel_energy("a^2", 1)),
        ("/conv/Conv_output_0:3", O.channel("/conv/Conv_output_0", 3)),
        ("relu3:007", O.channel("relu3", 7)),
    ],
)
def test_the_command_lines_text(text, expected):
    assert spelled(O.parse(text, RANKS)) == spelled(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("diversity(relu3)", O.diversity("relu3")),
        ("alignment(blk:0)", O.alignment("blk:0")),
        ("logits:7 - 0.5 * total_variation()", O.unit("logits", 7) - 0.5 * O.total_variation()),
        ("2*logits:7 + relu3:4@5,6 - l2(0.5)", 2 * O.unit("logits", 7) + O.neuron("relu3", 4, 5, 6) - O.l2(0.5)),
        ("logits:7 - 0..1e-2 * l1()", O.unit("logits", 7) - Linear(0, 0.01) * O.l1()),
        ("1.5..-.5*relu3", Linear(1.5, -0.5) * O.layer("relu3")),
        ("channel_interpolate(relu3:4, blk:0:7)", O.channel_interpolate("relu3", 4, "blk:0", 7)),
        ("channel_interpolate(relu3, relu3:7)", O.layer("channel_interpolate(relu3, relu3:7)")),
        ("-1e-3 * l1() + relu3", -1e-3 * O.l1() + O.layer("relu3")),
        ("relu3 - boundary_complexity(5, 0.25)", O.layer("relu3") - O.boundary_complexity(5, 0.25)),
        ("relu3 - .5 * blur_input_each_step()", O.layer("relu3") - 0.5 * O.blur_input_each_step()),
        ("a - b", O.layer("a - b")),
        ("a - b:1", O.layer("a") - O.channel("b", 1)),
        ("unknown()", O.layer("unknown()")),
    ],
)
def test_sums_and_terms_by_name(text, expected):
    assert spelled(O.parse(text, RANKS | {"a - b": 2})) == spelled(expected)


@pytest.mark.parametrize("text", ["l2(much)", "total_variation(1)", "l1(1, 2)", "boundary_complexity(nan)"])
def test_arguments_that_a_term_does_not_take(text):
    with pytest.raises(InvalidObjective, match=r"^\w+: expected numbers as `gradserve\.objectives\.\w+` takes them, got '"):
        O.parse(text, RANKS)


@pytest.mark.parametrize("text", ["relu3:", "relu3:-1", "relu3:4@", "relu3:4@5,", "relu3:4^3", "relu3:4.5", ":4", "relu3:x"])
def test_text_that_fits_no_row_is_a_layer_name_that_no_model_has(text):
    assert spelled(O.parse(text, RANKS)) == spelled(O.layer(text))


# ---- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [O.Objective(()), None, "logits:7", (1.0, A)])
def test_an_objective_without_terms(nothing):
    with pytest.raises(InvalidObjective, match=r"^objective: expected one made by gradserve\.objectives .*, got "):
        O.terms_of(nothing)


@pytest.mark.parametrize("scale", [0, -0.0, math.nan, math.inf, -math.inf])
def test_a_scale_that_asks_for_nothing(scale):
    with pytest.raises(InvalidObjective, match=r"^objective on 'a': expected a scale other than 0 that float32 holds, got "):
        O.terms_of(A * scale)


@pytest.mark.parametrize("scale", [1e300, -1e39, 1e-300])
def test_a_scale_that_float32_turns_into_infinity_or_nothing(scale):
    """Weights are float32: these would give NaN, or a silent zero."""
    with pytest.raises(InvalidObjective, match="^objective on 'a': "):
        O.terms_of(A * scale)
