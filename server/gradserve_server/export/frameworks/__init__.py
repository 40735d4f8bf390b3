"""Which framework something is of: by its classes, so that nothing is imported that is not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradserve.errors import InvalidParameter
from gradserve_server.export.frameworks import keras3, pytorch, sklearn_pipelines
from gradserve_server.export.frameworks.exportable import Exportable
from gradserve_server.export.settings import Settings
from gradserve_server.export.subject import make, suffix_of

__all__ = ["FRAMEWORKS", "READERS", "exportable"]

FRAMEWORKS: dict[str, Callable[[Any, Settings], Exportable]] = {
    "keras": keras3.adapt,  # before torch: on torch a Keras model is of both
    "torch": pytorch.adapt,
    "sklearn": sklearn_pipelines.adapt,
}
"""By the package of a base class, the most special first."""

READERS: dict[str, Callable[[Path], Any]] = {".keras": keras3.read, ".skops": sklearn_pipelines.read}
"""By the ending of the file."""


def exportable(subject: str, settings: Settings) -> Exportable:
    """Makes or reads what is to be exported.

    Args:
        subject: `package.module:factory`, or a .keras or .skops file.
        settings: Of the export.

    Raises:
        InvalidParameter: There is no such subject, or settings do not fit it.
        InvalidModel: It cannot be exported.
        BackendMissing: Its framework is not installed.
    """
    suffix = suffix_of(subject)
    if suffix and suffix not in READERS:
        msg = f"subject '{subject}': expected package.module:factory, or a file that ends in {' or '.join(READERS)}"
        raise InvalidParameter(msg)
    if suffix and settings.get("arguments"):
        msg = f"subject '{subject}': expected no arguments, because a file is no factory"
        raise InvalidParameter(msg)
    made = READERS[suffix](Path(subject)) if suffix else make(subject, settings.get("arguments", {}))
    packages = {cls.__module__.partition(".")[0] for cls in type(made).__mro__}
    for package, adapt in FRAMEWORKS.items():
        if package in packages:
            return adapt(made, settings)
    kinds = "a torch.nn.Module, a keras.Model or a scikit-learn estimator"
    msg = f"subject '{subject}': expected {kinds}, got a {type(made).__name__}"
    raise InvalidParameter(msg)
