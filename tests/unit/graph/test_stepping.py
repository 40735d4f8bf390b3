"""What stands around the model in an ascent, as graphs: against the same formulas in float64, and against the kernels."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from support.kernel_reference import NORMALIZE, roll
from support.tolerances import TOLERANCE

from gradserve import GradientNormalization
from gradserve.optimizers import Adam, AdamW, Momentum, NAdam, Optimizer, RmsProp, Sgd
from gradserve.projections import L2Ball, LInfBall, Projection
from gradserve_server.ascent.projection import Ball
from gradserve_server.graph import stepping as S
from gradserve_server.kernels import Ascender, Layout
from gradserve_server.runtime.session import Session

SHAPE = COUNT, *PLANAR = 2, 3, 5, 7
RULES = {
    "sgd": Sgd(0.1),
    "momentum": Momentum(0.1),
    "nesterov": Momentum(0.1, nesterov=True),
    "rmsprop": RmsProp(),
    "adam": Adam(0.05),
    "epsilon hat": Adam(0.05, epsilon=1e-2, epsilon_hat=True),
    "adamw": AdamW(0.05, weight_decay=0.2),
    "nadam": NAdam(0.05),
}
STEPS = 4


class Stepped:
    """An ascent's state, and the graphs that change it."""

    def __init__(
        self,
        rule=RULES["adam"],
        layout="NCHW",
        normalization="none",
        *,
        decay=0.0,
        bounds=(-1.0, 1.0),
        ball=None,
        rolls=True,
    ):
        rng = np.random.default_rng(0)
        self.mean = rng.normal(size=3).astype(np.float32)
        self.scale = np.array([0.5, -1.5, 2.0], np.float32)
        channels, height, width = PLANAR
        self.form = S.StepForm(
            planar_shape=tuple(PLANAR),
            model_shape=(channels, height, width) if layout == "NCHW" else (height, width, channels),
            layout=layout,
            mean=tuple(self.mean.tolist()),
            scale=tuple(self.scale.tolist()),
            optimizer=type(rule),
            normalization=GradientNormalization(normalization),
            rolls=rolls,
            decays=decay > 0 or isinstance(rule, AdamW),
            bounds=bounds,
            projection=type(ball) if ball else None,
            radius=ball.radius if ball else 0.0,
        )
        self.before, self.after, self.merge = (Session(make(self.form), 1) for make in (S.before, S.after, S.merge))
        low, high = bounds or (-math.inf, math.inf)
        common = {"rule": rule, "mean": self.mean, "scale": self.scale, "layout": Layout(layout), "weight_decay": decay}
        self.ascender = Ascender(tuple(PLANAR), normalization=normalization, low=low, high=high, **common)
        self.start = np.clip(rng.normal(size=SHAPE), -1, 1).astype(np.float32)
        self.state = {name: self.start if name == S.IMAGE else np.zeros_like(self.start) for name in self.form.state}
        self.more = {}
        self.taken = 0

    def rolled(self, offsets, sign=1):
        return S.places(sign * offsets, self.form.planar_shape) if self.form.rolls else {}

    def shown(self, offsets):
        return self.before.run({S.IMAGE: self.state[S.IMAGE], **self.rolled(offsets)})[S.BATCH]

    def step(self, gradient, offsets):
        """Returns the lengths of gradients."""
        numbers = {S.RULE: self.ascender.rule(self.taken), **self.rolled(offsets, -1), **self.more}
        results = self.after.run({S.GRADIENT: gradient, **self.state, **numbers})
        self.state = {name: results[f"{S.NEW}{name}"] for name in self.form.state}
        self.taken += 1
        return results[S.LARGEST].astype(np.float64) * results[S.LENGTH]


def draws(form, seed=1):
    """Offsets and gradients, one pair for each step."""
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield rng.integers(-9, 10, (COUNT, 2), np.int32), rng.normal(size=(COUNT, *form.model_shape)).astype(np.float32)


