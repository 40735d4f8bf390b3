"""What of the rules only one runtime can tell: `--beyond-training`, docs/testing.md."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_evaluator_only.py", "test_moving_ties.py", "test_rules.py"]
"""Their cases are functions of torch."""

TRAINING_OPSET = 21
"""The newest that the training wheel's onnxruntime knows."""


def pytest_addoption(parser):
    parser.addoption(
        "--beyond-training",
        action="store_true",
        help="of the rules' cases only what the training wheel cannot run, and each at its oldest opset",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--beyond-training"):
        config.hook.pytest_deselected(items=[item for item in items if not beyond_training(item)])
        items[:] = filter(beyond_training, items)


def beyond_training(item):
    """Whether another onnxruntime than the training wheel's may find what that one did not."""
    if item.get_closest_marker("any_runtime"):
        return False
    given = item.callspec.params if hasattr(item, "callspec") else {}
    case, opset, dynamic = (given.get(name) for name in ("case", "opset", "dynamic"))
    if case is None or opset is None or opset > TRAINING_OPSET or case.too_old:
        return True
    return opset == case.opsets[0] and dynamic in (None, case.dynamic[-1])
