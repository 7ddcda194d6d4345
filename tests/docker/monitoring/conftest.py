"""The whole of what watches the service, once for all tests of this folder."""

import shutil
from collections.abc import Iterator

import pytest

from tests.docker.monitoring.stack import PROGRAMS, Stack, stack


@pytest.fixture(scope="session")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Triton, the gateway, Prometheus and Alertmanager."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{missing} not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    with stack(tmp_path_factory.mktemp("monitoring")) as running:
        yield running
