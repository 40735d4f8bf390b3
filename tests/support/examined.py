"""Models written to files and examined."""

from pathlib import Path

import onnx

from gradserve_server import EngineConfig, diagnose


def examined(model: onnx.ModelProto, folder: Path, data=None, *, external: bool = False, **settings):
    """What the doctor says of a model."""
    path = folder / "model.onnx"
    if external:
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    else:
        onnx.save(model, path)
    return diagnose(path, data, config=EngineConfig(threads=1), **settings)


def codes(diagnosis) -> set[str]:
    """Of its findings."""
    return {finding.code for finding in diagnosis.findings}
