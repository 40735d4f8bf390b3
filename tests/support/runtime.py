"""What the installed onnxruntime can load."""

import onnxruntime

from gradserve_server.runtime.session import newest_opset

MAX_OPSET = newest_opset()
TOO_OLD = "1.19" if tuple(map(int, onnxruntime.__version__.split(".")[:2])) <= (1, 19) else ""
"""The training wheel's release."""
