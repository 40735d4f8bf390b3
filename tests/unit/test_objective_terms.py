"""Every term of an objective against two oracles: float64 autograd of its published formula, and finite differences."""

import numpy as np
import pytest
from support.objective_formulas import (
    BODY,
    CASES,
    EACH,
    IMAGES,
    OF_LAYERS,
    OF_THE_IMAGE,
    VECTOR,
    WEIGHTS,
    activations,
    blurred,
    kinds,
)
from support.onnx_models import build, save
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve.errors import InvalidObjective, TooLarge
from gradserve.numbers import Linear
from gradserve_server import Engine, EngineConfig
from gradserve_server.graph.objectives import heads
from gradserve_server.graph.objectives import kinds as table
from gradserve_server.graph.objectives.forms import ADDED

STEP = 1e-5
"""Of a central difference in float64."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    outputs = "float[N,4] y, float[N,4,6,5] r, float[N,6,5,4] last"
    model = build(BODY, inputs="float[N,3,6,5] x", outputs=outputs, opset=18, weights=WEIGHTS)
    return save(model, tmp_path_factory.mktemp("terms") / "m.onnx")


@pytest.fixture(scope="module", params=["auto", "portable"])
def engine(request, path):
    with Engine(path, config=EngineConfig(backend=request.param)) as engine:
        yield engine


def with_a_layer(case):
    """A penalty needs company: a term whose formula is simple."""
    return case.objective if case in OF_LAYERS else case.objective + O.unit("y", 2)


def value(torch, case, x):
    layers = activations(torch, x)
    return case.formula(torch, layers) + (0 if case in OF_LAYERS else layers["y"][:, 2])


def test_every_kind_of_term_is_in_the_tables():
    assert {type(term) for case in CASES for _, term in case.objective.terms} == kinds()
    assert {type(term) for case in OF_THE_IMAGE for _, term in case.objective.terms} == kinds(O.Penalty)
    assert set(table._KINDS) == kinds() - kinds(O.Penalty)


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_term_equals_float64_autograd_of_its_formula(engine, case):
    import torch

    x = torch.tensor(IMAGES, dtype=torch.float64, requires_grad=True)
    values = value(torch, case, x)
    values.sum().backward()
    got = engine.gradient("m", {"x": IMAGES}, with_a_layer(case))
    assert relative_error(got.values, values.detach().numpy()) < TOLERANCE["float32 network"]
    assert relative_error(got.gradients["x"], x.grad.numpy()) < TOLERANCE["float32 network"]


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_term_equals_finite_differences_of_its_formula(engine, case):
    import torch

    if case.name == "blur_input_each_step":  # its gradient is not that of its value: the blur is held fixed
        fixed = torch.stack([blurred(torch, image, 3) for image in torch.tensor(IMAGES, dtype=torch.float64)])

        def formula(x):
            return 0.5 * ((x - fixed) ** 2).sum((1, 2, 3)) + activations(torch, x)["y"][:, 2]

    else:

        def formula(x):
            return value(torch, case, x)

    direction = np.random.default_rng(1).normal(size=IMAGES.shape)
    ahead, behind = (formula(torch.tensor(IMAGES + sign * STEP * direction)).sum().item() for sign in (1, -1))
    got = engine.gradient("m", {"x": IMAGES}, with_a_layer(case)).gradients["x"]
    expected, slope = (ahead - behind) / (2 * STEP), (got.astype(np.float64) * direction).sum()
    scale = np.linalg.norm(got.astype(np.float64)) * np.linalg.norm(direction)
    assert abs(slope - expected) < TOLERANCE["float32 network"] * scale


@pytest.mark.torch
def test_terms_of_all_kinds_add_up_in_one_objective(engine):
    import torch

    x = torch.tensor(IMAGES, dtype=torch.float64, requires_grad=True)
    objective, total = 0.5 * O.unit("y", 1), 0.5 * activations(torch, x)["y"][:, 1]
    for number, case in enumerate(CASES):
        scale = (-1) ** number * (number + 1) / 10
        objective = objective + scale * case.objective
        total = total + scale * case.formula(torch, activations(torch, x))
    total.sum().backward()
    got = engine.gradient("m", {"x": IMAGES}, objective)
    assert relative_error(got.values, total.detach().numpy()) < TOLERANCE["float32 network"]
    assert relative_error(got.gradients["x"], x.grad.numpy()) < TOLERANCE["float32 network"]


@pytest.mark.torch
@pytest.mark.parametrize("case", OF_LAYERS, ids=lambda case: case.name)
def test_a_second_derivative(path, case):
    import torch

    tangent = np.random.default_rng(2).normal(size=IMAGES.shape).astype(np.float32)
    x = torch.tensor(IMAGES, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(torch, case, x).sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad((gradient * torch.tensor(tangent).double()).sum(), x)
    with Engine(path) as engine:
        got = engine.hvp("m", {"x": IMAGES}, case.objective, {"x": tangent})
    assert relative_error(got.products["x"], expected.numpy()) < TOLERANCE["float32 second derivative"]


# ---- plans -----------------------------------------------------------------------------------------------------------

FAMILIES = {
    "powers and vectors": [O.direction("t", VECTOR, power) for power in (0.5, 1, 2)] + [O.direction("t", -VECTOR, 4)],
    "positions": [O.direction_neuron("t", VECTOR, y, 1, cosine_power=1) for y in range(4)],
    "targets": [O.matching("t", IMAGES[:1, [0, 1, 2, 0]] * scale) for scale in (1, 2, 3)],
    "decays": [scale * O.alignment("t", decay) for scale, decay in ((1, 2), (2, 3))],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_one_plan_serves_all_of_them(path, name):
    with Engine(path) as engine:
        for objective in FAMILIES[name]:
            engine.gradient("m", {"x": IMAGES}, objective)
        assert len(engine.model("m")._plans.kept) == 1


def test_where_all_channels_are_zero_there_is_no_nan(engine):
    """As behind a dead ReLU: Lucid's root has an infinite slope there."""
    black = np.zeros_like(IMAGES)
    for objective in (O.direction("r", VECTOR, 2), O.caricature("r", IMAGES[:1, [0, 1, 2, 0]], 2), O.diversity("r")):
        got = engine.gradient("m", {"x": black}, objective)
        assert np.isfinite(got.values).all()
        assert np.isfinite(got.gradients["x"]).all()


