"""What Kaggle's word about a session means for its segment (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.published import ExitRecord
from launcher.run import State, Status

FINAL = frozenset({"COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED"})
SESSION = "session"  # the reason of an end by the platform's time limit
_TOO_LONG = re.compile(r"exceed\w* .*(duration|time)", re.IGNORECASE)  # Kaggle gives no code for it
MOST = 200


@dataclass(frozen=True)
class Seen:
    """All that is known of a session. `word` is its KernelWorkerStatus, "" when there is no such notebook."""

    word: str
    failure: str = ""
    began: bool = True  # its notebook printed something
    ran: bool = True  # our agent wrote its first line
    saved: bool = True  # the agent's log is among the outputs
    words: str = ""  # the last that our notebook said of its own work


def over(word: str) -> bool:
    """Whether the session has ended and its outputs are saved."""
    return word in FINAL


def judge(seen: Seen, record: ExitRecord | None = None) -> Status:
    """The segment's status. Only an exit record proves how a job ended; all else is the platform's word."""
    if not seen.word:
        return Status(State.LOST, "its notebook is no longer on Kaggle")
    if not over(seen.word):
        return Status(State.RUNNING)
    if record is not None:
        return Status(record.state, record.reason, record.exit_code)
    failure = " ".join(seen.failure.split())[:MOST]
    if seen.word == "CANCEL_ACKNOWLEDGED":
        return Status(State.CANCELLED, "stopped on Kaggle")
    if _TOO_LONG.search(failure):
        return Status(State.PREEMPTED, SESSION)
    if not seen.began:
        return Status(State.FAILED, f"Kaggle did not start it: {failure or 'no reason given'}")
    if not seen.ran:
        return Status(State.FAILED, seen.words or failure or "its notebook ended before the job began")
    if not seen.saved:
        return Status(State.FAILED, f"Kaggle did not save its outputs: {failure or 'no reason given'}")
    return Status(State.PREEMPTED, failure or "Kaggle ended the session")
