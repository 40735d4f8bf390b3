"""A model whose configuration, and perhaps files, come with the request that loads it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from gradserve.errors import InvalidParameter, TooLarge
from gradserve_server.runtime.model_config import config_from_json
from gradserve_server.runtime.repository import Entry, Repository, entry_of, is_version

MAX_FILES = 64
"""Of one request."""

MAX_BYTES = 2**30
"""Of all files of one request. A message of the protocol is smaller still, unless the server is told to take larger ones."""

MAX_NAME_BYTES = 255
"""Of a file or folder, as file systems have it."""


@dataclass(frozen=True)
class Override:
    """What a request says about a model instead of the repository.

    Raises:
        InvalidParameter: A file without a configuration, or a path that is not <version>/<name>.
        TooLarge: Too many files, or too large.
    """

    config: str
    """An `inference.ModelConfig` in protobuf's JSON form."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By path: <version>/<name>. If there are any, they are the model: the repository's own versions do not count."""

    def __post_init__(self) -> None:
        if self.files and not self.config:
            msg = "parameter 'config': expected the model's configuration beside its files, got none"
            raise InvalidParameter(msg)
        for path in self.files:
            _check_path(path)
        size = sum(map(len, self.files.values()))
        if len(self.files) > MAX_FILES or size > MAX_BYTES:
            msg = (
                f"files of a model: at most {MAX_FILES} of {MAX_BYTES} bytes together, got {len(self.files)} of {size} bytes"
            )
            raise TooLarge(msg)


@contextmanager
def overridden(name: str, override: Override, repository: Repository) -> Iterator[Entry]:
    """A model of a repository, or a new one, as an override has it.

    Its files are in a private folder, and gone when this ends: a model that is loaded reads no file again.

    Args:
        name: Of the model.
        override: What the request says.
        repository: Has the versions if the override brings none; labels and samples for warming up in any case.

    Raises:
        InvalidParameter: A name that no folder can have, or a configuration that is none.
        ModelNotFound: No files come along, and the repository has no such model.
        InvalidModel: The configuration does not fit the files.
    """
    _check_name(name, f"model '{name}'")
    config = config_from_json(override.config, name)
    if not override.files:
        here = repository.read(name).folder
        if here is None:
            msg = f"model '{name}': parameter 'config': expected a model with a folder of its own, got a file"
            raise InvalidParameter(msg)
        yield entry_of(name, config, here, here)
        return
    with TemporaryDirectory(prefix="gradserve-model-") as made:
        folder = Path(made)
        for path, content in override.files.items():
            file = folder / path
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        yield entry_of(name, config, folder, repository.folder(name) or folder)


def _check_path(path: str) -> None:
    version, slash, name = path.partition("/")
    where = f"parameter 'file:{path}'"
    if not slash or not is_version(version) or len(version) > MAX_NAME_BYTES:
        msg = f"{where}: expected file:<version>/<name>"
        raise InvalidParameter(msg)
    _check_name(name, where)


def _check_name(name: str, where: str) -> None:
    """Makes sure that a name is of a file or folder, and leads nowhere else."""
    if name in ("", ".", "..") or set(name) & set("/\\\0") or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        msg = f"{where}: expected the name of a file in the model's folder, without separators"
        raise InvalidParameter(msg)