def test_one_image_has_no_neighbours(engine):
    one = {"x": IMAGES[:1]}
    for objective in (O.alignment("t"), O.diversity("t")):
        got = engine.gradient("m", one, objective)
        assert not got.values.any()
        assert not got.gradients["x"].any()
    first = engine.gradient("m", one, O.channel_interpolate("t", 1, "t", 2))
    assert relative_error(first.values, engine.gradient("m", one, O.channel("t", 1)).values) < TOLERANCE["float32 operator"]


@pytest.mark.parametrize("samples", [2, 4, 5, 7])
def test_lucids_number_is_the_sum_of_alignments_and_the_mean_of_diversities(engine, samples):
    images = np.random.default_rng(samples).uniform(size=(samples, 3, 6, 5)).astype(np.float32)
    t = engine.activations("m", {"x": images}, ["t"])["t"].astype(np.float64)
    accumulated = sum(
        ((t[i] - t[i + d]) ** 2).mean() / 2.0**d for d in (1, 2, 3, 4) for i in range(samples - d)
    )  # lucid/optvis/objectives.py, alignment
    got = engine.gradient("m", {"x": images}, O.alignment("t")).values.sum()
    assert relative_error(got, -accumulated) < TOLERANCE["float32 network"]
    flat = t.reshape(samples, 4, -1)
    grams = flat @ flat.transpose(0, 2, 1)
    grams /= np.sqrt((grams**2).sum((1, 2), keepdims=True))
    between = sum((grams[i] * grams[j]).sum() for i in range(samples) for j in range(samples) if j != i) / samples
    got = engine.gradient("m", {"x": images}, O.diversity("t")).values.mean()
    assert relative_error(got, between) < TOLERANCE["float32 network"]


# ---- what does not fit -----------------------------------------------------------------------------------------------

