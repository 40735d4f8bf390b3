"""Who made a call, as the engine wants to know it."""

import math
import time
from collections.abc import Callable

import grpc

from gradserve_server.runtime.caller import Caller


def caller_of(context: grpc.ServicerContext, waited: Callable[[float], None] | None = None) -> Caller:
    """Who made a call: gone once it is over, and in no need of an answer after its deadline.

    Args:
        context: Of the call.
        waited: Told how many seconds its run waited for the device.
    """
    remaining = context.time_remaining()
    deadline = math.inf if remaining is None else time.monotonic() + remaining
    return Caller(lambda: not context.is_active(), deadline, waited)
