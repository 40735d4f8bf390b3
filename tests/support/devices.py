"""The devices of this machine beside the processor. What needs one is skipped without it."""

import pytest

from gradserve.errors import BackendMissing
from gradserve_server.runtime.device import NEEDS, Device, check_device


def missing(device: Device) -> str:
    """Why a device cannot be used here; "" where it can."""
    try:
        check_device(device)
    except BackendMissing as error:
        return str(error)
    return ""


MISSING = {device: missing(device) for device in NEEDS}

GPUS = [
    pytest.param(device, marks=pytest.mark.skipif(bool(why), reason=f"needs a GPU: {why}"))
    for device, why in MISSING.items()
]
"""Parameters of a test that needs a GPU."""
