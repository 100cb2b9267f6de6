"""A segment's folder for each test, with nothing left running behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.segment import SegmentFolder


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[SegmentFolder]:
    folder = SegmentFolder(tmp_path / "segment")
    yield folder
    folder.close()
