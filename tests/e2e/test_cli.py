"""The command `gradserve`, as a user runs it: a process with arguments, output, files and an exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from PIL import Image

from gradserve.cli import main

SIZE = 8
CONFIG = """
output [ { name: "logits" label_filename: "labels.txt" } ]
parameters { key: "gradserve.input.image.channels" value { string_value: "GREY" } }
parameters { key: "gradserve.input.image.range" value { string_value: "-1 1" } }
parameters { key: "gradserve.input.image.mean" value { string_value: "0.1" } }
parameters { key: "gradserve.input.image.std" value { string_value: "0.5" } }
"""
TARGETS = ["server", "process"]
COMMANDS = ["serve", "inspect", "infer", "gradient", "ascend", "grid", "dream", "invert", "caricature"]


def tiny_model() -> onnx.ModelProto:
    """Two filters, ReLU, mean over positions, three classes."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 17]>
        tiny (float[N,1,{SIZE},{SIZE}] image) => (float[N,3] logits) {{
            conv1 = Conv<pads = [1, 1, 1, 1]>(image, kernel)
            relu1 = Relu(conv1)
            pooled = GlobalAveragePool(relu1)
            features = Flatten(pooled)
            logits = MatMul(features, weights)
        }}
    """)
    numbers = np.random.default_rng(1)
    for name, shape in {"kernel": (2, 1, 3, 3), "weights": (2, 3)}.items():
        model.graph.initializer.append(numpy_helper.from_array(numbers.standard_normal(shape, np.float32), name))
    return model


def start(*arguments: str | Path, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """The command, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "gradserve.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=os.environ | {"COLUMNS": "200", "TERM": "xterm"},
    )


