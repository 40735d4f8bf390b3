"""What each target's instructions make of the same cases, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from support.paths import WITH_TESTS

from gradserve_server import kernels

TARGETS = kernels.simd_targets()


def by_target(module: str, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays that `python -m module FILE.npz` writes, by target."""
    found = {}
    for target in TARGETS:
        path = folder / f"{target}.npz"
        environment = os.environ | WITH_TESTS | {"GRADSERVE_MAX_SIMD": target}
        command = [sys.executable, "-m", module, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[target] = dict(np.load(path))
    return found
