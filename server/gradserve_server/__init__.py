"""gradserve's engine and server. `Engine` has the verbs of `gradserve.Client`, in process."""

from gradserve_server.config import EngineConfig, ServerConfig
from gradserve_server.engine import Engine

__version__ = "0.1.0"

__all__ = ["Engine", "EngineConfig", "ServerConfig"]
