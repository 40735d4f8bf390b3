"""Checks the zoo itself: that both exporters' files give torch's outputs in onnxruntime, and that its references are usable.

    cd benchmarks && python -m zoo.check --exports torchscript-17 dynamo-18 dynamo-23 --python dynamo-23=/path/of/python swin

An opset above 21 needs a newer onnxruntime than the training wheel: name a Python that has one. Writes one JSON line
for each architecture and export; fails if one is not as the table says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import Architecture, Exporter, Probed, export, load_table, reference

TOLERANCE = 1e-4
BATCHES = (2, 3)


def main() -> int:
    """Checks what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--exports", nargs="+", default=["torchscript-17", "dynamo-18"], help="exporter-opset")
    parser.add_argument("--python", action="append", default=[], help="exporter-opset=a Python whose onnxruntime runs it")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pythons = dict(pair.split("=", 1) for pair in arguments.python)
    table = load_table()
    wrong = 0
    for name in arguments.names or table:
        architecture = table[name]
        start = time.perf_counter()
        module = architecture.module()
        inputs = architecture.inputs()
        truth = reference(module, inputs, architecture.wrt)
        row = {
            "name": name,
            "family": architecture.family,
            "oracle_s": round(time.perf_counter() - start, 2),
            "sensitivity": truth.sensitivity,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "unit_norm": float(np.linalg.norm(truth.unit.gradient)),
            "product_norm": float(np.linalg.norm(truth.product.gradient)),
        }
        print(json.dumps(row), flush=True)
        for wanted in arguments.exports:
            exporter, opset = wanted.split("-")
            result = check(architecture, module, Exporter(exporter), int(opset), pythons.get(wanted, sys.executable))
            wrong += not result["as_known"]
            print(json.dumps({"name": name, "export": wanted, **result}), flush=True)
    return 1 if wrong else 0


def check(architecture: Architecture, module: Probed, exporter: Exporter, opset: int, python: str) -> dict[str, Any]:
    """Exports, runs and compares; says whether that went as the table says."""
    known = architecture.why(architecture.fails, exporter, opset)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        try:
            exported = export(module, architecture.inputs(2), path, exporter, opset)
        except Exception as error:
            return {"as_known": known is not None, "failure": f"{type(error).__name__}: {str(error)[-300:]}"}
        result: dict[str, Any] = {
            "seconds": round(time.perf_counter() - start, 1),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            "opset": exported.opset,
            "batch_is_symbolic": exported.batch_is_symbolic,
            "operators": sorted(exported.operators),
        }
        np.savez(Path(folder, "batches.npz"), **expected(architecture, module))
        command = [python, str(Path(__file__).with_name("run_file.py")), str(path), str(Path(folder, "batches.npz"))]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            return {**result, "as_known": known is not None, "failure": ran.stderr[-300:]}
    errors = json.loads(ran.stdout)
    fits = {batch: isinstance(of, dict) and max(of.values()) <= TOLERANCE for batch, of in errors.items()}
    fixed = architecture.why(architecture.fixed_batch, exporter, opset) is not None
    as_known = known is None and fits["2"] and fits["3"] != fixed and exported.opset == opset
    return {**result, "as_known": as_known, "errors": errors}


def expected(architecture: Architecture, module: Probed) -> dict[str, Any]:
    """Runs torch on a batch of the size of the example and on one of another."""
    arrays: dict[str, Any] = {}
    for batch in BATCHES:
        inputs = architecture.inputs(batch)
        with torch.no_grad():
            outputs = module(*inputs.values())
        arrays.update({f"{batch}/in/{name}": value.numpy() for name, value in inputs.items()})
        arrays.update(
            {f"{batch}/out/{name}": value.numpy() for name, value in zip(module.output_names, outputs, strict=True)}
        )
    return arrays


if __name__ == "__main__":
    sys.exit(main())
