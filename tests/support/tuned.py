"""Graphs before and after tuning, side by side."""

from collections import Counter

import onnx_ir as ir
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.tuning import Machine, tune
from gradserve_server.runtime.block_size import block_size
from gradserve_server.runtime.session import Session

OURS = Machine(None, operators=True)
"""Our operators, and no layout of onnxruntime's."""

BLOCKS = Machine(block_size(), operators=True)
"""Both."""


def tuned_of(proto, machine=OURS):
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model, tuned_for(machine, model)


def tuned_for(machine, model):
    tuned = model.clone()
    tune(tuned, machine)
    return tuned


def operators_of(model):
    return Counter(node.op_type for node in model.graph)


def assert_same(model, tuned, feeds, tolerance="float32 operator"):
    expected, got = Session(model, 2).run(feeds), Session(tuned, 2).run(feeds)
    for name, array in expected.items():
        assert got[name].shape == array.shape
        assert not array.size or relative_error(got[name], array) < TOLERANCE[tolerance], name
