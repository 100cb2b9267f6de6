"""The end of a segment whose agent never started: the same records, written by the notebook and taken back by it."""

import contextlib
import hashlib
import os

from launcher.agent import ending, events, records

WORDS_BYTES = 500
EMPTY = {"size": 0, "sha256": hashlib.sha256().hexdigest()}


def refuse(folder, order, reason):
    """A log of one line and an exit record; a full disk keeps neither, and then the cell's words must do."""
    seq, when = order["first_seq"], records.utc()
    line = records.log_line(seq, when, order["segment"], order["rank"], events.LAUNCHER, reason + "\n")
    end = ending.end("failed", reason)
    log = {"size": len(line), "sha256": hashlib.sha256(line).hexdigest()}
    value = {"v": records.VERSION, "run": order["run"], "segment": order["segment"], **end}
    value.update(started_at=when, ended_at=when, last_seq=seq, log=log, manifest=EMPTY)
    with contextlib.suppress(OSError):
        os.makedirs(folder, 0o755, exist_ok=True)
        records.write_durably(os.path.join(folder, events.log_name(order["rank"])), line)
        records.write_durably(os.path.join(folder, records.EXIT), records.line(value))


def take_back(folder):
    """Remove what `refuse` wrote: the step is tried again. An agent's own end has a manifest beside it."""
    if os.path.exists(os.path.join(folder, records.MANIFEST)):
        return
    for name in (records.EXIT, records.LOG):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))


def last_words(folder):
    """What an agent that did not start wrote to its stderr."""
    try:
        with open(os.path.join(folder, records.AGENT_ERRORS), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - WORDS_BYTES))
            return file.read().decode("utf-8", "replace").strip() or "it said nothing"
    except OSError as error:
        return str(error)
