"""The job as the agent holds it: two pipes, a keeper process, and words to stop it."""

import contextlib
import json
import os
import select
import signal
import time
import traceback

from launcher.agent import keeper, proc

_SET_PIPE_SIZE = 1031  # fcntl's F_SETPIPE_SZ, which Python names only from 3.10 on
_PIPE_BYTES = 1024 * 1024


class Job:
    """A command that is not started yet. Make it before any thread: it forks."""

    def __init__(self):
        proc.adopt_orphans()  # should the keeper be killed, its orphans come to us
        self.stdout, out = _pipe(_PIPE_BYTES)
        self.stderr, err = _pipe(_PIPE_BYTES)
        commands, self._commands = _pipe()
        self.reports, reports = _pipe()
        self.pid = None
        self.status = None  # as wait gave it
        self.gone = False  # nothing of it lives any more
        self.left = False  # something could not be killed
        self.killed = False  # it was, after SIGTERM
        self.error = None  # (message, exit code) when it could not be started
        self._partial = b""
        self._keeper = self.keeper = os.fork()
        if self._keeper == 0:
            _become_keeper(
                (self.stdout, self.stderr, self._commands, self.reports), commands, reports, (out, err)
            )
        for fd in (out, err, commands, reports):
            os.close(fd)
        for fd in (self.stdout, self.stderr, self.reports):
            os.set_blocking(fd, False)

    def start(self, command, folder, variables, secrets=None):
        """Start it; `hear` learns whether that worked. `secrets`: a folder to remove when it has ended."""
        shell = isinstance(command, str)
        argv = ["/bin/sh", "-c", command] if shell else list(command)
        request = {"argv": argv, "env": variables, "cwd": folder, "shell": shell, "secrets": secrets}
        self._send(json.dumps(request).encode("ascii") + b"\n")

    def wait_started(self):
        """Until it runs or is known not to."""
        while self.pid is None and self.error is None and not self.gone:
            select.select([self.reports], [], [])
            self.hear()

    def terminate(self):
        self._send(b"T")

    def kill(self):
        self._send(b"K")

    def hear(self):
        """Take in what the keeper reported; call when `reports` is readable."""
        try:
            data = os.read(self.reports, 65536)
        except BlockingIOError:
            return
        if not data and not self.gone:
            self._lost_keeper()
        self._partial += data
        while b"\n" in self._partial:
            report, self._partial = self._partial.split(b"\n", 1)
            self._take(json.loads(report.decode("utf-8")))

    def close(self):
        """End the keeper and whatever it keeps; returns when they are gone."""
        if self._commands is not None:
            os.close(self._commands)
            self._commands = None
        if self._keeper is not None:
            os.waitpid(self._keeper, 0)
            self._keeper = None

    def _take(self, report):
        if "pid" in report:
            self.pid = report["pid"]
        elif "status" in report:
            self.status = report["status"]
        elif "error" in report:
            self.error = (report["error"], report["code"])
        elif "gone" in report:
            self.gone, self.left, self.killed = True, not report["gone"], report["killed"]

    def _lost_keeper(self):
        """Someone killed the keeper. The command died with it; its orphans are ours now."""
        os.waitpid(self._keeper, 0)
        self._keeper = None
        give_up = time.monotonic() + keeper.KILL_S
        while _kill_orphans() and time.monotonic() < give_up:
            time.sleep(0.005)
        self.status = signal.SIGKILL if self.status is None else self.status
        self.gone = self.killed = True

    def _send(self, data):
        with contextlib.suppress(BrokenPipeError):  # the keeper is gone: `hear` will tell
            while data:
                data = data[os.write(self._commands, data) :]


def _become_keeper(agents, commands, reports, streams):
    status = 1
    try:
        for fd in agents:
            os.close(fd)
        keeper.keep(commands, reports, streams)
        status = 0
    except BaseException:  # it shares the agent's stderr and must not return into the agent's own code
        traceback.print_exc()
    finally:
        os._exit(status)


def _kill_orphans():
    """SIGKILL to all below us but our own session (there runs nvidia-smi); whether there was any."""
    found = False
    for pid in proc.descendants(os.getpid()):
        try:
            if os.getsid(pid) != os.getsid(0):
                found = True
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        except OSError:
            pass  # ended meanwhile, or not our own child: then it becomes so
    return found


def _pipe(size=None):
    reader, writer = os.pipe()
    if size and proc.LINUX:
        import fcntl

        with contextlib.suppress(OSError):  # over the user's limit: 64 KiB will do
            fcntl.fcntl(writer, _SET_PIPE_SIZE, size)
    return reader, writer
