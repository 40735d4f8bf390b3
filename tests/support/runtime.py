"""What the installed onnxruntime can load, and differentiate."""

import onnxruntime
import pytest

from gradserve_server.graph.autodiff import ort_training
from gradserve_server.runtime.session import newest_opset

MAX_OPSET = newest_opset()
TOO_OLD = "1.19" if tuple(map(int, onnxruntime.__version__.split(".")[:2])) <= (1, 19) else ""
"""The training wheel's release."""

in_training = pytest.mark.skipif(not ort_training.available(), reason="no gradient builder here")
"""For what needs the training wheel; onnxruntime's own Python package `training` needs torch as well."""

BACKENDS = [pytest.param("training", marks=in_training), "portable"]
"""Those that make gradients."""
