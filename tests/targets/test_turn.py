"""One at a time, on a real machine's steward; the others are told that they wait."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.hosts.local import LocalHost
from launcher.targets.turn import turn


def test_the_second_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    first, second = LocalHost(tmp_path), LocalHost(tmp_path)
    said: list[str] = []
    with turn(first.steward(), "x/lock") as mine:
        assert list(mine.taken("image")) == []
        with turn(second.steward(), "x/lock") as other:
            waiting = other.taken("image")
            said.append(next(waiting).detail)
            threading.Timer(0.1, mine.free).start()
            said += [progress.detail for progress in waiting]
    assert said == ["wait: another launcher is making the same"]
    first.close()
    second.close()


def test_a_turn_ends_with_its_connection(tmp_path: Path) -> None:
    first, second = LocalHost(tmp_path), LocalHost(tmp_path)
    with turn(first.steward(), "x/lock") as mine:
        list(mine.taken("image"))
        first.close()
        with turn(second.steward(), "x/lock") as other:
            list(other.taken("image"))
    second.close()


def test_what_goes_wrong_is_the_callers(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    (tmp_path / "x").write_text("in the way")
    with turn(host.steward(), "x/lock") as mine:
        with pytest.raises(LauncherError):
            list(mine.taken("image"))
    host.close()
