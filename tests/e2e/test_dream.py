"""DeepDream: against google/deepdream's own loop, written here in NumPy; and as a command."""

import json

import numpy as np
import pytest
from PIL import Image
from support.onnx_models import build, random, save
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve.cli import main
from gradserve.errors import InvalidAscent
from gradserve.recipes import Dream, deepdream
from gradserve.recipes.deepdream import resized
from gradserve_server import Engine

DESCRIBED = {"image.preprocessing": "caffe"}
MEAN = np.array([103.939, 116.779, 123.68], np.float32).reshape(3, 1, 1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Two convolutions on images of any size."""
    model = build(
        "c = Conv<pads = [1, 1, 1, 1]>(image, W1) r = Relu(c) d = Conv<pads = [1, 1, 1, 1]>(r, W2) y = Relu(d)",
        inputs="float[N,3,H,W] image",
        outputs="float[N,6,H,W] y",
        weights={"W1": random(8, 3, 3, 3, seed=1) / 5, "W2": random(6, 8, 3, 3, seed=2) / 5},
    )
    with Engine(save(model, tmp_path_factory.mktemp("dream") / "net.onnx"), images=DESCRIBED) as made:
        yield made


@pytest.mark.parametrize(("old", "new"), [(7, 7), (5, 9), (9, 5), (2, 3), (1, 4), (4, 1), (40, 57)])
def test_sizes_change_as_scipy_zooms(old, new):
    ndimage = pytest.importorskip("scipy.ndimage")
    array = random(2, old, 3)
    np.testing.assert_allclose(resized(array, 1, new), ndimage.zoom(array, (1, new / old, 1), order=1), atol=1e-6)


def googles(engine, photograph: np.ndarray, dream: Dream) -> np.ndarray:
    """dream.ipynb, line by line but without jitter: pixels are levels of BGR, the mean taken away."""
    ndimage = pytest.importorskip("scipy.ndimage")
    octaves = [photograph - MEAN]
    for _ in range(dream.octaves - 1):
        octaves.append(ndimage.zoom(octaves[-1], (1, 1.0 / dream.scale, 1.0 / dream.scale), order=1))
    detail = np.zeros_like(octaves[-1])
    for octave, base in enumerate(octaves[::-1]):
        height, width = base.shape[-2:]
        if octave > 0:
            detail = ndimage.zoom(detail, (1, height / detail.shape[1], width / detail.shape[2]), order=1)
        source = np.clip(base + detail, -MEAN, 255 - MEAN)
        for _ in range(dream.steps):
            g = engine.gradient("net", {"image": source[None]}, O.layer("y")).gradients["image"][0]
            source = np.clip(source + dream.step / np.abs(g).mean() * g, -MEAN, 255 - MEAN).astype(np.float32)
        detail = source - base
    return source + MEAN


def test_it_is_googles_loop(engine):
    photograph = np.random.default_rng(0).uniform(40, 200, (3, 37, 52)).astype(np.float32)
    dream = Dream(octaves=3, steps=4, jitter=0)
    tensor = engine.inspect("net").input("image")
    reports = list(deepdream(engine, "net", O.layer("y"), photograph, tensor, dream=dream))
    made = reports[-1].image[0]
    expected = googles(engine, photograph, dream)
    assert np.abs(made - photograph).max() > 10
    assert relative_error(made - photograph, expected - photograph) < TOLERANCE["steps with another batch size"]
    assert [report.index for report in reports] == list(range(13))
    assert [report.stop_reason is not None for report in reports] == [False] * 12 + [True]


def test_jitter_is_undone_and_seeded(engine):
    """The photograph's own structure stays where it is: what is added to it is near nothing on its flat half."""
    photograph = np.full((3, 64, 64), 120, np.float32)
    photograph[:, :, 40:] = np.random.default_rng(1).uniform(0, 255, (3, 64, 24))
    tensor = engine.inspect("net").input("image")

    def dreamt(seed: int) -> np.ndarray:
        dream = Dream(octaves=2, steps=3, seed=seed)
        *_, last = deepdream(engine, "net", O.layer("y"), photograph, tensor, dream=dream)
        return last.image[0]

    first, again, other = dreamt(1), dreamt(1), dreamt(2)
    assert first.tobytes() == again.tobytes() != other.tobytes()
    kept = np.corrcoef(first[:, :, 44:].ravel(), photograph[:, :, 44:].ravel())[0, 1]
    assert kept > 0.9


def test_images_on_the_way_have_the_size_of_the_photograph(engine):
    photograph = np.full((3, 30, 40), 100, np.float32) + random(3, 30, 40)
    tensor = engine.inspect("net").input("image")
    dream = Dream(octaves=3, steps=4, jitter=2)
    reports = list(deepdream(engine, "net", O.layer("y"), photograph, tensor, dream=dream, every=2))
    frames = {report.index: report.image.shape for report in reports if report.image is not None}
    assert set(frames) == {0, 2, 4, 6, 8, 10, 12}
    assert set(frames.values()) == {(1, 3, 30, 40)}


@pytest.mark.parametrize(
    ("dream", "complaint"),
    [(Dream(octaves=0), "octaves of 1"), (Dream(scale=1.0), "scale above 1"), (Dream(octaves=30), "2 x 2 pixels or more")],
)
def test_what_is_no_dream_is_refused(engine, dream, complaint):
    photograph, tensor = np.zeros((3, 16, 16), np.float32), engine.inspect("net").input("image")
    with pytest.raises(InvalidAscent, match=complaint):
        list(deepdream(engine, "net", O.layer("y"), photograph, tensor, dream=dream))


def test_the_command_dreams_on_a_model_of_fixed_size(tmp_path, capsys):
    levels = np.random.default_rng(2).integers(0, 256, (60, 90), np.uint8)
    Image.fromarray(levels).save(tmp_path / "photo.png")
    common = [
        "dream",
        str(MODELS / "digits"),
        "--objective",
        "relu5",
        "--image",
        str(tmp_path / "photo.png"),
        "--size",
        "45",
    ]
    files = [str(tmp_path / "a.png"), str(tmp_path / "a.gif"), str(tmp_path / "a.npy")]
    assert main([*common, "--size", "45", "--octaves", "2", "--steps", "6", "--jitter", "3", "--json", "-o", *files]) == 0
    out, err = capsys.readouterr()
    (made,) = json.loads(out)["images"]
    assert made["steps"] == 12
    assert made["value"] > made["first_value"]
    assert abs(made["as_png"] - made["value"]) < 0.05 * made["value"]
    assert "as 8-bit picture (.png)" in err
    with Image.open(files[0]) as picture:
        assert picture.size == (45, 30)
    assert np.load(files[2]).shape == (1, 1, 30, 45)
