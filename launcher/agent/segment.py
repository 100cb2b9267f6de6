"""A segment's folder on this machine: does its agent live, how did it end, stop it, sweep up what it left."""

import fcntl
import json
import os
import signal as signals
import time

from launcher.agent import records
from launcher.agent.operation import Failure
from launcher.agent.steward_files import within

MAX_RECORD = 1 << 20
WORDS_BYTES = 2000


def look(operation):
    """All that a folder says of its segment, in one answer."""
    folder = within(operation.root, operation.args["folder"])
    name = operation.args.get("container")
    running = alive(folder)
    found = {
        "exists": os.path.isdir(folder),
        "alive": running,
        # after `alive`: an agent that ended in between has left its record
        "exit": record(folder, records.EXIT),
        "state": record(folder, records.STATE),
        "container": None,
    }
    try:
        found["container"] = container(name) if name else None
    except Failure as error:
        if found["state"] is None:  # else the folder says enough, and the engine may be what died
            raise
        found["docker_error"] = str(error)
    if not running and found["exit"] is None:
        found["agent_errors"] = _last_words(folder)
        if found["container"] and found["state"] is None:  # it did not even begin
            found["agent_errors"] += _container_log(name)
    return found


def signal(operation):
    """SIGTERM or SIGKILL to the segment's agent and its job's session, or to its container."""
    number = _number(operation.args["signal"])
    folder = within(operation.root, operation.args["folder"])
    name = operation.args.get("container")
    if name:
        from launcher.agent import dockerapi

        return {"signalled": dockerapi.kill(name, number)}
    state = record(folder, records.STATE)
    if not (state and alive(folder)):
        return {"signalled": 0}
    agent, session = state.get("agent_pid"), state.get("session")
    pids = [agent] if isinstance(agent, int) else []
    if isinstance(session, int) and session > 1:
        pids += [pid for pid in processes() if pid != agent and _session(pid) == session]
    return {"signalled": sum(_kill(pid, number) for pid in pids)}


def sweep(operation):
    """Kill every process that a segment left behind: they carry its name in their environment."""
    marks = {
        b"LAUNCHER_RUN=" + operation.args["run"].encode(),
        b"LAUNCHER_SEGMENT=%d" % operation.args["segment"],
    }
    killed = set()
    for _ in range(20):
        found = [pid for pid in processes() if pid != os.getpid() and marks <= environment(pid)]
        fresh = [pid for pid in found if _kill(pid, signals.SIGKILL)]
        killed.update(fresh)
        if not fresh:
            break
        time.sleep(0.02)  # one of them may have forked in the meantime
    return {"killed": len(killed)}


def alive(folder):
    """Whether an agent holds the folder's lock. A shared lock is tried, so that two who look never meet."""
    try:
        fd = os.open(os.path.join(folder, records.LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def record(folder, name):
    """A small JSON file of the folder; None when it is not there or not whole."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            value = json.loads(file.read(MAX_RECORD))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def container(name):
    """What the engine says of a container: status, exit code, out of memory or not; None if it has none."""
    from launcher.agent import dockerapi

    status, body = dockerapi.request("GET", "/containers/%s/json" % dockerapi.quote(name))
    if status == 404:
        return None
    if status != 200:
        raise Failure("docker", dockerapi.message(status, body))
    state = body["State"]
    return {"status": state["Status"], "exit_code": state["ExitCode"], "oom": bool(state.get("OOMKilled"))}


def _container_log(name):
    from launcher.agent import dockerapi

    return dockerapi.last_words(name)


def processes():
    """The ids of all processes."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return sorted(_ps())


def environment(pid):
    """NAME=VALUE of a process, as far as we may see it."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return set(file.read().split(b"\0"))
    except FileNotFoundError:
        return set() if os.path.isdir("/proc/self") else set(_ps().get(pid, b"").split())
    except OSError:
        return set()


def _ps():
    """Where there is no /proc (macOS): ps shows the environment behind the command."""
    import subprocess

    lines = subprocess.run(["ps", "axeww", "-o", "pid=,command="], stdout=subprocess.PIPE).stdout.splitlines()
    pairs = (line.split(None, 1) for line in lines)
    return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2}


def _last_words(folder):
    """What a dead agent wrote to its stderr last."""
    try:
        with open(os.path.join(folder, records.AGENT_ERRORS), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - WORDS_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _session(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _number(name):
    name = str(name)
    name = name if name.startswith("SIG") else "SIG" + name
    if name not in ("SIGTERM", "SIGKILL", "SIGINT", "SIGUSR1", "SIGUSR2"):
        raise Failure("bad", "not a signal for a segment: %.20s" % name)
    return getattr(signals, name)
