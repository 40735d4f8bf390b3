"""Whether a request that reads well may run: how long it has waited, and how many samples the model takes."""

from gradserve.errors import InvalidTensor, LimitExceeded
from gradserve_server.rpc.oip.codec import Asked
from gradserve_server.runtime.model import Model


def check_timeout(asked: Asked, waited_ns: int) -> None:
    """Makes sure that a request has not waited longer than it wanted to.

    Raises:
        LimitExceeded: It has.
    """
    if 0 < asked.timeout_us * 1000 < waited_ns:
        msg = f"parameter 'timeout': expected to start within {asked.timeout_us} us, waited {waited_ns // 1000} us"
        raise LimitExceeded(msg)


def check_batch(asked: Asked, model: Model) -> None:
    """Makes sure that a request has no more samples than its model's configuration allows.

    Raises:
        InvalidTensor: It has.
    """
    largest = model.config.max_batch_size
    ranks = {tensor.name: len(tensor.shape) for tensor in model.inputs}
    for name, array in asked.inputs.items():
        # Of another rank, its first axis is no batch; the engine says so.
        if largest and array.ndim and array.ndim == ranks.get(name) and array.shape[0] > largest:
            msg = f"input '{name}': expected at most {largest} samples (max_batch_size of the model), got {array.shape[0]}"
            raise InvalidTensor(msg)
