"""The synchronous client."""

from collections.abc import Iterator, Mapping, Sequence
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

R = TypeVar("R")


class Client:
    """A connection to a gradserve server: `with Client("localhost:8001") as client: ...`.

    May be shared between threads. Every verb raises the exceptions of `gradserve.errors`.

    Args:
        target: Host and port, or any gRPC target.
        timeout: Seconds before a call is given up, with all its attempts; None waits. `ascend` is not timed.
        **settings: TLS, token, retries: see `gradserve.ConnectionSettings`.
    """

    def __init__(
        self,
        target: str = "localhost:8001",
        *,
        timeout: float | None = None,
        **settings: Unpack[ConnectionSettings],
    ) -> None:
        self._connection = Connection.of(target, **settings)
        self._channel = self._connection.open(grpc)
        self._timeout = timeout
        self._rpcs = rpcs_of(self._channel)

    def infer(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], *, outputs: Sequence[str] = (), version: str = ""
    ) -> dict[str, Array]:
        """Runs the model.

        Args:
            model: Its name.
            inputs: An array for each model input, with its batch axis.
            outputs: Which outputs; all by default.
            version: The latest by default.

        Returns:
            The outputs by name.
        """
        return self._invoke(_calls.infer(model, inputs, outputs, version))

    def gradient(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        objective: Objective,
        *,
        wrt: Sequence[str] = (),
        version: str = "",
    ) -> GradientResult:
        """The objective for each sample, and its gradient with respect to inputs.

        Args:
            model: Its name.
            inputs: An array for each model input, with its batch axis.
            objective: What to differentiate (`gradserve.objectives`).
            wrt: With respect to which inputs or layers; every float input by default. A layer is how a text model, whose
                inputs are integers, is differentiated: name what its embedding gives.
            version: The latest by default.
        """
        return self._invoke(_calls.gradient(model, inputs, objective, wrt, version))

    def vjp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        cotangents: Mapping[str, npt.ArrayLike],
        *,
        wrt: Sequence[str] = (),
        version: str = "",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The vector-Jacobian product.

        Args:
            model: Its name.
            inputs: An array for each model input, with its batch axis.
            cotangents: An array for each output or layer that takes part, shaped like it.
            wrt: With respect to which inputs or layers; every float input by default. A layer is how a text model, whose
                inputs are integers, is differentiated: name what its embedding gives.
            version: The latest by default.

        Returns:
            The values of the layers named in `cotangents`, and J^T v by input.
        """
        return self._invoke(_calls.vjp(model, inputs, cotangents, wrt, version))

    def jvp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        tangents: Mapping[str, npt.ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str = "",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The Jacobian-vector product: how outputs change along a direction.

        Args:
            model: Its name.
            inputs: An array for each model input, with its batch axis.
            tangents: A direction, shaped like the input or layer it is named after, for each that moves.
            outputs: Which outputs or layers; every output of the model by default.
            version: The latest by default.

        Returns:
            The values of the outputs, and J t by output.
        """
        return self._invoke(_calls.jvp(model, inputs, tangents, outputs, version))

    def hvp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        objective: Objective,
        tangents: Mapping[str, npt.ArrayLike],
        *,
        version: str = "",
    ) -> HessianResult:
        """The Hessian-vector product of an objective: how its gradient changes along a direction.

        Args:
            model: Its name.
            inputs: An array for each model input, with its batch axis.
            objective: What to differentiate twice (`gradserve.objectives`).
            tangents: A direction, shaped like the input or layer it is named after, for each that moves.
            version: The latest by default.
        """
        return self._invoke(_calls.hvp(model, inputs, objective, tangents, version))

    def activations(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], layers: Sequence[str], *, version: str = ""
    ) -> dict[str, Array]:
        """The values of layers, by name."""
        return self._invoke(_calls.activations(model, inputs, layers, version))

    def ascend(self, model: str, objective: Objective, **settings: Unpack[AscentSettings]) -> Iterator[Step]:
        """Changes an input step by step so that the objective grows.

        Nothing is asked of the server before the iterator is first read, and errors come then.
        Closing the iterator, or leaving the loop over it, stops the server within one step.

        Args:
            model: Its name.
            objective: What to make large.
            **settings: See `gradserve.AscentSettings`.

        Yields:
            A report for the start, every `report_every` steps, and the end.
        """
        call = _calls.ascend(model, objective, settings)
        responses = self._rpcs[call.rpc](call.request, metadata=self._connection.sent())
        try:
            for response in responses:
                yield call.parse(response)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        finally:
            responses.cancel()

    def layers(self, model: str, *, version: str = "") -> list[Layer]:
        """The tensors that objectives and `activations` can name, in the order of the graph."""
        return self._invoke(_calls.layers(model, version))

    def inspect(self, model: str, *, version: str = "") -> ModelDescription:
        """Inputs, outputs, image description and gradient backend."""
        return self._invoke(_calls.inspect(model, version))

    def doctor(self, model: str, inputs: Mapping[str, npt.ArrayLike] | None = None, *, version: str = "") -> Diagnosis:
        """What is wrong with a model of the repository, loaded or not: its graph is read, and run on samples.

        Args:
            model: Its name.
            inputs: Samples, an array for each model input with its batch axis; made up by default. Conflicts of statistics
                are judged on given ones only.
            version: The latest by default.

        Returns:
            The findings, the worst first, and what was measured.
        """
        return self._invoke(_calls.doctor(model, inputs, version))

    def is_ready(self, model: str = "") -> bool:
        """Whether the server, or a model on it, takes requests; not so while it shuts down.

        Args:
            model: Its name, or `name/version`; the server as a whole by default.

        Raises:
            ModelNotFound: No such model.
        """
        return self._invoke(_calls.is_ready(model))

    def models(self) -> list[ModelStatus]:
        """Every version of every model of the repository, loaded or not, by name and version."""
        return self._invoke(_calls.models())

    def load(self, model: str) -> list[ModelStatus]:
        """Loads a model, or loads it again: as the repository has it now. The server's mode must be `explicit`.

        No call fails meanwhile, and those that run finish on the version they began with. If the model cannot be loaded,
        what was served before goes on.

        Args:
            model: Its name in the repository.

        Returns:
            Its versions now.
        """
        return self._invoke(_calls.load(model))

    def unload(self, model: str) -> list[ModelStatus]:
        """Unloads a model: new calls do not find it, and those that run finish. The server's mode must be `explicit`.

        Args:
            model: Its name; of one that is not loaded, nothing happens.

        Returns:
            Its versions now.
        """
        return self._invoke(_calls.unload(model))

    def wait_until_ready(self, timeout: float) -> None:
        """Waits for the connection.

        Raises:
            ServerUnavailable: Nobody answered within `timeout` seconds.
        """
        try:
            grpc.channel_ready_future(self._channel).result(timeout)
        except grpc.FutureTimeoutError:
            msg = f"no server answered within {timeout} s"
            raise ServerUnavailable(msg) from None

    def close(self) -> None:
        """Ends the connection and cancels what still runs on it."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _invoke(self, call: Call[R]) -> R:
        try:
            return call.parse(self._rpcs[call.rpc](call.request, timeout=self._timeout, metadata=self._connection.sent()))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
