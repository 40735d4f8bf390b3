"""Whether a request that reads well may run: how many samples the model takes."""

from gradserve.errors import InvalidTensor
from gradserve_server.rpc.oip.codec import Asked
from gradserve_server.runtime.model import Model


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