WRONG = {
    "vector": (O.direction("t", VECTOR[:3], 2), r"layer 't': expected a direction of shape \[4\], got \[3\]"),
    "axis": (O.direction("t", VECTOR, 2, axis=4), "layer 't': expected a channel axis from 1 to 3, got 4"),
    "power": (O.direction("t", VECTOR, -1), "layer 't': expected a power of the cosine of 0 or more, got -1.0"),
    "nan": (O.caricature("t", IMAGES[:1], float("nan")), "expected a power of the cosine of 0 or more, got nan"),
    "position": (O.direction_neuron("t", VECTOR, 9, 0), "layer 't': expected y from 0 to 5, got 9"),
    "positions": (O.direction_neuron("t", VECTOR, 1), "layer 't': expected 2 numbers for a position, got 1"),
    "matching": (O.matching("t", IMAGES), r"layer 't': expected activations of shape \[3, 4, 6, 5\], got \[3, 3, 6, 5\]"),
    "caricature": (O.caricature("t", IMAGES, 1), r"layer 't': expected activations of shape \[3, 4, 6, 5\]"),
    "plain caricature": (O.caricature("t", IMAGES), r"layer 't': expected activations of shape \[3, 4, 6, 5\]"),
    "style": (O.style("t", IMAGES), r"layer 't': expected activations of shape \[1 or N, 4, \?, \?\], got \[3, 3, 6, 5\]"),
    "decay": (O.alignment("t", 0), "layer 't': expected a decay above 0, got 0.0"),
    "channel": (O.channel_interpolate("t", 1, "t", 4), "layer 't': expected channel from 0 to 3, got 4"),
    "penalty only": (O.l2() + O.l1(), "objective: expected at least one term on a layer"),
    "constant": (O.unit("y", 1) - O.l1(float("inf")), "objective, L1: expected constant to be a number that float32 holds"),
    "epsilon": (O.unit("y", 1) - O.l2(epsilon=0), "objective, L2: expected epsilon to be a positive number"),
    "width": (
        O.unit("y", 1) - O.boundary_complexity(0),
        "objective, BoundaryComplexity: expected width to be 1 or more, got 0",
    ),
    "schedule": (Linear(0, 1) * O.unit("y", 1), "objective, Unit: expected a scale that is a number outside an ascent"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_said(engine, name):
    objective, message = WRONG[name]
    with pytest.raises(InvalidObjective, match=message):
        engine.gradient("m", {"x": IMAGES}, objective)


def test_terms_of_their_own_have_a_limit(engine):
    many = sum((O.alignment("t") for _ in range(16)), start=O.unit("y", 1))
    for verb in (
        lambda o: engine.gradient("m", {"x": IMAGES}, o),
        lambda o: engine.hvp("m", {"x": IMAGES}, o, {"x": IMAGES}),
    ):
        with pytest.raises(
            TooLarge, match="expected at most 16 terms that are not linear or quadratic in their layer, got 17"
        ):
            verb(many + O.matching("t", EACH))


def test_gram_matrices_have_a_limit(engine, monkeypatch):
    monkeypatch.setattr(table, "MAX_GRAM_NUMBERS", 47)
    for objective in (1.5 * O.diversity("t"), O.style("t", IMAGES[:1, [0, 1, 2, 0]])):  # asked for the first time
        with pytest.raises(TooLarge, match="layer 't': expected at most 47 numbers in the Gram matrices .* got 3 of 4 x 4"):
            engine.gradient("m", {"x": IMAGES}, objective)


@pytest.mark.parametrize("number", [np.nan, np.inf, -3e38])
def test_penalties_of_numbers_that_are_none(engine, number):
    images = IMAGES.copy()
    images[1, 0, 2, 2] = number
    penalties = sum((case.objective for case in OF_THE_IMAGE), start=O.unit("y", 1))
    got = engine.gradient("m", {"x": images}, penalties - 3e38 * O.l1())
    assert not np.isfinite(got.values[1])
    alone = engine.gradient("m", {"x": images[:1]}, penalties)
    together = engine.gradient("m", {"x": images}, penalties)
    assert relative_error(together.gradients["x"][:1], alone.gradients["x"]) < TOLERANCE["another batch size"]


def test_penalties_are_of_one_input(engine):
    objective = O.layer("t") - O.l2()
    for wrt in (["t"], ["x", "h"]):
        with pytest.raises(InvalidObjective, match="objective, L2: expected wrt to be the one input it is of, got "):
            engine.gradient("m", {"x": IMAGES}, objective, wrt=wrt)
    with pytest.raises(InvalidObjective, match="objective, L2: expected terms on layers only in a Hessian-vector product"):
        engine.hvp("m", {"x": IMAGES}, objective, {"x": IMAGES})


# ---- other models ----------------------------------------------------------------------------------------------------

DOUBLE = """
t = Tanh(x)
r = Relu(x)
last = Transpose<perm = [0, 2, 3, 1]>(t)
axes = Constant<value_ints = [2, 3]>()
y = ReduceMean<keepdims = 0>(t, axes)
"""


@pytest.mark.torch
def test_terms_in_float64(tmp_path):
    import torch

    outputs = "double[N,4] y, double[N,4,6,5] r, double[N,6,5,4] last"
    model = build(DOUBLE, inputs="double[N,4,6,5] x", outputs=outputs, opset=18)
    x = torch.tensor(EACH, dtype=torch.float64, requires_grad=True)
    t = torch.tanh(x)
    layers = {"t": t, "r": torch.relu(x), "last": t.permute(0, 2, 3, 1), "y": t.mean((2, 3))}
    with Engine(save(model, tmp_path / "double.onnx")) as engine:
        for case in OF_LAYERS:
            values = case.formula(torch, layers)
            (expected,) = torch.autograd.grad(values.sum(), x, retain_graph=True)
            got = engine.gradient("double", {"x": EACH.astype(np.float64)}, case.objective)
            assert relative_error(got.values, values.detach().numpy()) < TOLERANCE["float64 network"], case.name
            assert relative_error(got.gradients["x"], expected.numpy()) < TOLERANCE["float64 network"], case.name


def test_a_layer_whose_axes_the_graph_does_not_tell(tmp_path):
    model = build(
        "s = Reshape(x, sizes) h = Tanh(s) z = Neg(h)",
        inputs="float[N,24] x, int64[k] sizes",
        outputs="float[N,?,?,?] z",
        opset=18,
    )
    x = np.random.default_rng(5).normal(size=(2, 24)).astype(np.float32)
    feeds = {"x": x, "sizes": np.array([2, 2, 3, 4])}
    vector = np.array([1.0, -2.0], np.float32)
    with Engine(save(model, tmp_path / "open.onnx")) as engine:
        got = engine.gradient("open", feeds, O.direction("h", vector, 1))
        h = np.tanh(x.astype(np.float64)).reshape(2, 2, 12)
        dot, length = np.einsum("ncp,c->np", h, vector), np.linalg.norm(h, axis=1) + 1e-4
        expected = (dot * np.maximum(0.1, dot / length / (np.linalg.norm(vector) + 1e-4))).mean(1)
        assert relative_error(got.values, expected) < TOLERANCE["float32 network"]
        with pytest.raises(InvalidObjective, match="layer 'h': expected a graph that tells .* to find axis 3"):
            engine.gradient("open", feeds, O.diversity("h", axis=3))


ONE_EACH = ("cotangent", "matching, one each", "caricature, power 1, one each")
"""Cases with a target for each of three samples."""


@pytest.mark.parametrize("case", [case for case in OF_LAYERS if case.name not in ONE_EACH], ids=lambda case: case.name)
def test_no_samples_are_no_crash(path, case):
    (head, *_) = heads(case.objective.terms)
    with Engine(path) as engine:
        if head.form not in ADDED:
            with pytest.raises(InvalidObjective, match=f"expected at least one sample for {head.form}, got none"):
                engine.gradient("m", {"x": IMAGES[:0]}, case.objective)
            return
        got = engine.gradient("m", {"x": IMAGES[:0]}, case.objective)
        assert (got.values.shape, got.gradients["x"].shape) == ((0,), (0, 3, 6, 5))
