"""config.pbtxt: Triton's fields, and gradserve's keys under `parameters`."""

import os

import pytest

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidModel
from gradserve_server.runtime import model_config
from gradserve_server.runtime.image_descriptions import descriptions
from gradserve_server.runtime.model_config import choose_versions, read_config, read_images, read_labels

TRITONS_OWN = """
name: "digits"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_FP32 dims: [ 1, 28, 28 ] } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
optimization { execution_accelerators { cpu_execution_accelerator : [ { name : "openvino" } ] } }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""


def config_of(tmp_path, text):
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")
    return read_config(folder)


def images(tmp_path, **parameters):
    text = "\n".join(f'parameters {{ key: "{k}" value {{ string_value: "{v}" }} }}' for k, v in parameters.items())
    return descriptions(read_images(config_of(tmp_path, text), "digits"))


# ---- the file --------------------------------------------------------------------------------------------------------


def test_no_file_is_an_empty_configuration(tmp_path):
    config = read_config(tmp_path)
    assert config == type(config)()
    assert read_images(config, "m") == {}
    assert read_labels(config, tmp_path) == {}


def test_a_repository_written_for_triton_is_read_as_it_is(tmp_path):
    config = config_of(tmp_path, TRITONS_OWN)
    assert (config.name, config.max_batch_size, list(config.input[0].dims)) == ("digits", 8, [1, 28, 28])
    assert read_images(config, "digits") == {}


def test_another_models_name_is_refused(tmp_path):
    with pytest.raises(InvalidModel, match=r"^model 'digits': config\.pbtxt: expected name 'digits', got 'cats'$"):
        config_of(tmp_path, 'name: "cats"')


@pytest.mark.parametrize("text", ["nonsense", "name: 3", "no_such_field: 1", 'name: "a', "max_batch_size: 99999999999999"])
def test_text_that_does_not_parse_is_refused(tmp_path, text):
    with pytest.raises(InvalidModel, match=r"^model 'digits': config\.pbtxt: "):
        config_of(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "config.pbtxt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidModel, match=r"config\.pbtxt: "):
        read_config(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "config.pbtxt").mkdir()
    with pytest.raises(InvalidModel, match=r"config\.pbtxt"):
        read_config(tmp_path)


# ---- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", [10]),
        ("version_policy: { latest: {} }", [10]),
        ("version_policy: { latest: { num_versions: 2 } }", [2, 10]),
        ("version_policy: { latest: { num_versions: 9 } }", [1, 2, 10]),
        ("version_policy: { all: {} }", [1, 2, 10]),
        ("version_policy: { specific: { versions: [ 2 ] } }", [2]),
        ("version_policy: { specific: { versions: [ 10, 1, 7 ] } }", [1, 10]),
    ],
)
def test_the_version_policy_is_tritons(tmp_path, policy, chosen):
    assert choose_versions(config_of(tmp_path, policy), [10, 1, 2]) == chosen


# ---- image descriptions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("layout", "NHWC", {"layout": "NHWC"}),
        ("layout", "NCHW", {}),
        ("channels", "GREY", {"channels": "GREY"}),
        ("channels", "BGR", {"channels": "BGR"}),
        ("range", "-1 2.5", {"low": -1.0, "high": 2.5}),
        ("range", "0 255", {"high": 255.0}),
        ("mean", "0.485 0.456 0.406", {"mean": (0.485, 0.456, 0.406)}),
        ("mean", "-3", {"mean": (-3.0,)}),
        ("std", " 0.229  0.224 1e-3 ", {"std": (0.229, 0.224, 0.001)}),
        ("preprocessing", "caffe", {"channels": "BGR", "high": 255.0, "mean": (103.939, 116.779, 123.68)}),
        ("preprocessing", "tf", {"low": -1.0}),
        ("preprocessing", "torch", {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
    ],
)
def test_each_key_sets_its_field_and_leaves_the_rest(tmp_path, key, text, expected):
    assert images(tmp_path, **{f"gradserve.input.image.{key}": text}) == {"image": ImageDescription(**expected)}


def test_keys_of_one_input_are_joined_and_inputs_kept_apart(tmp_path):
    keys = {
        "gradserve.input.a.mean": "1 2 3",
        "gradserve.input.a.layout": "NHWC",
        "gradserve.input.x/y.z:0.range": "0 9",
        "other.key": "ignored",
    }
    assert images(tmp_path, **keys) == {
        "a": ImageDescription(layout="NHWC", mean=(1.0, 2.0, 3.0)),
        "x/y.z:0": ImageDescription(high=9.0),
    }


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("preprocessing", "keras", "caffe, tf or torch"),
        ("layout", "CHW", "NCHW or NHWC"),
        ("layout", "nchw", "NCHW or NHWC"),
        ("channels", "RGBA", "GREY, RGB or BGR"),
        ("channels", "", "GREY, RGB or BGR"),
        ("range", "1", "two numbers, the smaller first"),
        ("range", "0 1 2", "two numbers, the smaller first"),
        ("range", "1 0", "two numbers, the smaller first"),
        ("range", "1 1", "two numbers, the smaller first"),
        ("range", "nan 1", "two numbers, the smaller first"),
        ("range", "-inf inf", "two numbers, the smaller first"),
        ("mean", "", "numbers"),
        ("mean", "1, 2", "numbers"),
        ("mean", "nan", "numbers"),
        ("mean", "inf", "numbers"),
        ("std", "1 0 1", "numbers above 0"),
        ("std", "-1", "numbers above 0"),
        ("std", "", "numbers above 0"),
        ("std", "nan", "numbers above 0"),
        ("std", "inf", "numbers above 0"),
        ("stdev", "1", "one of the keys preprocessing, layout, channels, range, mean, std"),
        ("", "1", "one of the keys preprocessing, layout, channels, range, mean, std"),
    ],
)
def test_a_value_that_is_not_in_the_table_is_refused(tmp_path, key, text, expected):
    error = (
        rf"^model 'digits': config\.pbtxt: parameter 'gradserve\.input\.image\.{key}': expected {expected}, got '{text}'$"
    )
    with pytest.raises(InvalidModel, match=error):
        images(tmp_path, **{f"gradserve.input.image.{key}": text})


# ---- labels ----------------------------------------------------------------------------------------------------------


def labels(tmp_path, filename, content=b"cat\ndog\n"):
    folder = tmp_path / "digits"
    config = config_of(tmp_path, f'output [ {{ name: "logits" label_filename: "{filename}" }}, {{ name: "other" }} ]')
    (folder / "labels.txt").write_bytes(content)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "sub").mkdir()
    return read_labels(config, folder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"cat\ndog\n", ("cat", "dog")), (b"cat\ndog", ("cat", "dog")), ("é\n\n日".encode(), ("é", "", "日")), (b"", ())],
)
def test_labels_are_lines(tmp_path, content, expected):
    assert labels(tmp_path, "labels.txt", content) == {"logits": expected}


def test_a_line_separator_inside_a_label_does_not_shift_the_rest(tmp_path):
    """Only newlines end a label: str.splitlines would break at U+2028, form feeds and others too."""
    assert labels(tmp_path, "labels.txt", "a\u2028b\nc\x0cd\n".encode()) == {"logits": ("a\u2028b", "c\x0cd")}


@pytest.mark.parametrize(
    "filename", ["missing.txt", "../secret.txt", "link.txt", "/etc/hostname", "sub", ".", "sub/../../secret.txt"]
)
def test_a_label_file_that_is_not_in_the_folder_is_refused(tmp_path, filename):
    with pytest.raises(InvalidModel, match=f"^model 'digits': label file '{filename}': expected a file in its folder, got "):
        labels(tmp_path, filename)


def test_labels_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(InvalidModel, match=r"^model 'digits': .*labels\.txt"):
        labels(tmp_path, "labels.txt", b"caf\xe9\n")


# ---- from a stranger -------------------------------------------------------------------------------------------------

LIBRARY = 'model_operations { op_library_filename: "evil.so" }'


def test_a_library_of_operators_is_refused(tmp_path):
    with pytest.raises(InvalidModel, match=r"config.pbtxt: expected no custom operators, which are off, got .*'evil\.so'$"):
        config_of(tmp_path, LIBRARY)


HURTING = {
    "deep": "a {" * 10**5,
    "long": "#" * 2**21,
    "a number of many digits": "max_batch_size: " + "9" * 10**5,
    "a number beyond all": "version_policy { latest { num_versions: 1e999 } }",
}


@pytest.mark.parametrize("text", HURTING.values(), ids=HURTING)
def test_a_text_that_is_made_to_hurt(tmp_path, text):
    with pytest.raises(InvalidModel, match="^model 'digits': config.pbtxt: ") as error:
        config_of(tmp_path, text)
    assert len(str(error.value)) < 1000


PLACED = {
    "a link out of the folder": (lambda path, secret: path.symlink_to(secret), "got another place"),
    "a hard link": (lambda path, secret: path.hardlink_to(secret), "which has 2 hard links: copy it"),
    "a pipe": (lambda path, _: os.mkfifo(path), "got something that is no regular file"),
    "a device": (lambda path, _: path.symlink_to("/dev/zero"), "got another place"),
    "a link to nothing": (lambda path, _: path.symlink_to("nothing"), "got no file '"),
}


@pytest.mark.parametrize(("make", "error"), PLACED.values(), ids=PLACED)
@pytest.mark.parametrize("name", ["config.pbtxt", "labels.txt"])
def test_what_is_no_file_of_the_folder_is_not_read(tmp_path, name, make, error):
    (folder := tmp_path / "digits").mkdir()
    (tmp_path / "secret").write_text("swordfish")
    make(folder / name, tmp_path / "secret")
    if name == "labels.txt":
        (folder / "config.pbtxt").write_text('output [ { name: "y" label_filename: "labels.txt" } ]')
    with pytest.raises(InvalidModel, match=error) as caught:
        read_labels(read_config(folder), folder)
    assert "swordfish" not in str(caught.value)


def test_a_label_file_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(model_config, "MAX_LABEL_BYTES", 3)
    config = config_of(tmp_path, 'output [ { name: "y" label_filename: "labels.txt" } ]')
    (tmp_path / "digits/labels.txt").write_text("four")
    with pytest.raises(InvalidModel, match=r"label file 'labels\.txt': expected at most 3 bytes, got 4$"):
        read_labels(config, tmp_path / "digits")
