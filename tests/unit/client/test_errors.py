"""Errors: the tree, the reasons on the wire, the statuses, and the way back."""

import inspect
import logging
import re
from types import SimpleNamespace

import grpc
import pytest
from support.paths import ROOT

from gradserve import _status, errors
from gradserve.v1 import errors_pb2
from gradserve_server.rpc.status import OIP_STATUS, STATUS, to_status

PREFIX = "ERROR_REASON_"
CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.GradserveError)]
SENT = [cls for cls in CLASSES if cls.reason is not None]
METADATA_LIMIT = 8 * 1024
"""gRPC's soft limit for all headers of a response; beyond it the call fails with another error than ours."""


def proto_rows() -> dict[str, tuple[str, str]]:
    """Reason -> (comment, status), as errors.proto says it."""
    text = (ROOT / "proto/gradserve/v1/errors.proto").read_text(encoding="utf-8")
    rows = re.findall(r"// (.*)\n\s*ERROR_REASON_(\w+) = [1-9]\d*;", text)
    return {reason: (comment, comment.rstrip(".").rsplit(" ", 1)[1]) for comment, reason in rows}


def failed_call(status, *, code=None, details=None):
    """What a stub raises for a status."""
    return SimpleNamespace(
        code=lambda: code or status.code,
        details=lambda: details or status.details,
        trailing_metadata=lambda: status.trailing_metadata,
    )


def bare_call(code, details="text", metadata=()):
    return SimpleNamespace(code=lambda: code, details=lambda: details, trailing_metadata=lambda: metadata)


# ---- the tree --------------------------------------------------------------------------------------------------------


def test_every_class_is_exported():
    assert {cls.__name__ for cls in CLASSES} | {"by_reason"} == set(errors.__all__)


def test_the_tree_in_the_docstring_is_the_tree():
    tree = errors.__doc__[errors.__doc__.index("    GradserveError") :].split("\n\n")[0]
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in tree.splitlines():
        name = re.search(r"[A-Z]\w+", line)
        depth = (name.start() - 4) // 4
        above = [*above[:depth], name[0]]
        drawn[name[0]] = above[depth - 1] if depth else "Exception"
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in CLASSES}


def test_a_class_is_sent_if_and_only_if_nothing_is_below_it():
    assert set(SENT) == {cls for cls in CLASSES if not cls.__subclasses__()}


def test_reasons_are_unique_and_by_reason_finds_each():
    assert errors.by_reason() == {cls.reason: cls for cls in SENT}
    assert len(errors.by_reason()) == len(SENT)


@pytest.mark.parametrize("cls", SENT)
def test_a_reason_is_the_name_of_the_class(cls):
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper()
    assert cls.reason == words or (cls.reason, words) == ("INTERNAL", "INTERNAL_ERROR")


# ---- the wire --------------------------------------------------------------------------------------------------------


