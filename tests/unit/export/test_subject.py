"""Subjects and factories: what is found, what is refused, and what is said of it."""

import importlib.metadata
import sys
import tomllib

import pytest
from support.paths import ROOT

from gradserve.errors import BackendMissing, InvalidParameter
from gradserve_server.export import export_model
from gradserve_server.export.extras import EXTRAS, need
from gradserve_server.export.frameworks import FRAMEWORKS, READERS
from gradserve_server.export.subject import REFUSED, make, model_name

MODULE = """
import other_module_beside_it

class Factory:
    def __init__(self, classes, width=4, **more):
        self.classes, self.width, self.more = classes, width, more

def strict(classes): return classes
def failing(): raise ValueError("no such data")
def late():
    import torch
    return torch
ready = Factory(3)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(MODULE)
    (tmp_path / "other_module_beside_it.py").write_text("")
    (tmp_path / "needs_torch.py").write_text("import torch\n")
    (tmp_path / "needs_nothing_known.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_factory_in_the_current_folder_is_called_with_its_arguments(here):
    del here
    before = list(sys.path)
    made = make("my_networks:Factory", {"classes": 5, "depth": 2})
    assert (made.classes, made.width, made.more) == (5, 4, {"depth": 2})
    assert sys.path == before
    assert make("my_networks:ready", {}).classes == 3, "what is made already is taken as it is"


@pytest.mark.parametrize(
    ("subject", "arguments", "said"),
    [
        ("nowhere.at_all:f", {}, r"expected a module in .* or an installed package, got no module 'nowhere'"),
        ("my_networks:missing", {}, r"expected one of .*Factory, strict, failing, late, got 'missing'"),
        ("my_networks:Factory", {}, r"expected values for its arguments 'classes': --set classes=VALUE"),
        ("my_networks:strict", {"classes": 1, "deep": 2}, r"argument 'deep': expected one of classes"),
        ("my_networks:failing", {"x": 2}, r"argument 'x': expected one of none: it takes none"),
        ("my_networks:failing", {}, r"it raised ValueError: no such data"),
        ("my_networks:ready", {"x": 1}, r"expected no arguments, because it is a Factory already"),
        ("needs_nothing_known:f", {}, r"needs the module 'a_module_that_nobody_has', which is not installed"),
        ("broken:f", {}, r"importing 'broken' raised ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(here, subject, arguments, said):
    del here
    with pytest.raises(InvalidParameter, match=said):
        make(subject, arguments)


@pytest.mark.parametrize("subject", ["my_networks:late", "needs_torch:f"])
def test_a_framework_that_is_missing_is_named_with_its_extra(here, monkeypatch, subject):
    del here
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendMissing, match=r'this needs torch: pip install "gradserve-server\[export-torch\]"'):
        make(subject, {})


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_every_optional_module_is_named_with_an_extra_that_brings_it(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendMissing, match=rf'this needs {module}: pip install "gradserve-server\[{EXTRAS[module]}\]"'):
        need(module)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distribution = {"sklearn": "scikit-learn"}.get(module, module)
    assert any(line.startswith(distribution) for line in extras[EXTRAS[module]])


def test_nothing_of_a_framework_is_imported_with_the_package():
    import subprocess

    code = f"import sys, gradserve_server.export; print(*[m for m in {sorted(EXTRAS)} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert set(loaded.split()) <= {"onnxscript"}, "onnxscript comes with graph rewriting where it is installed"


@pytest.mark.parametrize("suffix", sorted(REFUSED))
def test_a_file_that_is_no_subject_says_why(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    with pytest.raises(InvalidParameter, match=r"a file of this kind (runs|has|may|is)"):
        export_model(str(file), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_neither_a_file_nor_a_factory(tmp_path):
    for subject in ("nothing.keras", "mine", str(tmp_path)):
        with pytest.raises(InvalidParameter, match="expected package.module:factory, or a .keras or .skops file"):
            export_model(subject, tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InvalidParameter, match="a file that ends in .keras or .skops"):
        export_model(str(tmp_path / "a.txt"), tmp_path)
    (tmp_path / "a.keras").write_text("")
    with pytest.raises(InvalidParameter, match="expected no arguments, because a file is no factory"):
        export_model(str(tmp_path / "a.keras"), tmp_path, arguments={"x": 1})


def test_what_is_of_no_framework_is_named(tmp_path):
    with pytest.raises(InvalidParameter, match="or a scikit-learn estimator, got a Fraction"):
        export_model("fractions:Fraction", tmp_path)
    assert next(iter(FRAMEWORKS)) == "keras", "a Keras model on torch is of both"
    assert set(READERS) == {".keras", ".skops"}


def test_names():
    assert model_name("a.b:make.net") == "net"
    assert model_name("folder/digits.keras") == "digits"
    assert importlib.metadata.version("gradserve-server")
