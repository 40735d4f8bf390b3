"""What the installed onnxruntime can load."""

from gradserve_server.runtime.session import newest_opset

MAX_OPSET = newest_opset()
