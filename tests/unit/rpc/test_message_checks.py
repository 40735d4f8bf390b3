"""What is counted in a request: every list of things that cost something each."""

import pytest
from google.protobuf.descriptor import FieldDescriptor

from gradserve_server.config import ServerConfig
from gradserve_server.rpc import app
from gradserve_server.rpc.message_checks import _NESTED, COUNTED

SETTINGS = {"shape"}
"""Lists of numbers that say how, not what: checked against the model."""


def requests():
    """The messages of requests, and of their objectives."""
    for file in app._FILES:
        for service in file.services_by_name.values():
            if service.full_name.startswith("grpc."):
                continue
            for method in service.methods:
                yield method.input_type
                if _NESTED in method.input_type.fields_by_name:
                    yield method.input_type.fields_by_name[_NESTED].message_type


MESSAGES = {message.full_name: message for message in requests()}


def lists(message):
    """Its repeated fields; maps are none."""
    for field in message.fields:
        is_map = field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type.GetOptions().map_entry
        if field.is_repeated and not is_map:
            yield field.name


@pytest.mark.parametrize("name", MESSAGES)
def test_every_list_of_a_request_is_counted(name):
    assert set(lists(MESSAGES[name])) <= COUNTED.keys() | SETTINGS


def test_every_row_of_the_table_is_a_list_of_some_request():
    assert COUNTED.keys() <= {field for message in MESSAGES.values() for field in lists(message)}


def test_every_limit_is_a_setting():
    assert all(isinstance(getattr(ServerConfig(), setting), int) for setting in COUNTED.values())


def test_objectives_are_among_them():
    assert "gradserve.v1.Objective" in MESSAGES
