"""Lets torchvision (which timm imports) and transformers be imported where their own imports trip."""

import importlib.util
import sys
from pathlib import Path
from typing import Any, cast

import torch

DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # An operator lives as long as the library that declares it.


def prepare_imports() -> None:
    """Is called before anything imports timm, torchvision or transformers; harmless when called again."""
    declare_operators_of_torchvision()
    hide_kernels_from_transformers()


def declare_operators_of_torchvision() -> None:
    """Declares the operators that `import torchvision` needs, if its own library cannot.

    Its wheel on PyPI is the CUDA build. Beside a CPU build of torch its compiled library does not load, and then the import
    fails, because two of its operators are given a meta kernel without having been declared. The zoo uses no compiled
    operator of torchvision, so it is enough to declare the two.
    """
    spec = importlib.util.find_spec("torchvision")
    if _libraries or spec is None or not spec.submodule_search_locations:
        return
    try:
        torch.ops.load_library(str(Path(spec.submodule_search_locations[0], "_C.so")))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for declaration in DECLARATIONS:
            library.define(declaration)
        _libraries.append(library)


def hide_kernels_from_transformers() -> None:
    """Has transformers decide that there is no package `kernels`: with `benchmarks` on the path it would import ours."""
    if "kernels" in sys.modules or "transformers" in sys.modules:
        return
    modules = cast("dict[str, Any]", sys.modules)
    modules["kernels"] = None
    try:
        from transformers.utils import import_utils

        import_utils.is_kernels_available()  # It remembers the answer.
    finally:
        del modules["kernels"]
