"""Models whose configuration and files come with the request; nothing gets out of its folder."""

import tempfile

import pytest
from support.repositories import answer, explicit, put, scaling, states

from gradserve.errors import InvalidModel, InvalidParameter, ModelNotFound, TooLarge
from gradserve_server.runtime import overrides
from gradserve_server.runtime.overrides import Override

MODEL = scaling(7).SerializeToString()
HERE = "1/model.onnx"


@pytest.fixture(autouse=True)
def private(tmp_path, monkeypatch):
    """Where folders are made."""
    folder = tmp_path / "private"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def engine(tmp_path):
    put(tmp_path / "models", "a", 1)
    put(tmp_path / "models", "a", 2, version=2)
    with explicit(tmp_path / "models") as engine:
        yield engine


def test_a_configuration_over_the_repositorys_files(engine):
    engine.load("a", override=Override('{"versionPolicy": {"specific": {"versions": [1]}}, "max_batch_size": 3}'))
    assert answer(engine, "a") == 1
    assert engine.model("a").config.max_batch_size == 3
    engine.load("a")
    assert answer(engine, "a") == 2
    assert engine.model("a").config.max_batch_size == 0


def test_files_are_the_model(engine, private):
    engine.load("a", override=Override("{}", {"3/model.onnx": MODEL}))
    assert (answer(engine, "a"), answer(engine, "a", "3")) == (7, 7)
    assert states(engine) == [("a", "3", "READY")]
    assert list(private.iterdir()) == []


def test_a_model_that_the_repository_has_not(engine):
    engine.load("new", override=Override("{}", {HERE: MODEL}))
    assert answer(engine, "new") == 7
    assert states(engine) == [("a", "", "UNKNOWN"), ("new", "1", "READY")]
    engine.unload("new")
    assert states(engine) == [("a", "", "UNKNOWN")]
    with pytest.raises(ModelNotFound):
        engine.load("newer", override=Override("{}"))
    assert states(engine) == [("a", "", "UNKNOWN")]
    assert engine.ready
    with pytest.raises(InvalidModel):
        engine.load("bad", override=Override("{}", {HERE: b"no model"}))
    assert states(engine) == [("a", "", "UNKNOWN"), ("bad", "1", "UNAVAILABLE")]
    assert not engine.ready
    engine.unload("bad")
    assert states(engine) == [("a", "", "UNKNOWN")]
    assert engine.ready


@pytest.mark.parametrize("files", [{HERE: b"no model"}, {"1/other.onnx": MODEL}, {"1/labels.txt": b""}])
def test_a_failed_load_leaves_what_was_there_and_no_files(engine, private, files):
    engine.load("a")
    with pytest.raises(InvalidModel):
        engine.load("a", override=Override("{}", files))
    assert answer(engine, "a") == 2
    assert list(private.iterdir()) == []


ESCAPES = [
    "../model.onnx",
    "1/../model.onnx",
    "1/../../model.onnx",
    "1/..",
    "1/.",
    "1/",
    "/etc/passwd",
    "1//model.onnx",
    "1/sub/model.onnx",
    "1\\model.onnx",
    "1/..\\model.onnx",
    "1/a\0b",
    "model.onnx",
    "",
    "0/model.onnx",
    "01/model.onnx",
    "-1/model.onnx",
    "v1/model.onnx",
    "\u0661/model.onnx",
    "1/" + "x" * 256,
    "9" * 256 + "/model.onnx",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_leads_nowhere_else(path):
    with pytest.raises(InvalidParameter, match="^parameter 'file:"):
        Override("{}", {path: MODEL})


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a\0", "x" * 256])
def test_a_name_leads_nowhere_else(engine, private, name):
    with pytest.raises(InvalidParameter, match="^model '"):
        engine.load(name, override=Override("{}", {HERE: MODEL}))
    assert list(private.iterdir()) == []
    assert engine.ready
    assert states(engine) == [("a", "", "UNKNOWN")]


@pytest.mark.parametrize("filename", ["../2/model.onnx", "/etc/hostname", "..", "sub/model.onnx"])
def test_a_configuration_leads_nowhere_else(engine, filename):
    with pytest.raises(InvalidModel, match=f"expected a file '{filename}' in its folder"):
        engine.load("a", override=Override(f'{{"default_model_filename": "{filename}"}}', {HERE: MODEL}))


def test_labels_are_the_repositorys(engine, tmp_path):
    labels = tmp_path / "models" / "a" / "labels.txt"
    labels.write_text("cat\ndog\n")
    config = '{"output": [{"name": "y", "label_filename": "%s"}]}'
    engine.load("a", override=Override(config % "labels.txt", {HERE: MODEL}))
    assert engine.inspect("a").outputs[0].labels == ("cat", "dog")
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(InvalidModel, match="expected a file in its folder"):
        engine.load("a", override=Override(config % "../../secret.txt", {HERE: MODEL}))


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"no_such_field": 1}', '{"max_batch_size": "x"}', "[" * 100_000])
def test_a_configuration_that_is_none(engine, text):
    with pytest.raises(InvalidParameter, match="^model 'a': parameter 'config': expected a ModelConfig as JSON, got "):
        engine.load("a", override=Override(text))


def test_a_configuration_of_another_model(engine):
    with pytest.raises(InvalidModel, match="^model 'a': parameter 'config': expected name 'a', got 'b'$"):
        engine.load("a", override=Override('{"name": "b"}'))


def test_files_want_a_configuration():
    with pytest.raises(InvalidParameter, match="^parameter 'config': expected the model's configuration beside its files"):
        Override("", {HERE: MODEL})


def test_files_are_limited(monkeypatch):
    Override("{}", {f"1/{i}": b"" for i in range(overrides.MAX_FILES)})
    with pytest.raises(TooLarge, match="at most 64 of"):
        Override("{}", {f"1/{i}": b"" for i in range(overrides.MAX_FILES + 1)})
    monkeypatch.setattr(overrides, "MAX_BYTES", 4)
    Override("{}", {HERE: b"1234"})
    with pytest.raises(TooLarge, match="of 4 bytes together, got 2 of 5 bytes"):
        Override("{}", {HERE: b"123", "1/x": b"45"})


def test_the_private_folder_is_nobody_elses(engine, private, monkeypatch):
    seen, real = [], overrides.entry_of

    def look(name, config, versions, folder):
        seen.append((versions.parent, versions.stat().st_mode & 0o777))
        return real(name, config, versions, folder)

    monkeypatch.setattr(overrides, "entry_of", look)
    engine.load("a", override=Override("{}", {HERE: MODEL}))
    assert seen == [(private, 0o700)]


def test_an_override_of_a_file_by_itself(tmp_path):
    put(tmp_path, "m", 1)
    (tmp_path / "m/1/model.onnx").rename(tmp_path / "net.onnx")
    with explicit(tmp_path / "net.onnx") as engine:
        with pytest.raises(InvalidParameter, match="expected a model with a folder of its own"):
            engine.load("net", override=Override("{}"))
        engine.load("net", override=Override("{}", {HERE: MODEL}))
        assert answer(engine, "net") == 7
