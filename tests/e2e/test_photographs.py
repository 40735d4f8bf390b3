"""Inversion and caricature: recipes, and the commands `invert` and `caricature`."""

import json

import numpy as np
import pytest
from PIL import Image
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import Noise, TensorDescription, images
from gradserve import objectives as O
from gradserve.cli import main
from gradserve.errors import InvalidObjective
from gradserve.fidelity import evaluate
from gradserve.numbers import Linear
from gradserve.parameterizations import Fourier
from gradserve.recipes import caricature, inversion

DIGITS = str(MODELS / "digits")


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """A seven, drawn in two strokes."""
    levels = np.zeros((28, 28), np.uint8)
    levels[5:8, 7:21] = 255
    for row in range(8, 24):
        column = 20 - (row - 8) // 2
        levels[row, column - 3 : column] = 255
    path = tmp_path_factory.mktemp("photo") / "seven.png"
    Image.fromarray(levels).save(path)
    return path


@pytest.fixture(scope="module")
def photograph(engine, seven):
    return images.load(seven, engine.inspect("digits").input("image").image)


def climbed(engine, run):
    for step in engine.ascend("digits", run.objective, **run.settings):
        run.take(step)
    return run


@pytest.fixture(scope="module")
def settings():
    return {"parameterization": Fourier(colours=()), "start": Noise(0.01), "steps": 200, "report_every": 50}


def test_inversion_is_the_loss_of_mahendran_and_vedaldi(engine, photograph):
    """Checked by hand on the image it ends with; near 0, an early layer gives the photograph back."""
    tensor = engine.inspect("digits").input("image")
    run = climbed(engine, inversion(engine, "digits", "relu2", photograph, tensor, settings={"steps": 200}))

    def activations(pixels):
        return engine.activations("digits", {"image": tensor.image.normalize(pixels)}, ["relu2"])["relu2"].astype(np.float64)

    target, made = activations(photograph[None]), activations(run.pixels)
    by_hand = -((made - target) ** 2).mean() / (target**2).mean()
    assert run.last.value == pytest.approx(by_hand, abs=TOLERANCE["float32 network"])
    assert run.history[0].value < -0.5
    assert run.last.value > -1e-3
    assert np.corrcoef(run.pixels.ravel(), photograph.ravel())[0, 1] > 0.99


def test_the_photograph_itself_is_worth_0_inverted_and_1_as_a_caricature(engine, photograph):
    tensor = engine.inspect("digits").input("image")
    for recipe, worth in ((inversion, 0.0), (caricature, 1.0)):
        run = recipe(engine, "digits", "relu5", photograph, tensor)
        (value,) = evaluate(engine, "digits", run.objective, photograph[None], {})
        assert value == pytest.approx(worth, abs=TOLERANCE["float32 network"])


def test_total_variation_is_subtracted(engine, photograph, settings):
    tensor = engine.inspect("digits").input("image")
    rough, smooth = (
        climbed(engine, inversion(engine, "digits", "relu5", photograph, tensor, total_variation=weight, settings=settings))
        for weight in (0.0, 0.01)
    )
    assert variation(smooth.pixels) < 0.8 * variation(rough.pixels)
    (value,) = evaluate(engine, "digits", smooth.objective, smooth.pixels, {})
    assert value == pytest.approx(smooth.last.value, rel=TOLERANCE["float32 network"])


@pytest.mark.parametrize(("start", "end"), [(0.1, 0.001), (0.1, 0.0)])
def test_scales_that_change_have_their_last_value(engine, photograph, start, end):
    """A term whose scale ends at 0 is gone: a scale of 0 is none."""
    logit, rough = O.unit("logits", 7), O.total_variation()
    (value,) = evaluate(engine, "digits", logit - Linear(start, end) * rough, photograph[None], {})
    (expected,) = evaluate(engine, "digits", logit, photograph[None], {})
    assert value == pytest.approx(expected - end * variation(photograph), rel=TOLERANCE["float32 network"])


def variation(pixels) -> float:
    return float(np.abs(np.diff(pixels, axis=-1)).sum() + np.abs(np.diff(pixels, axis=-2)).sum())


def test_a_caricature_exaggerates(engine, photograph, settings):
    tensor = engine.inspect("digits").input("image")
    run = climbed(engine, caricature(engine, "digits", "relu5", photograph, tensor, settings=settings))
    assert run.history[0].value < 0.5
    assert run.last.value > 1.2, "more than the photograph's own, which is 1"


def test_a_layer_that_has_nothing_of_the_photograph_is_an_error(photograph):
    class Blind:
        def activations(self, _model, _inputs, layers, **_version):
            return {layers[0]: np.zeros((1, 3), np.float32)}

    tensor = TensorDescription("image", "float32", ("N", 1, 28, 28))
    for recipe in (inversion, caricature):
        with pytest.raises(InvalidObjective, match="layer 'y': expected activations of the photograph other than 0"):
            recipe(Blind(), "digits", "y", photograph, tensor)


@pytest.mark.parametrize(
    ("command", "extra"), [("invert", ["--total-variation", "0.001"]), ("caricature", ["--cosine-power", "2"])]
)
def test_the_commands(tmp_path, capsys, seven, command, extra):
    files = ["-o", str(tmp_path / "a.png"), str(tmp_path / "a.npy"), "--record", str(tmp_path / "run.json")]
    arguments = [command, DIGITS, "--layers", "relu2", "relu5", "--image", str(seven), "--steps", "40", "--json"]
    assert main([*arguments, *extra, *files]) == 0
    both = json.loads(capsys.readouterr().out)["images"]
    assert [image["value"] > image["first_value"] for image in both] == [True, True]
    assert [image["as_png"] == pytest.approx(image["value"], rel=0.05, abs=0.01) for image in both] == [True, True]
    # The record has the target: no photograph is needed again.
    assert main(["ascend", "--from-record", str(tmp_path / "run.json"), "-o", str(tmp_path / "b.npy")]) == 0
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()
    assert relative_error(np.load(tmp_path / "b.npy"), np.load(tmp_path / "a.npy")) == 0
