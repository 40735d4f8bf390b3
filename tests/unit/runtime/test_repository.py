"""Which models a folder offers: Triton's layout, or a single file."""

from pathlib import Path

import pytest

from gradserve.errors import InvalidModel, ModelNotFound
from gradserve_server.runtime.repository import scan


def put(root, *paths, config=None):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    if config is not None:
        (root / "m").mkdir(exist_ok=True)
        (root / "m" / "config.pbtxt").write_text(config)
    return root


def offered(root):
    return {
        entry.name: {version: path.relative_to(root).as_posix() for version, path in entry.files.items()}
        for entry in scan(root)
    }


# ---- layouts ---------------------------------------------------------------------------------------------------------


def test_a_file_is_a_repository_of_one_model(tmp_path):
    put(tmp_path, "my.digits.onnx")
    (entry,) = scan(tmp_path / "my.digits.onnx")
    assert (entry.name, dict(entry.files)) == ("my.digits", {1: tmp_path / "my.digits.onnx"})
    assert (dict(entry.images), dict(entry.labels)) == ({}, {})


def test_a_folder_of_models_by_name(tmp_path):
    put(tmp_path, "b/1/model.onnx", "a/3/model.onnx", "README.md")
    assert list(offered(tmp_path).items()) == [("a", {3: "a/3/model.onnx"}), ("b", {1: "b/1/model.onnx"})]


@pytest.mark.parametrize(
    ("paths", "versions"),
    [
        (["m/1/model.onnx", "m/2/model.onnx", "m/10/model.onnx"], {10}),
        (["m/1/model.onnx", "m/01/model.onnx", "m/0/model.onnx"], {1}),
        (["m/1/model.onnx", "m/v2/model.onnx", "m/-3/model.onnx", "m/4.5/model.onnx", "m/²/model.onnx"], {1}),
        (["m/1/model.onnx", "m/2"], {1}),
    ],
)
def test_the_latest_version_is_served_and_other_folders_passed_over(tmp_path, paths, versions):
    assert offered(put(tmp_path, *paths)).keys() == {"m"}
    assert offered(tmp_path)["m"].keys() == versions


def test_a_digit_of_another_script_is_no_version(tmp_path):
    assert offered(put(tmp_path, "m/1/model.onnx", "m/٣/model.onnx"))["m"].keys() == {1}


def test_folders_without_versions_are_no_models(tmp_path):
    put(tmp_path, "m/1/model.onnx", ".git/objects/x", "docs/index.md")
    (tmp_path / "empty").mkdir()
    assert offered(tmp_path).keys() == {"m"}


@pytest.mark.parametrize("policy", ["all: {}", "specific: { versions: [ 1, 2 ] }", "latest: { num_versions: 2 }"])
def test_a_policy_may_serve_more_versions(tmp_path, policy):
    put(tmp_path, "m/1/model.onnx", "m/2/model.onnx", config=f"version_policy: {{ {policy} }}")
    assert offered(tmp_path) == {"m": {1: "m/1/model.onnx", 2: "m/2/model.onnx"}}


def test_a_version_that_is_not_served_needs_no_file(tmp_path):
    put(tmp_path, "m/1/other", "m/2/model.onnx")
    assert offered(tmp_path) == {"m": {2: "m/2/model.onnx"}}


def test_the_file_may_have_another_name(tmp_path):
    put(tmp_path, "m/1/net.onnx", config='default_model_filename: "net.onnx"')
    assert offered(tmp_path) == {"m": {1: "m/1/net.onnx"}}


def test_images_and_labels_come_from_the_configuration(tmp_path):
    config = (
        'parameters { key: "gradserve.input.x.layout" value { string_value: "NHWC" } } '
        'output [ { name: "y" label_filename: "labels.txt" } ]'
    )
    put(tmp_path, "m/1/model.onnx", config=config)
    (tmp_path / "m/labels.txt").write_text("cat\n")
    (entry,) = scan(tmp_path)
    assert (entry.images, entry.labels) == ({"x": {"layout": "NHWC"}}, {"y": ("cat",)})


@pytest.mark.parametrize("path", ["m", "m/2/model.onnx"])
def test_one_model_of_a_repository_keeps_its_configuration(tmp_path, path):
    config = 'parameters { key: "gradserve.input.x.layout" value { string_value: "NHWC" } }'
    put(tmp_path, "m/1/model.onnx", "m/2/model.onnx", config=config)
    (entry,) = scan(tmp_path / path)
    assert (entry.name, dict(entry.files)) == ("m", {2: tmp_path / "m/2/model.onnx"})
    assert entry.images == {"x": {"layout": "NHWC"}}


def test_a_relative_path_finds_the_same_models(tmp_path, monkeypatch):
    put(tmp_path, "m/1/model.onnx")
    monkeypatch.chdir(tmp_path / "m/1")
    for path in ("model.onnx", "..", "../.."):
        (entry,) = scan(Path(path))
        assert (entry.name, list(entry.files)) == ("m", [1])
        assert entry.files[1].is_file()


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_nothing_there(tmp_path):
    with pytest.raises(
        ModelNotFound, match="^repository '.*/nowhere': expected a folder of models or an ONNX file, got nothing"
    ):
        scan(tmp_path / "nowhere")


@pytest.mark.parametrize("paths", [[], ["model.onnx"], ["m/model.onnx"], ["m/v1/model.onnx"]])
def test_a_folder_without_models(tmp_path, paths):
    with pytest.raises(ModelNotFound, match="^repository '.*': expected <model>/<version>/model.onnx, got no model$"):
        scan(put(tmp_path, *paths))


@pytest.mark.parametrize(
    ("paths", "config", "filename"),
    [
        (["m/1/other.onnx"], "", r"model\.onnx"),
        (["m/1/model.onnx/x"], "", r"model\.onnx"),
        (["m/1/model.onnx"], 'default_model_filename: "net.onnx"', r"net\.onnx"),
        (["m/1/model.onnx", "m/2/x"], "version_policy: { all: {} }", r"model\.onnx"),
    ],
)
def test_a_version_without_its_file(tmp_path, paths, config, filename):
    with pytest.raises(InvalidModel, match=rf"^model 'm' version \d: expected a file '{filename}' in its folder, got none$"):
        scan(put(tmp_path, *paths, config=config))


@pytest.mark.parametrize(
    "filename", ["../model.onnx", "../2/model.onnx", "../../n/1/model.onnx", "sub/model.onnx", "..", ".", "/etc/hostname"]
)
def test_the_files_name_does_not_lead_out_of_its_folder(tmp_path, filename):
    paths = ["m/1/model.onnx", "m/2/model.onnx", "m/model.onnx", "m/1/sub/model.onnx", "n/1/model.onnx"]
    put(
        tmp_path,
        *paths,
        config=f'default_model_filename: "{filename}" version_policy: {{ specific: {{ versions: [ 1 ] }} }}',
    )
    with pytest.raises(InvalidModel, match="^model 'm' version 1: expected a file "):
        scan(tmp_path)


def test_a_policy_that_leaves_no_version_is_refused(tmp_path):
    put(tmp_path, "m/1/model.onnx", config="version_policy: { specific: { versions: [ 7 ] } }")
    with pytest.raises(InvalidModel, match="^model 'm'.*version"):
        scan(tmp_path)


def test_a_configuration_that_cannot_be_read(tmp_path):
    put(tmp_path, "m/1/model.onnx", config="nonsense")
    with pytest.raises(InvalidModel, match=r"^model 'm': config\.pbtxt: "):
        scan(tmp_path)
