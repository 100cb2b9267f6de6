"""Processes on this machine, for the client: run one and stream it, or start an agent that outlives us."""

import contextlib
import os
import signal
import subprocess
import threading
import time

from launcher.agent import records
from launcher.agent.operation import Cancelled, Failure
from launcher.agent.segment import record
from launcher.agent.steward_files import within

BLOCK = 256 << 10
KILL_AFTER_S = 2.0
START_S = 15.0


def run_script(operation):
    """Run argv with the upload as stdin; its output is streamed; cancelling kills its whole session.

    `env` is set on top of the steward's own environment (null takes a variable away). With `lock`, a file
    that is held while it runs, two clients never build the same thing at once.
    """
    lock = _take(operation) if operation.args.get("lock") else None
    try:
        return _run(operation)
    finally:
        if lock is not None:
            os.close(lock)


def launch(operation):
    """Start the agent of a segment, detached, with the upload as its stdin; it outlives this connection."""
    folder = within(operation.root, operation.args["folder"])
    command = [
        operation.args.get("python") or "python3",
        "-I",
        "-B",
        within(operation.root, operation.args["agent"]),
        "run",
        folder,
    ]
    payload = operation.payload()
    errors = os.open(
        os.path.join(folder, records.AGENT_ERRORS),
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
        0o600,
    )
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            cwd=folder,
            start_new_session=True,
        )
    finally:
        os.close(errors)
    threading.Thread(target=process.wait, daemon=True).start()
    _hand_over(process, payload)
    _await_start(process, folder)
    return {"pid": process.pid}


def _run(operation):
    args = operation.args
    process = subprocess.Popen(
        [str(word) for word in args["argv"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=within(operation.root, args.get("cwd") or "."),
        env=_environment(args.get("env") or {}),
        start_new_session=True,
    )
    operation.on_cancel(lambda: _end(process))
    pumps = [
        threading.Thread(target=_pump, args=(operation, process.stdout, "stdout"), daemon=True),
        threading.Thread(target=_pump, args=(operation, process.stderr, "stderr"), daemon=True),
    ]
    for pump in pumps:
        pump.start()
    threading.Thread(target=_feed, args=(operation, process), daemon=True).start()
    code = process.wait()
    for pump in pumps:
        pump.join()
    operation.check()
    return {"code": code if code >= 0 else 128 - code}


def _environment(changes):
    env = dict(os.environ)
    for name, value in changes.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = str(value)
    return env


def _pump(operation, pipe, stream):
    """Goes on reading after a cancel, so that what ends is not held up by a full pipe."""
    gone = False
    while True:
        data = os.read(pipe.fileno(), BLOCK)
        if not data:
            return
        try:
            if not gone:
                operation.send(data, stream=stream)
        except (Cancelled, OSError):
            gone = True


def _feed(operation, process):
    try:
        for piece in operation.uploads():
            process.stdin.write(piece)
            process.stdin.flush()
    except (Cancelled, OSError):
        pass  # it does not want to read any more
    with contextlib.suppress(OSError):
        process.stdin.close()


def _end(process):
    """SIGTERM to the session, and SIGKILL to what is still there soon after."""
    _signal(process, signal.SIGTERM)
    threading.Thread(target=_end_for_good, args=(process,), daemon=False).start()


def _end_for_good(process):
    end = time.monotonic() + KILL_AFTER_S
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    _signal(process, signal.SIGKILL)


def _signal(process, number):
    with contextlib.suppress(OSError):
        os.killpg(process.pid, number)


def _take(operation):
    import fcntl

    path = within(operation.root, operation.args["lock"])
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if operation.cancelled:
                os.close(fd)
                raise Cancelled() from None
            time.sleep(0.05)


def _hand_over(process, payload):
    try:
        process.stdin.write(payload)
        process.stdin.close()
    except OSError:
        pass  # it ended at once; the next look tells why


def _await_start(process, folder):
    """Until the agent has its lock, which its first state tells: who looks next must not think it dead."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        state = record(folder, records.STATE)
        if state and state.get("agent_pid") == process.pid:
            return
        if process.poll() is not None:
            if record(folder, records.EXIT):
                return
            raise Failure("failed", "the agent ended with %d: %s" % (process.returncode, _last_words(folder)))
        time.sleep(0.005)


def _last_words(folder):
    try:
        with open(os.path.join(folder, records.AGENT_ERRORS), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 500))
            return file.read().decode("utf-8", "replace").strip() or "it said nothing"
    except OSError as error:
        return str(error)
