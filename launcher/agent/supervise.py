"""One segment from its lock to its exit record, in the order in which things must happen."""

import errno
import fcntl
import json
import os
import signal
import time
import traceback

from launcher.agent import ending, environment, prepare, proc, records, watch
from launcher.agent.parts import Parts

# Exit statuses: an agent lives here; one has lived here; the end could not be told.
BUSY, RAN_BEFORE, NO_RECORD = 3, 4, 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PATIENCE_S = 30.0  # for room for the last record
_LOOKERS_S = 0.5  # who asks whether an agent lives shares the lock for a moment


def supervise(segment):
    """Run the order that lies in the folder `segment`; returns the agent's own exit status."""
    segment = os.path.abspath(segment)
    lock = _lock(segment)
    if lock is None:
        return BUSY
    if any(os.path.exists(os.path.join(segment, name)) for name in (records.EXIT, records.MANIFEST)):
        return RAN_BEFORE
    _keep_errors(segment)
    with open(os.path.join(segment, records.ORDER), "rb") as file:
        parts = Parts(segment, json.loads(file.read().decode("utf-8")))
    _listen(parts)
    try:
        end = _run(parts)
    except Exception as error:
        end = _refusal(parts, error)
    finally:
        parts.job.close()
    told = _tell(parts, _finish(parts, end))
    os.close(lock)  # the keeper is gone, so nobody else holds it
    return 0 if told else NO_RECORD


def _run(parts):
    """From the secrets to the job's last process; how it ended."""
    before = proc.oom_kills()
    parts.open()
    variables, secrets = prepare.prepare(parts)
    stopped = _stopped_before(parts)
    if stopped is not None:
        environment.take_back(secrets)
        return ending.verdict(ending.Ended(stopped=stopped))
    _start(parts, variables, secrets)
    following = watch.Watch(parts)
    following.run()
    if parts.job.left:
        parts.log.say("a process of the job cannot be killed: it is stuck in the kernel, or another user's")
    return ending.verdict(_ended(parts, following.stopped, before))


def _start(parts, variables, secrets):
    order = parts.order
    deadline = None
    now = watch.clock()
    limits = watch.limits(order, parts.began, now)
    if limits:
        deadline = int(time.time() + min(limits.values()) - now)
        variables["LAUNCHER_DEADLINE"] = str(deadline)
    parts.publisher.start()
    parts.started_at = records.utc()
    parts.job.start(order["command"], os.path.join(parts.segment, records.WORK), variables, secrets)
    parts.job.wait_started()
    if parts.job.error is not None:
        parts.log.say("the command cannot be started: %s" % parts.job.error[0])
    pid = parts.job.pid
    parts.heartbeat.watch(parts.job.keeper)
    parts.heartbeat.set(phase="running", pid=pid, session=pid, deadline=deadline, started_at=parts.started_at)


def _stopped_before(parts):
    if parts.signalled:
        return ending.SIGNAL
    request = parts.control.look(time.monotonic())
    return None if request is None else watch.reason(request)


def _ended(parts, stopped, oom_before):
    job = parts.job
    group, machine = proc.oom_kills()
    killed = (
        job.status is not None and os.WIFSIGNALED(job.status) and os.WTERMSIG(job.status) == signal.SIGKILL
    )
    return ending.Ended(
        status=job.status,
        killed=job.killed,
        error_code=None if job.error is None else job.error[1],
        stopped=stopped,
        oom=group > oom_before[0] or (killed and machine > oom_before[1]),
        shell=isinstance(parts.order["command"], str),
    )


def _refusal(parts, error):
    """The end of a segment whose job was not started, or whose agent failed: never the job's fault."""
    if parts.signalled:
        return ending.verdict(ending.Ended(stopped=ending.SIGNAL))
    if isinstance(error, prepare.Refused):
        reason = str(error)
    elif isinstance(error, OSError) and error.errno in _FULL:
        reason = ending.DISK
    else:
        traceback.print_exc()
        reason = "agent: " + _one_line(error)
    if reason.startswith("agent: ") and parts.log is not None:
        parts.log.say(reason[len("agent: ") :])
    return ending.end("failed", reason)


def _finish(parts, end):
    """Publish what is left, say what could not be kept, and close the books: `end` completed."""
    parts.heartbeat.set(phase="ending")
    if parts.log is not None:
        if parts.log.error is not None:
            parts.make_room()
        parts.publisher.finish()
        parts.mailbox.empty_into(parts.log)
        parts.log.sync()
        end = _complete(parts, end)
    parts.heartbeat.stop()
    return dict(end, **parts.close())


def _complete(parts, end):
    """`end`, if log and manifest hold all that they should; else a failure, whatever the job said."""
    error = parts.failure()
    if error is None:
        return end
    parts.make_room()
    parts.log.say("not all was kept: %s; %d bytes of log are lost" % (_one_line(error), parts.log.lost_bytes))
    full = isinstance(error, OSError) and error.errno in _FULL
    return dict(end, state="failed", reason=ending.DISK if full else "agent: " + _one_line(error))


def _tell(parts, end):
    """The exit record, last and durably; a full disk is given time."""
    order = parts.order
    value = {"v": records.VERSION, "run": order["run"], "segment": order["segment"]}
    value.update((key, end[key]) for key in ("state", "reason", "exit_code", "signal"))
    value.update(started_at=parts.started_at, ended_at=records.utc())
    value.update((key, end[key]) for key in ("last_seq", "log", "manifest"))
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            records.write_durably(os.path.join(parts.segment, records.EXIT), records.line(value))
            return True
        except OSError:
            if time.monotonic() > give_up:
                traceback.print_exc()
                return False
            time.sleep(1.0)


def _lock(segment):
    """The descriptor that holds the segment; None when another agent does."""
    fd = os.open(os.path.join(segment, records.LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up = time.monotonic() + _LOOKERS_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > give_up:
                os.close(fd)
                return None
        time.sleep(0.01)


def _keep_errors(segment):
    """Our own stderr goes into a file beside the log: whoever started us may be gone."""
    fd = os.open(os.path.join(segment, records.AGENT_ERRORS), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 2)
    os.close(fd)


def _listen(parts):
    """SIGTERM means: save and stop. A lost terminal means nothing."""
    signal.set_wakeup_fd(parts.mailbox.writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, parts.on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _one_line(error):
    return " ".join(("%s" % error).split()) or type(error).__name__
