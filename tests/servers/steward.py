"""A steward on this machine, as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.hosts.local import LocalHost
from launcher.hosts.steward import Steward


@pytest.fixture
def steward(tmp_path: Path) -> Iterator[Steward]:
    """A real one, whose root is the empty `tmp_path/root`."""
    host = LocalHost(tmp_path / "root")
    yield host.steward()
    host.close()
