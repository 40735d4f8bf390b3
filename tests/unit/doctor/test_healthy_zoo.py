"""Architectures of the zoo, exported by torch as they are: the doctor has remarks, and no error."""

import importlib.util

import pytest

from gradserve_server import EngineConfig, diagnose

NEEDED = ("timm", "torch", "torchvision", "transformers")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs the extra `zoo`"),
]
CHEAP = ("lstm", "mobilenetv2_050", "repvgg_a0", "resnet18", "tabular_mlp", "vgg11_bn", "vit_tiny_patch16_224")
REMARKS = {"batchnorm-foldable", "batchnorm-scale-dead", "normalization-undescribed"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("constant_folding", [True, False], ids=["folded", "as it is"])
@pytest.mark.parametrize("name", CHEAP)
def test_there_is_no_error(name, constant_folding, tmp_path):
    from zoo import load_table
    from zoo.export import Exporter, export

    architecture = load_table()[name]
    path = tmp_path / "model.onnx"
    export(architecture.module(), architecture.inputs(), path, Exporter.TORCHSCRIPT, 17, constant_folding=constant_folding)
    diagnosis = diagnose(path, config=EngineConfig(threads=1))
    assert {finding.code for finding in diagnosis.findings} <= REMARKS
    assert diagnosis.samples
