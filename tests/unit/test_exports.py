"""The public names, and that Client, aio.Client and Engine have the same verbs."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import gradserve
import gradserve_server
from gradserve import aio
from gradserve.errors import GradserveError

VERBS = (
    *("infer", "gradient", "vjp", "jvp", "hvp", "activations", "ascend", "layers", "inspect", "doctor"),
    *("models", "load", "unload"),
)
OURS = ("gradserve", "gradserve_server")


def public(owner):
    return {name for name in vars(owner) if not name.startswith("_")}


def methods(cls):
    return {name for name in public(cls) if callable(getattr(cls, name))}


def modules():
    """Every module of ours that can be imported here."""
    for package in (gradserve, gradserve_server):
        yield package
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".v1" in info.name or info.name.endswith(("_core", "__main__")) or ".cli" in info.name:
                continue
            yield importlib.import_module(info.name)


MODULES = list(modules())
DEFINED = [
    pytest.param(item, id=f"{module.__name__}.{name}")
    for module in MODULES
    for name, item in vars(module).items()
    if not module.__name__.rpartition(".")[2].startswith("_")
    and not name.startswith("_")
    and (inspect.isclass(item) or inspect.isfunction(item))
    and getattr(item, "__module__", "") == module.__name__
]


@pytest.mark.parametrize("package", [gradserve, gradserve_server])
def test_all_is_what_is_public(package):
    names = {name for name in public(package) if not isinstance(getattr(package, name), ModuleType)}
    modules_meant = {name for name in package.__all__ if isinstance(getattr(package, name), ModuleType)}
    assert names | modules_meant == set(package.__all__)
    assert len(package.__all__) == len(set(package.__all__))


@pytest.mark.parametrize("module", [m for m in MODULES if hasattr(m, "__all__")], ids=lambda m: m.__name__)
def test_all_names_exist_and_no_class_of_the_module_is_left_out(module):
    assert set(module.__all__) <= vars(module).keys()
    classes = {n for n in public(module) if inspect.isclass(i := vars(module)[n]) and i.__module__ == module.__name__}
    assert classes <= set(module.__all__)


def test_both_distributions_have_one_version():
    assert gradserve.__version__ == gradserve_server.__version__


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_the_same_parameters_everywhere(verb):
    client, asynchronous, engine = (
        inspect.signature(getattr(cls, verb)).parameters for cls in (gradserve.Client, aio.Client, gradserve_server.Engine)
    )
    extra = set(engine) - set(client)
    assert extra == {
        "ascend": {"caller", "should_stop", "should_interrupt"},
        "activations": {"caller", "max_bytes"},
        **{key: set() for key in ("layers", "inspect", "models", "unload")},
        "load": {"override"},
    }.get(verb, {"caller"})
    assert list(asynchronous.items()) == list(client.items())
    assert [item for item in engine.items() if item[0] not in extra] == list(client.items())
    assert all(engine[name].kind is inspect.Parameter.KEYWORD_ONLY for name in extra)


def test_there_is_no_other_verb():
    assert methods(gradserve.Client) - set(VERBS) == {"close", "is_ready", "wait_until_ready"}
    assert methods(gradserve_server.Engine) - set(VERBS) == {"close", "infer_with", "model", "on_change"}


def test_the_asynchronous_client_has_every_method_of_the_other():
    assert methods(aio.Client) == methods(gradserve.Client)


@pytest.mark.parametrize("verb", VERBS)
def test_an_asynchronous_verb_is_asynchronous(verb):
    function = getattr(aio.Client, verb)
    assert inspect.isasyncgenfunction(function) if verb == "ascend" else inspect.iscoroutinefunction(function)


def test_clients_are_made_alike():
    assert inspect.signature(gradserve.Client).parameters == inspect.signature(aio.Client).parameters


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_a_module_has_a_docstring(module):
    assert module.__doc__


@pytest.mark.parametrize("item", DEFINED)
def test_what_is_public_has_a_docstring(item):
    doc = vars(item).get("__doc__") if inspect.isclass(item) else item.__doc__
    assert doc
    assert not doc.startswith(f"{item.__name__}("), "made by dataclass, not by hand"
    if not inspect.isclass(item):
        return
    for name, member in vars(item).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            assert function.__doc__, name


def test_every_error_can_be_made_with_a_text():
    for name in gradserve.errors.__all__:
        cls = getattr(gradserve.errors, name)
        if inspect.isclass(cls):
            assert issubclass(cls, GradserveError)
            assert str(cls("text")) == "text"
