"""Who says which models are loaded, and when: the modes of Triton's model control."""

import logging
from collections.abc import Sequence
from enum import StrEnum

from gradserve.errors import ControlDisabled, GradserveError
from gradserve_server.runtime.overrides import Override
from gradserve_server.runtime.polling import Poller
from gradserve_server.runtime.registry import Registry
from gradserve_server.runtime.repository import Repository, no_model

_log = logging.getLogger(__name__)

EVERY = "*"
"""In place of a name: every model of the repository."""


class Mode(StrEnum):
    """When models are loaded; the names are Triton's."""

    NONE = "none"
    """All at the start, and that is all."""
    EXPLICIT = "explicit"
    """Those that are named at the start, others when they are asked for."""
    POLL = "poll"
    """As the repository has them, at the start and later."""


class ModelControl:
    """Loads and unloads by a mode.

    Args:
        repository: Where models are.
        registry: Serves them.
        mode: When.
        poll_seconds: From one look at the repository to the next.
    """

    def __init__(self, repository: Repository, registry: Registry, mode: Mode, poll_seconds: float) -> None:
        self._repository, self._registry, self._mode = repository, registry, mode
        self._poller = Poller(repository, registry, poll_seconds)

    def start(self, names: Sequence[str], *, exit_on_error: bool) -> None:
        """Loads what is served from the start, and begins to poll.

        Args:
            names: In mode `explicit`: what to load.
            exit_on_error: Whether the first model that cannot be loaded is an error. Otherwise the index says why.

        Raises:
            ModelNotFound: There is no model, in mode `none`.
            GradserveError: A model that cannot be loaded, if that is an error.
        """
        if self._mode is Mode.POLL:
            self._poller.first_look()
        for name in self._first(names):
            try:
                self._registry.load(name)
            except GradserveError as error:
                if exit_on_error:
                    raise
                _log.warning("started without a model: %s", error)
        if self._mode is Mode.POLL:
            self._poller.start()

    def load(self, name: str, override: Override | None) -> None:
        """See `Registry.load`.

        Raises:
            ControlDisabled: The mode is another one than `explicit`.
        """
        self._check()
        self._registry.load(name, override)

    def unload(self, name: str) -> None:
        """See `Registry.unload`.

        Raises:
            ControlDisabled: The mode is another one than `explicit`.
        """
        self._check()
        self._registry.unload(name)

    def close(self) -> None:
        """Loads no more, and lets go of every model."""
        self._poller.close()
        self._registry.close()

    def _first(self, names: Sequence[str]) -> list[str]:
        present = self._repository.names()
        if self._mode is Mode.EXPLICIT:
            return [name for asked in names for name in (present if asked == EVERY else [asked])]
        if not present and self._mode is Mode.NONE:
            raise no_model(self._repository)
        return present

    def _check(self) -> None:
        if self._mode is not Mode.EXPLICIT:
            msg = f"models are loaded and unloaded on request only with model_control_mode 'explicit', got '{self._mode}'"
            raise ControlDisabled(msg)
