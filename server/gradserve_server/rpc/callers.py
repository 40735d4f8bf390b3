"""Who made a call, as the engine wants to know it."""

import math
import threading
import time
from collections.abc import Callable

import grpc

from gradserve_server.rpc.identity import identity_of
from gradserve_server.runtime.caller import Caller


def caller_of(
    context: grpc.ServicerContext,
    waited: Callable[[float], None] | None = None,
    ran: Callable[[int, bool], None] | None = None,
    *,
    priority: int = 0,
    timeout_us: int = 0,
    waited_ns: int = 0,
) -> Caller:
    """Who made a call: gone once it is over, and in no need of an answer after its deadline.

    Args:
        context: Of the call.
        waited: Told how many seconds its run waited for the device.
        ran: Told with how many samples its run was (`Caller.ran`).
        priority: The level that a prediction asks for.
        timeout_us: Microseconds that a prediction would wait at most.
        waited_ns: How long it has waited already.
    """
    now, remaining = time.monotonic(), context.time_remaining()
    deadline = math.inf if remaining is None else now + remaining
    return Caller(
        over(context),
        deadline,
        waited,
        ran,
        identity=identity_of(context),
        priority=priority,
        timeout=timeout_us * 1e-6,
        arrived=now - waited_ns * 1e-9,
    )


def over(context: grpc.ServicerContext) -> Callable[[], bool]:
    """Says whether a call is over. Ascents ask several times in every step, and `context.is_active` waits for a lock."""
    ended = threading.Event()
    if not context.add_callback(ended.set):
        ended.set()
    return ended.is_set
