"""Questions that a model was asked before: the same answer, and nothing of one request in another."""

import numpy as np
import pytest

from gradserve import objectives as O
from gradserve.errors import InvalidObjective
from gradserve_server import Engine
from gradserve_server.runtime.questions import MOST, MOST_BYTES

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def engine():
    with Engine("models/digits/1/model.onnx") as engine:
        yield engine


@pytest.fixture
def asked(engine):
    """Gradients of two samples, as arrays."""
    (model,) = engine.models()
    images = RNG.normal(size=(2, 1, 28, 28)).astype(np.float32)

    def ask(objective, count=2, wrt=()):
        (gradient,) = engine.gradient(model.name, {"image": images[:count]}, objective, wrt=wrt).gradients.values()
        return gradient

    return ask


@pytest.fixture
def kept(engine):
    """Those of the model."""
    (model,) = engine.models()
    return engine.model(model.name).questions._kept


def test_the_same_is_asked_once(asked, kept):
    first = asked(O.unit("logits", 3))
    before = len(kept)
    np.testing.assert_array_equal(asked(O.unit("logits", 3)), first)
    assert len(kept) == before


@pytest.mark.parametrize(
    "other",
    [
        O.unit("logits", 4),
        2 * O.unit("logits", 3),
        -O.unit("logits", 3),
        O.unit("logits", 3) + O.unit("logits", 5),
        O.channel("logits", 3) * 20,
        O.channel_energy("logits", 3),
        O.unit("logits", 3) - O.l2(),
    ],
)
def test_what_differs_is_another_question(asked, other):
    first = asked(O.unit("logits", 3))
    assert not np.array_equal(asked(other), first)
    np.testing.assert_array_equal(asked(O.unit("logits", 3)), first)


def test_another_number_of_samples_and_another_input_are_other_questions(asked):
    ends = O.channel_interpolate("logits", 1, "logits", 2)  # whose weights depend on how many there are
    two, one = asked(ends), asked(ends, count=1)
    assert two.shape[0] == 2
    np.testing.assert_allclose(one[0], two[0], rtol=1e-4, atol=1e-6)
    layer = asked(ends, wrt=["relu7"])
    assert layer.shape != two.shape


def test_arrays_may_change_between_requests(asked):
    array = np.zeros((1, 10), np.float32)
    objective = O.cotangent("logits", array)
    array[0, 3] = 1
    first = asked(objective)
    array[0, 3] = -1
    np.testing.assert_allclose(asked(objective), -first, rtol=1e-5, atol=1e-7)


def test_what_is_wrong_is_wrong_again(asked, kept):
    before = len(kept)
    for _ in range(2):
        with pytest.raises(InvalidObjective, match="logits"):
            asked(O.unit("logits", 99))
    assert len(kept) == before


def test_a_few_small_ones_are_kept(asked, kept):
    before = len(kept)
    asked(O.unit("relu1", 3))  # one number for each of 24 x 28 x 28
    assert len(kept) == before
    for index in range(MOST + 5):
        asked((1 + index) * O.unit("logits", 1))
    assert len(kept) == MOST
    sizes = [array.nbytes for question in kept.values() for array in question.fed.values()]
    assert max(sizes) <= MOST_BYTES
    assert not any(array.flags.writeable for question in kept.values() for array in question.fed.values())


def test_terms_of_other_kinds_with_the_same_numbers(asked):
    value = asked(O.channel("relu7", 3))
    energy = asked(O.channel_energy("relu7", 3))
    assert not np.allclose(energy, value)
    np.testing.assert_array_equal(asked(O.channel("relu7", 3)), value)


def test_a_gradient_and_a_product_with_the_hessian(engine):
    (model,) = engine.models()
    x, objective = RNG.normal(size=(1, 1, 28, 28)).astype(np.float32), O.channel_energy("relu7", 5)
    gradient = engine.gradient(model.name, {"image": x}, objective, wrt=["image"]).gradients["image"]
    hessian = engine.hvp(model.name, {"image": x}, objective, {"image": np.ones_like(x)})
    assert np.isfinite(hessian.products["image"]).all()
    np.testing.assert_allclose(hessian.gradients["image"], gradient, rtol=1e-3, atol=1e-5)
