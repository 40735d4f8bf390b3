"""The doctor's dynamic part: it runs a model, measures, and repairs. What the graph alone tells is in `graph.doctor`."""

from gradserve_server.runtime.doctor.examine import examine

__all__ = ["examine"]