def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, run to its end, which has that exit code."""
    with start(*arguments) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == code, f"{arguments}: exit code {process.returncode}\n{out}\n{err}"
    assert "Traceback" not in err
    return subprocess.CompletedProcess(arguments, code, out, err)


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as opened:
        opened.load()
        return opened.size


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("gradserve: error: ")
    return line


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    (root / "tiny" / "1").mkdir(parents=True)
    onnx.save(tiny_model(), root / "tiny" / "1" / "model.onnx")
    (root / "tiny" / "config.pbtxt").write_text(CONFIG)
    (root / "tiny" / "labels.txt").write_text("ant\nbee\ncat\n")
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[str]:
    with start(
        "serve", repository, "--port", "0", "--metrics-port", "0", "--max-ascents", "2", "--drain-seconds", "2"
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("listening on "):
                break
        assert any(re.match(r"tiny +version 1  image float32 \[N,1,8,8\] -> logits float32 \[N,3\]", s) for s in lines)
        yield lines[-1].split()[-1]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "stopped"


@pytest.fixture
def target(request: pytest.FixtureRequest, repository: Path, server: str) -> list[str]:
    """MODEL and where it is."""
    return ["tiny", "--server", server] if request.param == "server" else [str(repository / "tiny")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("pictures")
    numbers = np.random.default_rng(2)
    paths = [root / "a.png", root / "b.png"]
    for path in paths:
        Image.fromarray(numbers.integers(0, 256, (SIZE, SIZE), np.uint8)).save(path)
    return paths


# ---- help ------------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes() -> None:
    out = run("--help").stdout
    for word in (
        "serve",
        "inspect",
        "infer",
        "gradient",
        "ascend",
        "grid",
        "dream",
        "invert",
        "caricature",
        "130 interrupted",
    ):
        assert word in out


@pytest.mark.parametrize(
    "command", ["serve", "inspect", "infer", "gradient", "ascend", "grid", "dream", "invert", "caricature"]
)
def test_help_of_a_command_has_examples(command: str) -> None:
    out = run(command, "--help").stdout
    assert f"usage: gradserve {command}" in out
    assert out.count(f"\n  gradserve {command} ") >= 2
    assert ("relu3:4@5,6" in out) == (command in ("gradient", "ascend", "dream"))


def test_version() -> None:
    assert re.fullmatch(r"gradserve \d+\.\d+\.\d+\n", run("--version").stdout)


ASCEND = ["ascend", "tiny", "--objective", "logits:1"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: COMMAND"),
        (["ascend", "tiny"], "required: -o/--output"),
        (["ascend", "tiny", "-o", "a.png"], "one of the arguments --objective --from-record is required"),
        (["ascend", "-o", "a.png", "--objective", "logits:1"], "required: MODEL"),
        ([*ASCEND, "-o", "no/such/folder.png"], "folder that exists"),
        ([*ASCEND, "-o", "picture.bmp"], "ends in .png, .webp, "),
        (
            [*ASCEND, "-o", "a.png", "--start", "constant:much"],
            "expected noise, mean, zeros, constant:VALUE or a picture file",
        ),
        ([*ASCEND, "-o", "a.png", "--steps", "0"], "whole number of 1 or more"),
        (["infer", "tiny", "--input", "x"], "expected NAME=FILE.npy"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_wrong_usage_of_serve_is_2() -> None:
    assert "whole number" in run("serve", "models", "--port", "any", code=2).stderr


# ---- inspect ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_inspect(target: list[str]) -> None:
    out = run("inspect", *target, "--layers").stdout
    assert re.search(r"^image +float32 +\[N,1,8,8\] +GREY NCHW, pixels -1 to 1, mean 0.1, std 0.5$", out, re.M)
    assert re.search(r"^logits +float32 +\[N,3\] +3 labels: ant, bee, cat$", out, re.M)
    assert re.search(r"^relu1 +Relu +float32 +\[N,2,8,8\] +(training|portable) +\S", out, re.M)

    document = json.loads(run("inspect", *target, "--layers", "--json").stdout)
    assert document["inputs"][0]["image"]["low"] == -1
    assert [layer["name"] for layer in document["layers"]][-1] == "logits"


def test_a_file_is_a_model_with_the_configuration_of_its_folder(repository: Path, tmp_path: Path) -> None:
    inside = json.loads(run("inspect", repository / "tiny" / "1" / "model.onnx", "--json").stdout)
    assert (inside["name"], inside["outputs"][0]["labels"]) == ("tiny", ["ant", "bee", "cat"])

    onnx.save(tiny_model(), tmp_path / "alone.onnx")
    alone = json.loads(run("inspect", tmp_path / "alone.onnx", "--json").stdout)
    assert (alone["name"], alone["inputs"][0]["image"]) == ("alone", None)


# ---- infer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_infer(target: list[str], pictures: list[Path], tmp_path: Path) -> None:
    archive = tmp_path / "outputs.npz"
    done = run("infer", *target, "--image", *pictures, "--softmax", "--json", "-o", archive)
    document = json.loads(done.stdout)
    assert done.stderr == f"gradserve: wrote {archive}\n"
    assert document["samples"] == list(map(str, pictures))
    logits = np.load(archive)["logits"]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, ranking in zip(probabilities, document["outputs"]["logits"]["top"], strict=True):
        assert [entry["index"] for entry in ranking] == list(np.argsort(-row))
        assert [entry["value"] for entry in ranking] == pytest.approx(sorted(row, reverse=True), rel=1e-5)
        assert ranking[0]["label"] == ("ant", "bee", "cat")[ranking[0]["index"]]


def test_pictures_and_arrays_are_the_same_input(server: str, pictures: list[Path], tmp_path: Path) -> None:
    with Image.open(pictures[0]) as a, Image.open(pictures[1]) as b:
        levels = np.stack([np.asarray(a, np.float64), np.asarray(b, np.float64)])[:, np.newaxis]
    np.save(tmp_path / "x.npy", (levels / 255 * 2 - 1 - 0.1) / 0.5)
    for given, archive in ((["--image", *pictures], "a.npz"), (["--input", f"image={tmp_path / 'x.npy'}"], "b.npz")):
        out = run("infer", "tiny", "--server", server, *given, "--top", "1", "-o", tmp_path / archive).stdout
        assert out.startswith("logits of tiny version 1\n")
        assert len(out.splitlines()) == 4
    a, b = (np.load(tmp_path / name)["logits"] for name in ("a.npz", "b.npz"))
    np.testing.assert_allclose(a, b, rtol=1e-5)


# ---- gradient --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_gradient(target: list[str], pictures: list[Path], tmp_path: Path) -> None:
    picture, archive = tmp_path / "g.png", tmp_path / "g.npz"
    out = run("gradient", *target, "--objective", "logits:1", "--image", *pictures, "-o", picture).stdout
    assert re.search(r"^a?.*a\.png +-?[\d.e-]+ +[\d.e-]+$", out, re.M)
    # Two samples side by side, each beside its gradient, 8 x 8 enlarged to 224.
    assert size_of(picture) == (2 * 236 + 12, 2 * (236 + 2 * 17) + 12)

    arguments = ["gradient", *target, "--objective", "logits:1", "--image", *pictures, "-o", archive, "--json"]
    samples = json.loads(run(*arguments).stdout)["samples"]
    arrays = np.load(archive)
    assert arrays["gradients.image"].shape == (2, 1, SIZE, SIZE)
    for index, sample in enumerate(samples):
        assert sample["value"] == pytest.approx(arrays["values"][index])
        assert sample["gradient_norms"]["image"] == pytest.approx(np.linalg.norm(arrays["gradients.image"][index]))


# ---- ascend ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_ascend(target: list[str], tmp_path: Path) -> None:
    path = tmp_path / "ascent.png"
    done = run("ascend", *target, "--objective", "logits:2", "--steps", "30", "-o", path, "--json")
    (image,) = json.loads(done.stdout)["images"]
    assert re.fullmatch(
        rf"gradserve: logits:2 \(cat\): value \S+; as 8-bit picture \(\.png\) \S+\ngradserve: wrote {path}\n", done.stderr
    )
    assert image["steps"] == 30
    assert image["stop_reason"] == "finished"
    assert image["value"] > image["first_value"]
    assert size_of(path) == (224, 224)

    # The picture is the pixels, so the model judges it as the ascent did, but for 8 bits.
    logits = json.loads(run("infer", *target, "--image", path, "--json").stdout)["outputs"]["logits"]["top"][0]
    assert {entry["index"]: entry["value"] for entry in logits}[2] == pytest.approx(image["value"], abs=0.05)


def test_several_ascents_share_a_contact_sheet(server: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    objectives = ["--objective", "logits:0", "relu1:1", "relu1:1^2", "relu1:1@2,3", "relu1", "--objective", "logits:0"]
    settings = ["--steps", "5", "--count", "2", "--jitter", "1", "--seed", "7", "--jobs", "2", "--zoom", "2"]
    out = run("ascend", "tiny", "--server", server, *objectives, *settings, "-o", path).stdout
    assert len(out.splitlines()) == 2 + 12
    assert size_of(path) == (2 * (16 + 12) + 12, 6 * (16 + 12 + 2 * 17) + 12)


def test_an_ascent_as_a_film_strip_and_as_pixels(server: str, tmp_path: Path, pictures: list[Path]) -> None:
    common = ["ascend", "tiny", "--server", server, "--objective", "logits:0", "--start", pictures[0], "--steps", "4"]
    run(*common, "--image-every", "2", "-o", tmp_path / "strip.png", "--optimizer", "sgd", "--learning-rate", "0.1")
    assert size_of(tmp_path / "strip.png")[0] == 3 * 236 + 12

    run(*common, "--bounds", "-0.25", "0.5", "--gradient-normalization", "std", "-o", tmp_path / "last.npy")
    pixels = np.load(tmp_path / "last.npy")
    assert pixels.shape == (1, 1, SIZE, SIZE)
    assert pixels.dtype == np.float32
    assert pixels.min() >= -0.25
    assert pixels.max() <= 0.5


def test_a_model_without_a_description_is_drawn_stretched_and_says_so(tmp_path: Path) -> None:
    onnx.save(tiny_model(), tmp_path / "alone.onnx")
    done = run("ascend", tmp_path / "alone.onnx", "--objective", "logits:0", "--steps", "5", "-o", tmp_path / "a.png")
    assert "stretched" in done.stderr
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.getextrema() == (0, 255)
    refused = run("infer", tmp_path / "alone.onnx", "--image", tmp_path / "a.png", code=1)
    assert "--input image=FILE.npy" in error_line(refused)


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_interrupting_ends_the_ascents(target: list[str], tmp_path: Path) -> None:
    arguments = ["ascend", *target, "--objective", "logits:0", "--objective", "logits:1", "--steps", "1000000"]
    # The server runs two at a time: the second pair would be refused if the first went on.
    for _ in range(2 if "--server" in target else 1):
        terminal, stderr = os.openpty()
        with start(*arguments, "-o", tmp_path / "never.png", stderr=stderr) as process:
            os.close(stderr)
            seen = ""
            while not ("logits:0" in seen and "logits:1" in seen and "steps/s" in seen):
                seen += os.read(terminal, 65536).decode(errors="replace")
            process.send_signal(signal.SIGINT)
            seen = drain(terminal)
            assert process.wait(timeout=20) == 130, seen
        assert seen.rstrip().endswith("gradserve: interrupted\x1b[0m")
    assert not (tmp_path / "never.png").exists()


def drain(terminal: int) -> str:
    """What a terminal's process still writes before it ends."""
    seen = b""
    try:
        while chunk := os.read(terminal, 65536):
            seen += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(terminal)
    return seen.decode(errors="replace")


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_1(server: str) -> None:
    assert "model 'huge': expected one of 'tiny'" in error_line(run("inspect", "huge", "--server", server, code=1))


