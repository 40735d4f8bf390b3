"""Every optimizer's steps against torch's in float64, and the same bits on every SIMD target."""

import typing

import numpy as np
import pytest

from gradserve import GradientNormalization, optimizers
from gradserve.numbers import Linear
from gradserve.optimizers import Adam, AdamW, Momentum, NAdam, RmsProp, Sgd
from gradserve_server.kernels import Ascender, simd_targets
from gradserve_server.kernels.ascender import _RULES

CASES = [
    Sgd(0.3),
    Momentum(0.1),
    Momentum(0.1, 0.5, nesterov=True),
    RmsProp(),
    RmsProp(0.1, 0.9, 1e-3),
    Adam(),
    Adam(0.2, 0.5, 0.9, 1e-3),
    AdamW(0.1, weight_decay=0.2),
    NAdam(),
    NAdam(0.5, 0.7, 0.95, 1e-4, 0.1),
]
STEPS = 40
SHAPE = (2, 3, 8, 33)

# Relative to the largest move: about ten roundings in each step, and steps add up.
MOVE = 4e-6 * STEPS


def test_every_optimizer_has_a_rule_and_a_case():
    assert set(typing.get_args(optimizers.Optimizer)) == set(_RULES) == {type(case) for case in CASES}


def gradients():
    rng = np.random.default_rng(1)
    return [(rng.standard_normal(SHAPE) * 10.0 ** rng.uniform(-3, 1, SHAPE)).astype(np.float32) for _ in range(STEPS)]


def start():
    return np.random.default_rng(2).standard_normal(SHAPE).astype(np.float32)


def ascend(rule, rates=None, **options):
    ascender = Ascender(SHAPE[1:], rule=rule, **options)
    image, state = start(), ascender.new_state(SHAPE[0])
    for gradient, rate in zip(gradients(), rates or [None] * STEPS, strict=True):
        ascender.step(image, gradient, None, state, rate)
    return image


def torchs(torch, rule, parameters):
    match rule:
        case Sgd():
            return torch.optim.SGD(parameters, rule.learning_rate, maximize=True)
        case Momentum():
            return torch.optim.SGD(parameters, rule.learning_rate, rule.momentum, nesterov=rule.nesterov, maximize=True)
        case RmsProp():
            return torch.optim.RMSprop(parameters, rule.learning_rate, rule.decay, rule.epsilon, maximize=True)
        case AdamW():
            betas = rule.beta1, rule.beta2
            return torch.optim.AdamW(parameters, rule.learning_rate, betas, rule.epsilon, rule.weight_decay, maximize=True)
        case Adam():
            return torch.optim.Adam(parameters, rule.learning_rate, (rule.beta1, rule.beta2), rule.epsilon, maximize=True)
        case NAdam():
            betas = rule.beta1, rule.beta2
            return torch.optim.NAdam(
                parameters, rule.learning_rate, betas, rule.epsilon, momentum_decay=rule.momentum_decay, maximize=True
            )


@pytest.mark.torch
@pytest.mark.parametrize("rule", CASES, ids=str)
@pytest.mark.parametrize("scheduled", [False, True])
def test_steps_are_torchs(rule, scheduled):
    import torch

    x = torch.tensor(start(), dtype=torch.float64, requires_grad=True)
    optimizer = torchs(torch, rule, [x])
    rates = [rule.learning_rate * (1 - index / STEPS) for index in range(STEPS)] if scheduled else None
    for index, gradient in enumerate(gradients()):
        if rates:
            optimizer.param_groups[0]["lr"] = rates[index]
        x.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    expected = x.detach().numpy()
    np.testing.assert_allclose(ascend(rule, rates), expected, rtol=0, atol=MOVE * np.abs(expected - start()).max())


@pytest.mark.parametrize("rule", CASES, ids=str)
def test_same_bits_on_every_target(rule):
    options = {"normalization": GradientNormalization.STD, "weight_decay": 0.0 if isinstance(rule, AdamW) else 0.1}
    images = {ascend(rule, simd=simd, threads=threads, **options).tobytes() for simd in simd_targets() for threads in (1, 3)}
    assert len(images) == 1


def test_epsilon_hat_is_added_before_the_correction():
    image = np.zeros((1, 1, 1, 1), np.float32)
    ascender = Ascender((1, 1, 1), rule=Adam(1.0, epsilon=1e-4, epsilon_hat=True))
    ascender.step(image, np.full_like(image, 1e-3), None, ascender.new_state(1))
    root = np.sqrt(1 - 0.999)
    np.testing.assert_allclose(image, root * 1e-3 / (root * 1e-3 + 1e-4), rtol=1e-5)


def test_adamws_decay_pulls_to_the_mean():
    image = np.zeros((1, 1, 1, 2), np.float32)
    ascender = Ascender((1, 1, 2), rule=AdamW(0.5, weight_decay=0.5), mean=4.0)
    ascender.step(image, np.zeros_like(image), None, ascender.new_state(1))
    np.testing.assert_array_equal(image, 1.0)
    with pytest.raises(ValueError, match="weight_decay: expected 0, because AdamW has its own, got 0.1"):
        Ascender((1, 1, 2), rule=AdamW(), weight_decay=0.1)


def test_a_rate_that_changes_has_to_be_given():
    ascender = Ascender((1, 1, 2), rule=Sgd(Linear(1.0, 0.0)))
    image = np.zeros((1, 1, 1, 2), np.float32)
    with pytest.raises(ValueError, match="learning_rate: expected a number that is finite in float32, got Linear"):
        ascender.step(image, image.copy(), None, ascender.new_state(1))
    ascender.step(image, np.ones_like(image), None, ascender.new_state(1), 1.0)
    np.testing.assert_array_equal(image, 1.0)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Momentum(0.1, 1.0), r"momentum: expected a number in \[0, 1\), got 1.0"),
        (RmsProp(decay=-0.1), r"decay: expected a number in \[0, 1\), got -0.1"),
        (RmsProp(epsilon=0.0), "epsilon: expected a number that is positive and finite in float32, got 0.0"),
        (NAdam(momentum_decay=-1.0), "momentum_decay: expected a finite number of 0 or more, got -1.0"),
        (AdamW(weight_decay=float("nan")), "weight_decay: expected a finite number of 0 or more, got nan"),
    ],
)
def test_what_no_optimizer_can_be(rule, message):
    with pytest.raises(ValueError, match=message):
        Ascender((1, 1, 2), rule=rule)


def test_other_things_are_no_optimizer():
    with pytest.raises(TypeError, match="rule: expected one of Sgd, Momentum, RmsProp, Adam, AdamW, NAdam, got str"):
        Ascender((1, 1, 2), rule="adam")
