"""Exports at full size: real architectures through `gradserve export`, each verified against PyTorch in float64.

    PYTHONPATH=benchmarks python -m exports [NAME ...] [--exporters dynamo torchscript] [--output FOLDER]

The networks are transformers' own at their published sizes, with seeded random weights that all matter (`zoo.randomize`).
Time and memory are those of the whole command. Fails if an export does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SEED = 1
"""With 0, ResNet-50's samples are too near kinks to verify anything."""
HERE = Path(__file__).parent
COLUMNS = ("network", "exporter", "seconds", "memory", "file", "outputs", "gradients", "doubt")


@dataclass(frozen=True)
class Network:
    """An architecture of transformers.

    Attributes:
        kind: Of its classes: `ResNetForImageClassification` and `ResNetConfig` are of "ResNet".
        settings: Of its configuration, where the default is another size.
        task: The rest of its class's name.
        input: Its name and its shape.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    task: str = "ForImageClassification"
    input: tuple[str, tuple[int, ...]] = ("pixel_values", (1, 3, 224, 224))


NETWORKS = {
    "resnet50": Network("ResNet"),
    "mobilenetv2": Network("MobileNetV2"),
    "convnext_tiny": Network("ConvNext"),
    "vit_b16": Network("ViT"),
    "swin_t": Network("Swin"),
    "efficientnet_b0": Network(
        "EfficientNet", {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "hidden_dim": 1280}
    ),
    "bert_base": Network("Bert", task="ForSequenceClassification", input=("inputs_embeds", (1, 128, 768))),
}


def network(name: str) -> Any:
    """The factory that is exported."""
    from zoo.libraries import prepare_imports

    prepare_imports()
    import torch
    import transformers
    from zoo.randomize import randomize

    one = NETWORKS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{one.kind}Config")(num_labels=1000, **one.settings)
    made = getattr(transformers, one.kind + one.task)(config).eval()
    argument, (_, *sizes) = one.input
    inputs = torch.randn(4, *sizes, generator=torch.Generator().manual_seed(1))
    randomize(made, lambda: made(**{argument: inputs}), 0)
    return made


def main() -> int:
    """Prints a row for each; returns how many failed."""
    options = _options()
    table, failed = Table(*COLUMNS), 0
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or NETWORKS:
            for exporter in options.exporters:
                row = export(name, exporter, options.output or Path(temporary))
                failed += len(row) < len(COLUMNS)
                table.add_row(*row)
                sys.stderr.write("  ".join(row) + "\n")
    Console(width=120).print(table)
    return failed


def export(name: str, exporter: str, repository: Path) -> tuple[str, ...]:
    """A row of the table; one that ends early says why."""
    argument, shape = NETWORKS[name].input
    command = [
        str(Path(sys.executable).with_name("gradserve")),
        "export",
        "exports:network",
        "--set",
        f"name={name}",
        "--json",
    ]
    command += ["--name", f"{name}_{exporter}", "--exporter", exporter, "-o", str(repository)]
    command += ["--input", f"{argument}={'x'.join(map(str, shape))}", "--outputs", "logits", "--seed", str(SEED)]
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as wrong:
        process = subprocess.Popen(command, stdout=said, stderr=wrong, env=os.environ | {"PYTHONPATH": path})
        _, status, used = os.wait4(process.pid, 0)
        seconds, process.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
        said.seek(0)
        wrong.seek(0)
        if process.returncode:
            lines = wrong.read().decode().strip().splitlines()
            return name, exporter, f"{seconds:.0f} s", lines[-1] if lines else f"exit {process.returncode}"
        report = json.load(said)
    memory = used.ru_maxrss / 2**20
    checks = report["checks"]
    worst = {
        kind: max(check["difference"] for check in checks if check["what"].startswith("d ") == (kind == "gradients"))
        for kind in ("outputs", "gradients")
    }
    return (
        *(name, exporter, f"{seconds:.0f} s", f"{memory:.1f} GiB", f"{Path(report['file']).stat().st_size / 2**20:.0f} MiB"),
        *(f"{worst[kind]:.1e}" for kind in worst),
        f"{max(check['doubt'] for check in checks):.1e}",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m exports", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []], metavar="NAME", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--exporters", nargs="+", default=["dynamo"], choices=("dynamo", "torchscript"))
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="keep the repository")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main() > 0)