def test_an_unknown_layer_is_1(server: str, tmp_path: Path) -> None:
    arguments = ["ascend", "tiny", "--server", server, "--objective", "logitz:1", "-o", tmp_path / "a.png"]
    assert "did you mean 'logits'" in error_line(run(*arguments, code=1))
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("what", ["missing.png", "text.png"])
def test_a_file_that_is_no_picture_is_1(server: str, tmp_path: Path, what: str) -> None:
    (tmp_path / "text.png").write_text("no picture")
    assert what in error_line(run("infer", "tiny", "--server", server, "--image", tmp_path / what, code=1))


def test_a_missing_model_file_is_1() -> None:
    assert "nowhere.onnx" in error_line(run("inspect", "nowhere.onnx", code=1))


def test_no_server_is_3() -> None:
    assert "no server answers at 127.0.0.1:1" in error_line(run("inspect", "tiny", "--server", "127.0.0.1:1", code=3))


def test_a_port_in_use_is_1(server: str, repository: Path) -> None:
    done = run("serve", repository, "--port", server.rpartition(":")[2], code=1)
    assert done.stdout == ""
    # Above it gRPC has its own say.
    assert done.stderr.splitlines()[-1].startswith(f"gradserve: error: cannot listen on {server}")


def test_without_the_server_package_the_client_still_works(server: str, tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['gradserve_server'] = None; from gradserve.cli import main; sys.exit(main())"

    def without(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", hidden, *arguments], check=False, capture_output=True, text=True, timeout=60
        )

    assert without("inspect", "tiny", "--server", server).returncode == 0
    for arguments in (["serve", str(tmp_path)], ["inspect", "model.onnx"]):
        done = without(*arguments)
        assert done.returncode == 1
        assert 'pip install "gradserve-server[training]"' in done.stderr
