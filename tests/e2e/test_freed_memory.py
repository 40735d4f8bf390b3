"""A server keeps the memory of a message for the next one."""

import resource
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from support.onnx_models import build, save
from support.server_process import ServerProcess

import gradserve

CALLS = 30  # each of a dozen threads has memory of its own, and is cold once
IMAGES = {"x": np.zeros((8, 3, 224, 224), np.float32)}
PAGES = IMAGES["x"].nbytes // resource.getpagesize()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of glibc; reads /proc")


def pages_of_a_call(tmp_path, **environment):
    """How many pages a server gets from the system for a prediction, once it has answered some: the median.

    A call that another of its threads answers than before finds that thread's memory cold.
    """
    model = build("y = Neg(x)", inputs="float[N,3,224,224] x", outputs="float[N,3,224,224] y")
    repository = save(model, tmp_path / "m.onnx")
    with ServerProcess(repository=repository, environment=environment) as server, gradserve.Client(server.address) as client:

        def pages():
            client.infer("m", IMAGES)
            return int(Path(f"/proc/{server.os.pid}/stat").read_text().rpartition(")")[2].split()[7])

        return statistics.median(np.diff([pages() for _ in range(2 * CALLS)])[CALLS:])


def test_a_call_gets_no_memory_from_the_system(tmp_path):
    assert pages_of_a_call(tmp_path) < 0.1 * PAGES


def test_what_the_environment_says_of_the_allocator_is_left_as_it_is(tmp_path):
    assert pages_of_a_call(tmp_path, MALLOC_MMAP_THRESHOLD_="131072") > PAGES
