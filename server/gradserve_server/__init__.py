"""gradserve's engine and server. `Engine` has the verbs of `gradserve.Client`, in process."""

from gradserve_server.config import EngineConfig, ServerConfig
from gradserve_server.doctor import diagnose, repair
from gradserve_server.engine import Engine
from gradserve_server.gradient_graph import gradient_graph, save_gradient_graph
from gradserve_server.runtime.caller import Caller

__version__ = "0.1.0"

__all__ = ["Caller", "Engine", "EngineConfig", "ServerConfig", "diagnose", "gradient_graph", "repair", "save_gradient_graph"]
