"""How a segment ended, for every way in which one can."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.agent.ending import CANCEL, DISK, SIGNAL, STALL, TIME, Ended, verdict


def code(number: int) -> int:
    """An exit code as wait gives it."""
    return number << 8


@pytest.mark.parametrize(
    ("facts", "state", "reason", "exit_code", "signal"),
    [
        ({"status": code(0)}, "succeeded", "", 0, None),
        ({"status": code(1)}, "failed", "", 1, None),
        ({"status": code(75)}, "timed_out", "wants-resume", 75, None),
        ({"status": 11}, "failed", "signal", 139, 11),
        ({"status": 11 | 0x80}, "failed", "signal", 139, 11),  # with a core dump
        ({"status": 9, "oom": True}, "failed", "oom", 137, 9),
        ({"status": code(1), "oom": True}, "failed", "oom", 1, None),
        ({"status": code(0), "oom": True}, "succeeded", "", 0, None),
        ({"status": code(127), "shell": True}, "failed", "command-not-found", 127, None),
        ({"status": code(127)}, "failed", "", 127, None),
        ({"error_code": 127}, "failed", "command-not-found", 127, None),
        ({"error_code": 126}, "failed", "", 126, None),
        ({"stopped": CANCEL}, "cancelled", "cancel", None, None),
        ({"status": 15, "stopped": CANCEL}, "cancelled", "cancel", 143, 15),
        ({"status": code(75), "stopped": CANCEL}, "cancelled", "cancel", 75, None),
        ({"status": code(0), "stopped": CANCEL}, "succeeded", "", 0, None),
        ({"status": 9, "killed": True, "stopped": CANCEL}, "cancelled", "cancel", 137, 9),
        ({"status": 15, "killed": True, "stopped": CANCEL}, "cancelled", "cancel", 137, 9),
        ({"status": code(0), "killed": True, "stopped": CANCEL}, "succeeded", "", 0, None),
        ({"status": 15, "stopped": TIME}, "timed_out", "time", 143, 15),
        ({"status": code(75), "stopped": TIME}, "timed_out", "time", 75, None),
        ({"status": 15, "stopped": STALL}, "timed_out", "stall", 143, 15),
        ({"status": code(75), "stopped": SIGNAL}, "preempted", "signal", 75, None),
        ({"status": code(0), "stopped": SIGNAL}, "succeeded", "", 0, None),
        ({"status": code(0), "stopped": DISK}, "failed", "disk-full", 0, None),
        ({"status": code(1), "stopped": DISK}, "failed", "disk-full", 1, None),
    ],
)
def test_what_was_seen_decides_how_it_ended(
    facts: dict[str, Any], state: str, reason: str, exit_code: int | None, signal: int | None
) -> None:
    assert verdict(Ended(**facts)) == {
        "state": state,
        "reason": reason,
        "exit_code": exit_code,
        "signal": signal,
    }