def test_every_setting_has_a_graph_and_a_case():
    assert S._OPTIMIZERS.keys() == set(get_args(Optimizer)) == {type(rule) for rule in RULES.values()}
    assert S._BALLS.keys() == set(get_args(Projection))
    other = {GradientNormalization.NONE, GradientNormalization.SIGN, GradientNormalization.MIN_MAX}
    assert S._STATISTICS.keys() | other == set(GradientNormalization) == set(NORMALIZE)


@pytest.mark.parametrize("normalization", GradientNormalization)
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", RULES)
def test_steps_are_those_of_the_kernels(name, layout, normalization):
    decay = 0.0 if isinstance(RULES[name], AdamW) else 0.1
    graphs = Stepped(RULES[name], layout, normalization, decay=decay)
    image, memory = graphs.start.copy(), graphs.ascender.new_state(COUNT)
    batch = np.empty((COUNT, *graphs.form.model_shape), np.float32)
    for offsets, gradient in draws(graphs.form):
        graphs.ascender.prepare(image, offsets, batch)
        close(graphs.shown(offsets), batch)
        norms = graphs.ascender.step(image, gradient, offsets, memory)
        np.testing.assert_allclose(graphs.step(gradient, offsets), norms, rtol=TOLERANCE["float32 operator"])
        close(graphs.state[S.IMAGE], image)
        for moment, array in memory.arrays().items():
            close(graphs.state[moment], array)


def close(got, expected):
    assert np.abs(got - expected).max() <= TOLERANCE["float32 operator"] * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("normalization", GradientNormalization)
def test_a_step_is_its_formula_in_float64(normalization):
    graphs = Stepped(Sgd(0.1), normalization=normalization, decay=0.1)
    (offsets, gradient), *_ = draws(graphs.form)
    mean, scale = (x.astype(np.float64).reshape(-1, 1, 1) for x in (graphs.mean, graphs.scale))
    close(graphs.shown(offsets), roll((graphs.start - mean) * scale, offsets, 1))
    slope = roll(gradient.astype(np.float64), offsets, -1) * scale
    moved = graphs.start + 0.1 * np.stack([NORMALIZE[normalization](d) for d in slope])
    norms = graphs.step(gradient, offsets)
    np.testing.assert_allclose(norms, np.sqrt(np.square(slope).sum(axis=(1, 2, 3))), rtol=TOLERANCE["float32 operator"])
    close(graphs.state[S.IMAGE], np.clip(mean + 0.9 * (moved - mean), -1, 1))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("normalization", GradientNormalization)
@pytest.mark.parametrize("name", RULES)
def test_an_image_whose_gradient_is_not_finite_stays_alone(name, normalization, broken):
    graphs = Stepped(RULES[name], normalization=normalization)
    (offsets, gradient), (_, other), *_ = draws(graphs.form)
    graphs.step(other, offsets)
    old = graphs.state
    gradient[1, 0, 0, 0] = broken
    norms = graphs.step(gradient, offsets)
    assert np.isfinite(norms).tolist() == [True, False]
    for part, array in graphs.state.items():
        np.testing.assert_array_equal(array[1], old[part][1])
        assert np.isfinite(array).all()
        assert (array[0] != old[part][0]).any()


@pytest.mark.parametrize("size", [1e30, 1e-33])
@pytest.mark.parametrize("normalization", [kind for kind in GradientNormalization if kind is not GradientNormalization.NONE])
def test_squares_of_huge_and_of_tiny_gradients_neither_overflow_nor_vanish(normalization, size):
    ordinary, extreme = (Stepped(Sgd(0.1), normalization=normalization) for _ in range(2))
    (offsets, gradient), *_ = draws(ordinary.form)
    norms = ordinary.step(gradient, offsets)
    got = extreme.step((gradient * np.float64(size)).astype(np.float32), offsets)
    np.testing.assert_allclose(got / size, norms, rtol=TOLERANCE["float32 operator"])
    close(extreme.state[S.IMAGE], ordinary.state[S.IMAGE])


