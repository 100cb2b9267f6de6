"""The keeper: a small process between the agent and the job, so that nothing of the job outlives either.

It starts the command in a session of its own, adopts every orphan of it, and kills what is left when it is
told to, when the command has ended, or when the agent is gone. It obeys bytes on one pipe (a JSON line that
starts the command, then T: terminate, K: kill; its end means that the agent died) and answers with JSON lines
on another: {"pid"} or {"error","code"}, {"status"} (as wait gave it; the last one counts), {"gone","killed"}.
It inherits the agent's lock: a free lock proves that nothing of the job runs any more.
"""

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import time

from launcher.agent import environment, proc

LINGER_S = 1.0  # for what a finished command left behind, such as a `tee` that still writes
KILL_S = 10.0  # then a process that SIGKILL cannot end (stuck in the kernel) is left and reported
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def keep(commands, reports, streams):
    """The life of the keeper; `streams` are the write ends of the job's stdout and stderr."""
    os.setsid()  # a signal to the agent's group is the agent's business
    proc.adopt_orphans()
    woken = _listen()
    request, words = _first_line(commands)
    if request is None:
        return
    job = _Job(json.loads(request.decode("utf-8")), reports)
    try:
        job.start(streams)
        while job.any_left():
            if words is not None:
                job.obey(words)
            words = _wait((commands, woken), job.patience())
    finally:
        job.end()


class _Job:
    """The command and its descendants, as the keeper sees them."""

    def __init__(self, request, reports):
        self.request = request
        self.reports = reports
        self.process = None
        self.told = ()  # the shell's children that got SIGTERM
        self.obeyed = False  # the command died of SIGTERM
        self.said = 0  # what its children then ended with: the first that is no success stays
        self.ended_at = None
        self.killed = False  # before it had ended by itself

    def start(self, streams):
        keeper = os.getpid()
        try:
            self.process = subprocess.Popen(
                self.request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1],
                cwd=self.request["cwd"],
                env=self.request["env"],
                start_new_session=True,
                preexec_fn=lambda: proc.die_with(keeper),  # one thread here, so this is safe
            )
        except (OSError, ValueError) as error:
            missing = getattr(error, "errno", None) in (errno.ENOENT, errno.ENOTDIR)
            self._report({"error": str(error), "code": 127 if missing else 126})
        else:
            self._report({"pid": self.process.pid})
        for fd in streams:
            os.close(fd)

    def any_left(self):
        """Reap what ended; whether anything of the job still lives."""
        while self.process is not None:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not proc.LINUX and _group_lives(self.process.pid)
            if pid == 0:
                return True
            if pid == self.process.pid:
                self.process.returncode = 0  # reaped here: Popen must not wait for it again
                self.ended_at = time.monotonic()
                self.obeyed = _by_sigterm(status)
                self._report({"status": status})
            elif self.obeyed and pid in self.told and not _by_sigterm(status) and not self.said:
                self.said = status
                self._report({"status": status})  # the shell could not pass on what its child said
        return False

    def obey(self, words):
        """`words` are the agent's; none at all: it died. Leftovers are killed when their time is over."""
        if b"T" in words:
            self._terminate()
        if not words or b"K" in words or self.patience() == 0:
            self._kill()

    def patience(self):
        """Seconds until what an ended command left is killed; None while the agent holds that clock."""
        if self.ended_at is None or self._told_alive():
            return None
        return max(0.0, self.ended_at + LINGER_S - time.monotonic())

    def end(self):
        """Nothing of the job may live after this."""
        if self.any_left():
            self._kill()
        environment.take_back(self.request["secrets"])  # the agent may be dead, and nobody else knows of them
        self._report({"gone": not self.any_left(), "killed": self.killed})

    def _terminate(self):
        """SIGTERM to the command; when a shell runs it, to the shell and its direct children, no deeper."""
        if self.ended_at is not None:
            return
        pid = self.process.pid
        if self.request["shell"] and proc.is_shell(pid):
            self.told = tuple(proc.children(pid))  # before its end: then they are no longer its children
        for each in (
            pid,
            *self.told,
        ):  # the shell first: its children become ours, and say to us how they ended
            _signal(os.kill, each, signal.SIGTERM)

    def _told_alive(self):
        return bool(self.told) and not set(self.told).isdisjoint(proc.descendants(os.getpid()))

    def _kill(self):
        """SIGKILL to every descendant until none is left."""
        self.killed = self.killed or self.ended_at is None or self._told_alive()
        give_up = time.monotonic() + KILL_S
        while self.any_left() and time.monotonic() < give_up:
            for pid in proc.descendants(os.getpid()):
                _signal(os.kill, pid, signal.SIGKILL)
            if not proc.LINUX:
                _signal(os.killpg, self.process.pid, signal.SIGKILL)
            time.sleep(0.005)

    def _report(self, value):
        with contextlib.suppress(OSError):  # the agent is gone; what must be done is done all the same
            os.write(self.reports, json.dumps(value).encode("utf-8") + b"\n")


def _listen():
    """A descriptor that can be read after a signal; none kills us. Handlers, unlike SIG_IGN, end at exec."""
    woken, wake = os.pipe()
    for fd in (woken, wake):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    return woken


def _wait(fds, patience_s):
    """What the agent said meanwhile: b"" when it is gone, None when it said nothing and time is not over."""
    commands, woken = fds
    ready, _, _ = select.select(fds, [], [], patience_s)
    if woken in ready:
        os.read(woken, 4096)
    if commands in ready:
        return os.read(commands, 4096)
    return None if ready else b"-"


def _first_line(fd):
    """The request and what came behind it; no request when the agent ended before it had one."""
    data = b""
    while b"\n" not in data:
        more = os.read(fd, 65536)
        if not more:
            return None, None
        data += more
    line, rest = data.split(b"\n", 1)
    return line, rest or None


def _by_sigterm(status):
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM


def _signal(send, pid, number):
    with contextlib.suppress(OSError):  # ended meanwhile, or another user's
        send(pid, number)


def _group_lives(pid):
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True
