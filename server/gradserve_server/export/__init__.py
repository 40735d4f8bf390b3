"""Networks of PyTorch, Keras and scikit-learn become models of a repository: `gradserve export`.

Frameworks are optional extras: nothing of one is imported until it is asked for, and nothing outside of this package ever
imports one.
"""

from gradserve_server.export.run import export_model
from gradserve_server.export.settings import Check, Input, Report, Settings

__all__ = ["Check", "Input", "Report", "Settings", "export_model"]
