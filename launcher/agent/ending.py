"""How a segment ended, decided from what was seen (pure)."""

import os
import signal

from launcher.agent import records

CANCEL, TIME, STALL, SIGNAL, DISK = "cancel", "time", "stall", "signal", "disk-full"
SESSION = "session"  # the place ends, not the run's own limit
_STATE = {
    CANCEL: "cancelled",
    TIME: "timed_out",
    SESSION: "timed_out",
    STALL: "timed_out",
    SIGNAL: "preempted",
    DISK: "failed",
}


class Ended:
    """What is known of the job's end; all that is not given did not happen."""

    def __init__(self, status=None, killed=False, error_code=None, stopped=None, oom=False, shell=False):
        self.status = status  # as wait gave it; None: it never ran
        self.killed = killed  # something was killed when its grace was over
        self.error_code = error_code  # 126 or 127: it could not be started
        self.stopped = stopped  # why it was asked to stop
        self.oom = oom
        self.shell = shell


def verdict(ended):
    """{"state", "reason", "exit_code", "signal"} of exit.json."""
    code, number = _code(ended)
    if ended.stopped == DISK or (code != 0 and ended.stopped is not None):
        return end(_STATE[ended.stopped], ended.stopped, code, number)
    if code == 0:
        return end("succeeded", "", code, number)
    if code == records.RESUME_ME:
        return end("timed_out", "wants-resume", code, number)
    return end("failed", _failure(ended, code, number), code, number)


def end(state, reason, code=None, number=None):
    return {"state": state, "reason": reason, "exit_code": code, "signal": number}


def _failure(ended, code, number):
    if ended.oom:
        return "oom"
    if number is not None:
        return "signal"
    if code == 127 and (ended.shell or ended.error_code is not None):
        return "command-not-found"
    return ""


def _code(ended):
    """(exit code as a shell would show it, signal or None)."""
    if ended.status is None:
        return ended.error_code, None
    failed = ended.status != 0
    if ended.killed and failed:
        return 128 + signal.SIGKILL, int(signal.SIGKILL)
    if os.WIFSIGNALED(ended.status):
        number = os.WTERMSIG(ended.status)
        return 128 + number, number
    return os.WEXITSTATUS(ended.status), None