def test_a_gradient_longer_than_float32_holds_is_no_step_without_normalization():
    graphs = Stepped(Sgd(0.01), bounds=(-math.inf, math.inf))
    (offsets, gradient), *_ = draws(graphs.form)
    gradient[0] = 1e38
    graphs.step(gradient, offsets)
    np.testing.assert_array_equal(graphs.state[S.IMAGE][0], graphs.start[0])
    assert (graphs.state[S.IMAGE][1] != graphs.start[1]).any()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("normalization", GradientNormalization)
def test_a_gradient_of_zeros_moves_nothing(name, normalization):
    graphs = Stepped(RULES[name], normalization=normalization, rolls=False)
    mean = graphs.mean.reshape(-1, 1, 1)
    graphs.state[S.IMAGE] = np.broadcast_to(mean, SHAPE).astype(np.float32).clip(-1, 1)  # weight decay leaves it, too
    before = graphs.state[S.IMAGE]
    norms = graphs.step(np.zeros((COUNT, *graphs.form.model_shape), np.float32), None)
    assert norms.tolist() == [0, 0]
    close(graphs.state[S.IMAGE], before)


@pytest.mark.parametrize("normalization", [GradientNormalization.STD, GradientNormalization.MIN_MAX])
@pytest.mark.parametrize("value", [0.1, -3.0])
def test_a_gradient_that_is_the_same_everywhere_has_no_deviation(normalization, value):
    shape = (3, 51, 83)
    form = replace(Stepped().form, planar_shape=shape, model_shape=shape, mean=(0.0,), scale=(1.0,), optimizer=Sgd)
    form = replace(form, normalization=normalization, rolls=False)
    image = np.random.default_rng(6).uniform(-1, 1, (1, *shape)).astype(np.float32)
    rule = Ascender(shape, rule=Sgd(0.1)).rule(0)
    gradient = np.full_like(image, value)
    results = Session(S.after(form), 1).run({S.GRADIENT: gradient, S.IMAGE: image, S.RULE: rule})
    np.testing.assert_array_equal(results[f"{S.NEW}{S.IMAGE}"], image)


@pytest.mark.parametrize("bounds", [(0.0, math.inf), (-math.inf, 0.5), (-math.inf, math.inf)])
def test_bounds_may_be_on_one_side(bounds):
    graphs = Stepped(Sgd(1.0), bounds=bounds, rolls=False)
    (_, gradient), *_ = draws(graphs.form)
    graphs.step(gradient, None)
    close(graphs.state[S.IMAGE], np.clip(graphs.start + gradient * graphs.scale.reshape(-1, 1, 1), *bounds))


@pytest.mark.parametrize("ball", [LInfBall(0.05), L2Ball(0.3)], ids=lambda ball: type(ball).__name__)
def test_a_move_within_the_ball_is_made(ball):
    graphs = Stepped(Sgd(1e-3), ball=ball, rolls=False)
    graphs.more = {S.CENTRE: graphs.start}
    (_, gradient), *_ = draws(graphs.form)
    graphs.step(gradient, None)
    close(graphs.state[S.IMAGE], np.clip(graphs.start + 1e-3 * gradient * graphs.scale.reshape(-1, 1, 1), -1, 1))
    assert (graphs.state[S.IMAGE] != graphs.start).any()


@pytest.mark.parametrize("ball", [LInfBall(0.05), L2Ball(0.3)], ids=lambda ball: type(ball).__name__)
def test_images_stay_in_their_ball(ball):
    graphs = Stepped(Sgd(0.5), ball=ball)
    centre = graphs.start
    graphs.more = {S.CENTRE: centre}
    touched = False
    for offsets, gradient in draws(graphs.form):
        image, slope = graphs.state[S.IMAGE].astype(np.float64), roll(gradient, offsets, -1) * graphs.scale.reshape(-1, 1, 1)
        offset = image + 0.5 * slope - centre
        length = np.sqrt(np.square(offset).sum(axis=(1, 2, 3), keepdims=True))
        inside = np.clip(offset, -0.05, 0.05) if isinstance(ball, LInfBall) else offset * np.minimum(ball.radius / length, 1)
        graphs.step(gradient, offsets)
        close(graphs.state[S.IMAGE], np.clip(centre + inside, -1, 1))
        touched |= bool((np.abs(inside - offset) > 0).any())
    assert touched