def test_every_reason_is_in_the_proto_and_vice_versa():
    in_proto = {name.removeprefix(PREFIX) for name in errors_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert in_proto == {cls.reason for cls in SENT}
    assert in_proto == proto_rows().keys()


def test_every_class_that_travels_has_a_status():
    assert set(STATUS) == set(SENT)


@pytest.mark.parametrize("cls", SENT)
def test_the_status_is_the_one_that_the_proto_tells(cls):
    assert STATUS[cls].name == proto_rows()[cls.reason][1]


@pytest.mark.parametrize("cls", SENT)
def test_the_open_inference_protocol_has_only_the_statuses_of_triton(cls):
    status = to_status(cls("text"), "/inference.GRPCInferenceService/ModelInfer")
    assert status.code is OIP_STATUS.get(cls, STATUS[cls])
    triton = {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "UNIMPLEMENTED", "UNAVAILABLE", "INTERNAL"}
    grpc_itself = {"DEADLINE_EXCEEDED", "CANCELLED", "UNAUTHENTICATED", "PERMISSION_DENIED"}
    about_gradients = {errors.UnsupportedGradient, errors.NotDifferentiable}
    assert status.code.name in triton | grpc_itself or cls in about_gradients


@pytest.mark.parametrize("cls", SENT)
@pytest.mark.parametrize("text", ["what: expected this, got that", "", "ü 日本\n%41 tab\t end"])
def test_an_error_comes_back_as_itself(cls, text):
    status = to_status(cls(text), "/rpc")
    assert status.code is STATUS[cls]
    got = _status.from_rpc_error(failed_call(status))
    assert type(got) is cls
    assert str(got) == text
    assert got.request_id == dict(status.trailing_metadata)["x-request-id"]


def test_a_long_message_fits_into_the_headers():
    """A gradient through a deep model may name hundreds of nodes."""
    cls = errors.UnsupportedGradient
    status = to_status(cls("; ".join(f"node 'layer{i}' (Nonsense, opset 17)" for i in range(1000))), "/rpc")
    size = len(status.details.encode()) + sum(len(key) + len(value) for key, value in status.trailing_metadata)
    assert size < METADATA_LIMIT
    assert "node 'layer0'" in status.details
    assert type(_status.from_rpc_error(failed_call(status))) is cls


# ---- what nobody expected --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [RuntimeError("secret path"), KeyError("secret"), AssertionError("secret"), errors.InvalidRequest("secret")]
)
def test_an_unexpected_exception_is_internal_and_keeps_its_text(error, caplog):
    with caplog.at_level(logging.ERROR):
        status = to_status(error, "/gradserve.v1.GradientService/Infer")
    assert status.code is grpc.StatusCode.INTERNAL
    assert "secret" not in repr(status)
    request_id = re.search(r"\b[0-9a-f]{32}\b", status.details)[0]
    (record,) = caplog.records
    assert request_id in record.getMessage()
    assert "/gradserve.v1.GradientService/Infer" in record.getMessage()
    assert record.exc_info[1] is error
    assert type(_status.from_rpc_error(failed_call(status))) is errors.InternalError


def test_request_ids_differ():
    assert to_status(RuntimeError(), "/rpc").details != to_status(RuntimeError(), "/rpc").details


def test_an_expected_error_is_not_logged_as_a_defect(caplog):
    to_status(errors.InvalidTensor("text"), "/rpc")
    assert not caplog.records


# ---- statuses of gRPC itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, errors.CallCancelled),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.LimitExceeded),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        *(
            (code, errors.CallError)
            for code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
        ),
    ],
)
@pytest.mark.parametrize("metadata", [(), None, (("other", "x"),)])
def test_a_status_without_a_reason(code, cls, metadata):
    got = _status.from_rpc_error(bare_call(code, metadata=metadata))
    assert type(got) is cls
    assert got.request_id is None
    assert "text" in str(got)
    if cls is errors.CallError:
        assert code.name in str(got)


def test_no_details_at_all():
    assert str(_status.from_rpc_error(bare_call(grpc.StatusCode.UNKNOWN, details=None))).startswith("UNKNOWN")


def test_a_reason_of_a_newer_server_falls_back_to_the_code():
    status = to_status(errors.LimitExceeded("text"), "/rpc")
    ((key, value), _) = status.trailing_metadata
    newer = status._replace(trailing_metadata=((key, value.replace(b"LIMIT_EXCEEDED", b"LIMIT_EXCEEDEE")),))
    assert type(_status.from_rpc_error(failed_call(newer))) is errors.LimitExceeded


def test_a_reason_of_another_domain_is_not_ours():
    status = to_status(errors.InvalidTensor("text"), "/rpc")
    ((key, value), _) = status.trailing_metadata
    foreign = status._replace(trailing_metadata=((key, value.replace(b"gradserve", b"othertool")),))
    assert type(_status.from_rpc_error(failed_call(foreign))) is errors.CallError


@pytest.mark.parametrize("other", [{"details": "a proxy's own text"}, {"code": grpc.StatusCode.UNAVAILABLE}])
def test_a_proxy_that_changes_the_status_on_the_way_does_not_break_the_client(other):
    got = _status.from_rpc_error(failed_call(to_status(errors.InvalidTensor("text"), "/rpc"), **other))
    assert isinstance(got, errors.GradserveError)
