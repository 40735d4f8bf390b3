"""Where an ascent stood, so that it can go on later and elsewhere: `Checkpoint`, and its bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from gradserve.errors import InvalidAscent
from gradserve.tensors import Array, add_named, named_from_wire
from gradserve.v1 import checkpoint_pb2 as pb

__all__ = ["FORMAT", "Checkpoint", "checkpoint_from_wire", "checkpoint_to_wire"]

FORMAT = 1
"""Of the message. It changes only if older readers would misread a newer one; more settings or arrays are no new format."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An ascent between two steps: `client.ascend(..., resume=checkpoint)` goes on, to the bytes of one never interrupted.

    Save it with `path.write_bytes(checkpoint.to_bytes())`, and read it with `Checkpoint.from_bytes(path.read_bytes())`.
    """

    index: int
    """Updates made so far."""
    settings: Mapping[str, str]
    """What decides every later step, as text by name; it must be the same where the ascent goes on."""
    arrays: Mapping[str, Array]
    """The state, by name: "image" is [count, C, H, W] in pixel space."""
    format: int = FORMAT
    """Whoever goes on from it must know this format; whoever only keeps it need not."""

    def to_bytes(self) -> bytes:
        """A file's content; the same checkpoint gives the same bytes."""
        return checkpoint_to_wire(self).SerializeToString(deterministic=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """The opposite of `to_bytes`.

        Raises:
            InvalidAscent: These bytes are no checkpoint.
            InvalidTensor: One of its arrays cannot be read.
        """
        try:
            return checkpoint_from_wire(pb.Checkpoint.FromString(data))
        except DecodeError as error:
            msg = f"checkpoint: expected what Checkpoint.to_bytes gives, got {len(data)} other bytes"
            raise InvalidAscent(msg) from error


def checkpoint_to_wire(checkpoint: Checkpoint) -> pb.Checkpoint:
    """A checkpoint as a message."""
    message = pb.Checkpoint(format=checkpoint.format, index=checkpoint.index, settings=checkpoint.settings)
    add_named(message.arrays, checkpoint.arrays)
    return message


def checkpoint_from_wire(message: pb.Checkpoint) -> Checkpoint:
    """A message as a checkpoint.

    Raises:
        InvalidTensor: An array that cannot be read.
    """
    return Checkpoint(message.index, dict(message.settings), named_from_wire(message.arrays), message.format)
