"""The asynchronous client: `async with gradserve.aio.Client("localhost:8001") as client: ...`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
import numpy.typing as npt

from gradserve import _calls
from gradserve._calls import Array, Call, GradientResult, HessianResult
from gradserve._status import from_rpc_error
from gradserve.ascents import AscentSettings, Step
from gradserve.connection import Connection, ConnectionSettings
from gradserve.descriptions import Layer, ModelDescription, ModelStatus
from gradserve.diagnosis import Diagnosis
from gradserve.errors import ServerUnavailable
from gradserve.objectives import Objective
from gradserve.rpcs import rpcs_of

__all__ = ["Client"]

R = TypeVar("R")


class Client:
    """As `gradserve.Client`, verb for verb, for asyncio. Make it inside a running loop."""

    def __init__(
        self,
        target: str = "localhost:8001",
        *,
        timeout: float | None = None,
        **settings: Unpack[ConnectionSettings],
    ) -> None:
        self._connection = Connection.of(target, **settings)
        self._channel = self._connection.open(grpc.aio)
        self._timeout = timeout
        self._rpcs = rpcs_of(self._channel)

    async def infer(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], *, outputs: Sequence[str] = (), version: str = ""
    ) -> dict[str, Array]:
        """As `gradserve.Client.infer`."""
        return await self._invoke(_calls.infer(model, inputs, outputs, version))

    async def gradient(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        objective: Objective,
        *,
        wrt: Sequence[str] = (),
        version: str = "",
    ) -> GradientResult:
        """As `gradserve.Client.gradient`."""
        return await self._invoke(_calls.gradient(model, inputs, objective, wrt, version))

    async def vjp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        cotangents: Mapping[str, npt.ArrayLike],
        *,
        wrt: Sequence[str] = (),
        version: str = "",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """As `gradserve.Client.vjp`."""
        return await self._invoke(_calls.vjp(model, inputs, cotangents, wrt, version))

    async def jvp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        tangents: Mapping[str, npt.ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str = "",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The Jacobian-vector product. See `gradserve.Client.jvp`."""
        return await self._invoke(_calls.jvp(model, inputs, tangents, outputs, version))

    async def hvp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        objective: Objective,
        tangents: Mapping[str, npt.ArrayLike],
        *,
        version: str = "",
    ) -> HessianResult:
        """The Hessian-vector product of an objective. See `gradserve.Client.hvp`."""
        return await self._invoke(_calls.hvp(model, inputs, objective, tangents, version))

    async def activations(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], layers: Sequence[str], *, version: str = ""
    ) -> dict[str, Array]:
        """As `gradserve.Client.activations`."""
        return await self._invoke(_calls.activations(model, inputs, layers, version))

    async def ascend(self, model: str, objective: Objective, **settings: Unpack[AscentSettings]) -> AsyncIterator[Step]:
        """As `gradserve.Client.ascend`: `async for step in client.ascend(...)`."""
        call = _calls.ascend(model, objective, settings)
        responses = self._rpcs[call.rpc](call.request, metadata=self._connection.sent())
        try:
            async for response in responses:
                yield call.parse(response)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        finally:
            responses.cancel()

    async def layers(self, model: str, *, version: str = "") -> list[Layer]:
        """As `gradserve.Client.layers`."""
        return await self._invoke(_calls.layers(model, version))

    async def inspect(self, model: str, *, version: str = "") -> ModelDescription:
        """As `gradserve.Client.inspect`."""
        return await self._invoke(_calls.inspect(model, version))

    async def doctor(self, model: str, inputs: Mapping[str, npt.ArrayLike] | None = None, *, version: str = "") -> Diagnosis:
        """As `gradserve.Client.doctor`."""
        return await self._invoke(_calls.doctor(model, inputs, version))

    async def is_ready(self, model: str = "") -> bool:
        """As `gradserve.Client.is_ready`."""
        return await self._invoke(_calls.is_ready(model))

    async def models(self) -> list[ModelStatus]:
        """As `gradserve.Client.models`."""
        return await self._invoke(_calls.models())

    async def load(self, model: str) -> list[ModelStatus]:
        """As `gradserve.Client.load`."""
        return await self._invoke(_calls.load(model))

    async def unload(self, model: str) -> list[ModelStatus]:
        """As `gradserve.Client.unload`."""
        return await self._invoke(_calls.unload(model))

    async def wait_until_ready(self, timeout: float) -> None:
        """As `gradserve.Client.wait_until_ready`."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), timeout)
        except TimeoutError:
            msg = f"no server answered within {timeout} s"
            raise ServerUnavailable(msg) from None

    async def close(self) -> None:
        """Ends the connection and cancels what still runs on it."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _invoke(self, call: Call[R]) -> R:
        try:
            return call.parse(
                await self._rpcs[call.rpc](call.request, timeout=self._timeout, metadata=self._connection.sent())
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
