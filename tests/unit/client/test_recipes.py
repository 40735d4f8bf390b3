"""What recipes ask of whoever does the work."""

from collections.abc import Callable

import numpy as np
import pytest

from gradserve import Step, StopReason, TensorDescription
from gradserve import objectives as O
from gradserve.recipes import Dream, caricature, deepdream, inversion

OPEN = TensorDescription("image", "float32", ("N", 3, "H", "W"))
PHOTOGRAPH = np.zeros((3, 8, 12), np.float32)


class Asked:
    """Remembers what it was asked, and answers at once."""

    def __init__(self, reason: Callable[[int], StopReason] = lambda _: StopReason.FINISHED):
        self.reason = reason
        self.ascents, self.activated = [], []

    def ascend(self, model, objective, **settings):  # noqa: ARG002
        self.ascents.append(settings)
        image = settings["start"][None]
        yield Step(settings["steps"], np.zeros(1), np.zeros(1), image, self.reason(len(self.ascents)))

    def activations(self, model, inputs, layers, *, version=""):  # noqa: ARG002
        self.activated.append((inputs, version))
        return {layer: np.ones((1, 2), np.float32) for layer in layers}


def dreamt(verbs: Asked, dream: Dream) -> list[Step]:
    return list(deepdream(verbs, "net", O.layer("y"), PHOTOGRAPH, OPEN, dream=dream))


@pytest.mark.parametrize(("seed", "seeds"), [(5, [5, 6, 7]), (2**64 - 1, [2**64 - 1, 0, 1])])
def test_each_octave_of_a_dream_draws_other_shifts(seed, seeds):
    verbs = Asked()
    dreamt(verbs, Dream(octaves=3, scale=2.0, jitter=0, seed=seed))
    assert [ascent["seed"] for ascent in verbs.ascents] == seeds


def test_shifts_are_no_larger_than_the_octave():
    verbs = Asked()
    dreamt(verbs, Dream(octaves=3, scale=2.0, jitter=5))
    assert [ascent["start"].shape for ascent in verbs.ascents] == [(3, 2, 3), (3, 4, 6), (3, 8, 12)]
    assert [ascent["jitter"] for ascent in verbs.ascents] == [1, 3, 5]


def test_a_dream_that_is_interrupted_ends_there_at_the_size_of_the_photograph():
    verbs = Asked(lambda octave: StopReason.INTERRUPTED if octave == 2 else StopReason.FINISHED)
    (last,) = dreamt(verbs, Dream(octaves=3, scale=2.0))
    assert len(verbs.ascents) == 2
    assert (last.index, last.stop_reason, last.image.shape) == (20, StopReason.INTERRUPTED, (1, *PHOTOGRAPH.shape))


@pytest.mark.parametrize("recipe", [inversion, caricature])
def test_a_target_is_of_the_version_and_beside_the_inputs_that_are_asked_for(recipe):
    verbs, other = Asked(), np.ones(1)
    run = recipe(verbs, "net", "y", PHOTOGRAPH, OPEN, settings={"version": "2", "inputs": {"other": other}, "steps": 3})
    ((inputs, version),) = verbs.activated
    assert (version, inputs["other"], inputs["image"].shape) == ("2", other, (1, *PHOTOGRAPH.shape))
    assert run.settings["steps"] == 3
