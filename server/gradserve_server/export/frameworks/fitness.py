"""What a module on torch must be, so that exporting it makes sense."""

from itertools import chain
from typing import Any

from gradserve.errors import InvalidModel, InvalidParameter
from gradserve_server.export.extras import need


def check_kind(network: Any) -> None:
    """Makes sure that it is a module of Python whose parameters are there.

    Raises:
        InvalidParameter: A compiled one, or a lazy one that has not run.
    """
    torch = need("torch")
    if isinstance(network, torch.jit.ScriptModule):
        msg = "network: expected a module of Python, got a ScriptModule: give the factory of what was scripted"
        raise InvalidParameter(msg)
    for name, parameter in chain(network.named_parameters(), network.named_buffers()):
        if torch.nn.parameter.is_lazy(parameter):
            msg = f"parameter '{name}': expected one that is there, got a lazy one: run the network once in the factory"
            raise InvalidParameter(msg)


def check_numbers(network: Any) -> None:
    """Makes sure that its weights can be compared.

    Raises:
        InvalidModel: Some are complex, or NaN.
    """
    for name, parameter in network.named_parameters():
        if parameter.is_complex():
            msg = f"parameter '{name}': expected real numbers, got {str(parameter.dtype).removeprefix('torch.')}"
            raise InvalidModel(msg)
        if bool(parameter.isnan().any()):
            msg = f"parameter '{name}': expected numbers, got {int(parameter.isnan().sum())} NaN: training diverged"
            raise InvalidModel(msg)
