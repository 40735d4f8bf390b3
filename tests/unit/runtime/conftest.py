"""What the tests of the scheduler share."""

import pytest
from support.jobs import Crowd

from gradserve_server.runtime.scheduler import Scheduler


@pytest.fixture
def log():
    return []


@pytest.fixture
def crowd():
    with Crowd(Scheduler(max_batch=4, max_queue=100)) as crowd:
        yield crowd
