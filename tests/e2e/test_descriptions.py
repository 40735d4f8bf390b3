"""Pictures in and out of a model whose pixels are those of caffe's VGG: BGR, from 0 to 255, the mean taken away.

Scenario D's trap: pixels were clipped to -1 to 1 where the model's span 256, and BGR was saved as RGB. So the picture that
was judged was not the one that was made.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from support.onnx_models import build, random, save
from support.tolerances import TOLERANCE

from gradserve.cli import main
from gradserve_server import Engine

CAFFE = np.array([103.939, 116.779, 123.68], np.float32).reshape(3, 1, 1)
SIZE = 16
UNIT = 2


def vgg_like(layout: str = "NCHW") -> onnx.ModelProto:
    """A convolution, ReLU, mean over positions, three classes; its filters answer differently to each channel."""
    first = "t = Transpose<perm = [0, 3, 1, 2]>(image)" if layout == "NHWC" else "t = Identity(image)"
    shape = f"N,{SIZE},{SIZE},3" if layout == "NHWC" else f"N,3,{SIZE},{SIZE}"
    return build(
        f"{first} conv1 = Conv<pads = [1, 1, 1, 1]>(t, kernel) relu1 = Relu(conv1) p = GlobalAveragePool(relu1) "
        "f = Flatten(p) logits = MatMul(f, weights)",
        inputs=f"float[{shape}] image",
        outputs="float[N,3] logits",
        weights={"kernel": random(8, 3, 3, 3, seed=3) / 50, "weights": random(8, 3, seed=4)},
    )


def described(folder: Path, how: str, layout: str) -> tuple[Path, list[str]]:
    """The model, with its description in the file, in config.pbtxt or in flags."""
    keys = {"preprocessing": "caffe", "layout": layout}
    proto, path = vgg_like(layout), folder / "vgg" / "1" / "model.onnx"
    if how == "metadata":
        onnx.helper.set_model_props(proto, {f"gradserve.input.image.{key}": text for key, text in keys.items()})
    save(proto, path)
    if how == "config":
        lines = [
            f'parameters {{ key: "gradserve.input.image.{k}" value {{ string_value: "{v}" }} }}' for k, v in keys.items()
        ]
        (folder / "vgg" / "config.pbtxt").write_text("\n".join(lines))
    flags = [f"image.{key}={text}" for key, text in keys.items()]
    return path.parents[1], ["--describe", *flags] if how == "flags" else []


def by_hand(model: Path, picture: Path, layout: str) -> float:
    """The logit of a picture file, prepared as Keras's caffe mode does."""
    with Image.open(picture) as opened:
        rgb = np.asarray(opened.convert("RGB"), np.float32)
    bgr = rgb[..., ::-1].transpose(2, 0, 1)[None] - CAFFE
    with Engine(model) as engine:
        given = bgr.transpose(0, 2, 3, 1) if layout == "NHWC" else bgr
        return float(engine.infer("vgg", {"image": np.ascontiguousarray(given)})["logits"][0, UNIT])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", ["metadata", "config", "flags"])
def test_a_saved_picture_fed_back_gives_the_reported_value(tmp_path, capsys, how, layout):
    model, flags = described(tmp_path, how, layout)
    picture, pixels = tmp_path / "a.png", tmp_path / "a.npy"
    settings = ["--steps", "40", "--learning-rate", "8", "--zoom", "1"]
    common = [str(model), "--objective", f"logits:{UNIT}", "--json", *flags]

    assert main(["ascend", *common, *settings, "-o", str(picture), str(pixels)]) == 0
    out, err = capsys.readouterr()
    (made,) = json.loads(out)["images"]
    assert f"value {made['value']:.5g}; as 8-bit picture (.png) {made['as_png']:.5g}" in err

    # 128 levels each way around the mean: not the 1 of the trap.
    made_pixels = np.load(pixels)
    assert made_pixels.min() == 0
    assert made_pixels.max() == 255

    # The command says what a picture is worth, and so does the model itself, asked by hand.
    assert main(["gradient", *common, "--image", str(picture), "-o", str(tmp_path / "g.png")]) == 0
    (again,) = json.loads(capsys.readouterr().out)["samples"]
    assert again["value"] == pytest.approx(made["as_png"], rel=TOLERANCE["float32 network"])
    assert by_hand(model, picture, layout) == pytest.approx(made["as_png"], rel=TOLERANCE["float32 network"])

    # Eight bits cost little, and what the trap costs is much more.
    rounding = abs(made["as_png"] - made["value"]) / made["value"]
    assert 0 < rounding < 0.01
    with Image.open(picture) as opened:
        Image.fromarray(np.asarray(opened)[..., ::-1].copy()).save(tmp_path / "swapped.png")
    assert abs(by_hand(model, tmp_path / "swapped.png", layout) - made["value"]) / made["value"] > 10 * rounding


def test_a_large_jpeg_is_read_back_from_the_file_that_is_written(tmp_path, capsys):
    model, _ = described(tmp_path, "metadata", "NCHW")
    names = [str(tmp_path / f"a.{ending}") for ending in ("jpg", "webp", "png")]
    steps = ["--steps", "10", "--learning-rate", "8", "--json", "--zoom", "1", "--start", "constant:90"]
    assert main(["ascend", str(model), "--objective", f"logits:{UNIT}", *steps, "-o", *names]) == 0
    (made,) = json.loads(capsys.readouterr().out)["images"]
    assert made["as_webp"] == made["as_png"] != made["as_jpg"]
    for name in names:
        ending = name.rpartition(".")[2]
        value = by_hand(model, Path(name), "NCHW")
        assert value == pytest.approx(made[f"as_{ending}"], rel=TOLERANCE["float32 network"])


def test_a_start_picture_is_read_by_the_same_description(tmp_path, capsys):
    model, _ = described(tmp_path, "metadata", "NCHW")
    levels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "start.png")
    common = ["ascend", str(model), "--objective", f"logits:{UNIT}", "--steps", "1", "--json"]
    assert main([*common, "--start", str(tmp_path / "start.png"), "-o", str(tmp_path / "a.npy")]) == 0
    (made,) = json.loads(capsys.readouterr().out)["images"]
    expected = by_hand(model, tmp_path / "start.png", "NCHW")
    assert made["first_value"] == pytest.approx(expected, rel=TOLERANCE["float32 network"])


def test_a_server_describes_its_models_itself(tmp_path, capsys):
    arguments = ["ascend", "vgg", "--server", "localhost:1", "--objective", "logits:1", "-o", str(tmp_path / "a.png")]
    assert main([*arguments, "--describe", "image.range=0 255"]) == 1
    assert "--describe: expected a model in this process" in capsys.readouterr().err


def test_flags_go_before_the_file_key_by_key(tmp_path):
    model, _ = described(tmp_path, "metadata", "NCHW")
    with Engine(model, images={"image.range": "-1 1"}) as engine:
        image = engine.inspect("vgg").input("image").image
    assert image is not None
    assert (image.low, image.high, image.channels) == (-1, 1, "BGR")
    assert image.mean == tuple(np.float64([103.939, 116.779, 123.68]))


def test_the_picture_of_a_model_without_a_description_cannot_be_read_back(tmp_path, capsys):
    path = save(vgg_like(), tmp_path / "vgg.onnx")
    arguments = ["ascend", str(path), "--objective", "logits:1", "--steps", "2", "--json", "-o", str(tmp_path / "a.png")]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "as_png" not in json.loads(out)["images"][0]
    assert "stretched" in err