def test_a_move_whose_square_overflows_ends_on_the_ball_not_in_its_middle():
    graphs = Stepped(Sgd(1.0), bounds=(-math.inf, math.inf), ball=L2Ball(2.0), rolls=False)
    graphs.more = {S.CENTRE: graphs.start}
    gradient = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32) * np.float32(1e25)
    graphs.step(gradient, None)
    slope = gradient.astype(np.float64) * graphs.scale.reshape(-1, 1, 1)
    away = slope / np.sqrt(np.square(slope).sum(axis=(1, 2, 3), keepdims=True))
    close(graphs.state[S.IMAGE], graphs.start + 2 * away)


def test_sums_over_large_images_lose_no_digits():
    """A checkpoint of an image that lay outside its ball would not be taken again."""
    size, radius = 1024, 100.0
    shape = (3, size, size)
    form = S.StepForm(
        planar_shape=shape,
        model_shape=shape,
        layout="NCHW",
        mean=(0.0,),
        scale=(1.0,),
        optimizer=Sgd,
        normalization=GradientNormalization.L2,
        rolls=False,
        decays=False,
        bounds=(-math.inf, math.inf),
        projection=L2Ball,
        radius=radius,
    )
    rng = np.random.default_rng(5)
    gradient, centre = (rng.uniform(size=(1, *shape)).astype(np.float32) for _ in range(2))
    rule = Ascender(shape, rule=Sgd(2 * radius)).rule(0)
    feeds = {S.GRADIENT: gradient, S.IMAGE: centre, S.CENTRE: centre, S.RULE: rule}
    results = Session(S.after(form), 1).run(feeds)
    length = np.linalg.norm(gradient.astype(np.float64))
    norm = float(results[S.LARGEST][0]) * float(results[S.LENGTH][0])
    assert abs(norm / length - 1) < TOLERANCE["float32 operator"]
    image = results[f"{S.NEW}{S.IMAGE}"]
    assert abs(np.linalg.norm(image.astype(np.float64) - centre) / radius - 1) < TOLERANCE["float32 operator"]
    assert Ball(L2Ball(radius), centre, (-math.inf, math.inf)).holds(image)


def test_bounds_may_be_arrays():
    graphs = Stepped(Sgd(5.0), bounds=None)
    rng = np.random.default_rng(2)
    low = rng.uniform(-1, 0, PLANAR).astype(np.float32)
    graphs.more = {S.LOW: low, S.HIGH: low + np.float32(0.5)}
    (offsets, gradient), *_ = draws(graphs.form)
    graphs.step(gradient, offsets)
    moved = graphs.start + 5.0 * roll(gradient, offsets, -1) * graphs.scale.reshape(-1, 1, 1)
    close(graphs.state[S.IMAGE], np.clip(moved, low, low + np.float32(0.5)))


def test_those_held_keep_their_old_state():
    graphs = Stepped()
    rng = np.random.default_rng(3)
    old, new = ({name: rng.normal(size=SHAPE).astype(np.float32) for name in graphs.form.state} for _ in range(2))
    feeds = {f"{which}{name}": state[name] for which, state in ((S.OLD, old), (S.NEW, new)) for name in state}
    kept = graphs.merge.run({S.HELD: np.array([True, False]).reshape(-1, 1, 1, 1), **feeds})
    for name, array in kept.items():
        np.testing.assert_array_equal(array[0], old[name][0])
        np.testing.assert_array_equal(array[1], new[name][1])


@pytest.mark.parametrize("make", [S.before, S.after, S.merge])
def test_no_shape_is_computed_while_it_runs(make):
    """A provider runs such nodes on the processor, and waits for it."""
    nodes = {node.op_type for node in make(Stepped(layout="NHWC").form).graph}
    assert not nodes & {"Shape", "Size", "Gather", "Concat", "ConstantOfShape", "Range"}
