"""Backward graphs: what may be differentiated (`path`, asking a `judge`), and who builds them.

Two backends: `ort_training` (onnxruntime-training's builder, then `lowering`), and `portable` (the `reverse` walk over the
table in `rules`). Importing the package fills the table: each `vjp_*` module registers the rules of one family, and
`no_gradient` what has none.
"""

import pkgutil
from importlib import import_module

for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("vjp_") or _module.name == "no_gradient":
        import_module(f"{__name__}.{_module.name}")
