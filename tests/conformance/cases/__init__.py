"""Cases, one module for each family of rules; `CASES` is all of them."""

import pkgutil
from importlib import import_module

from conformance.case import Case

CASES: list[Case] = [
    case
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
    for case in import_module(f"{__name__}.{module.name}").CASES
]
