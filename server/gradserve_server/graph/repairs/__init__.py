"""Changes to a model file that the doctor offers, beside those that every load makes (`inference_form`): one to a file.

They work in place, say in words what they did, and raise `CannotRepair` where the graph does not allow it.
"""

from gradserve_server.graph.repairs.cannot import CannotRepair
from gradserve_server.graph.repairs.cut_softmax import cut_softmax
from gradserve_server.graph.repairs.drop_statistics import drop_statistics
from gradserve_server.graph.repairs.modernize import modernize
from gradserve_server.graph.repairs.open_batch import open_batch

__all__ = ["CannotRepair", "cut_softmax", "drop_statistics", "modernize", "open_batch"]
