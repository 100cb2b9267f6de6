#!/usr/bin/python3
"""A small stand-in for systemctl: services and timers under /etc/systemd/system, ssh and docker; no more.

Services: ExecStart (the first), Environment, WorkingDirectory, Restart, RestartSec. Timers: OnActiveSec, OnBootSec,
OnStartupSec, OnUnitActiveSec, Unit. All other settings are read over; other units are taken for running.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

UNITS = pathlib.Path("/etc/systemd/system")
WANTS = UNITS / "multi-user.target.wants"
PIDS = pathlib.Path("/run/box/units")
SPANS = {
    "": 1,
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "ms": 0.001,
}


def main(words):
    options = [word for word in words if word.startswith("-")]
    verb, *names = [word for word in words if not word.startswith("-")] or ["list-units"]
    names = [name if "." in name else name + ".service" for name in names]
    if verb == "boot-enabled-units":
        names, verb = sorted(path.name for path in WANTS.glob("*")), "start"
    if verb == "supervise":
        return supervise(names[0])
    codes = [0]
    for name in names:
        if verb in ("enable", "disable"):
            enable(name, verb == "enable")
            verb_now = {"enable": "start", "disable": "stop"}[verb] if "--now" in options else ""
            codes.append(act(verb_now, name))
        else:
            codes.append(act(verb, name))
    return max(codes)


def act(verb, name):
    if name in ("ssh.service", "sshd.service"):
        if verb in ("restart", "reload", "try-restart", "reload-or-restart", "stop"):
            end("/run/sshd.pid")
            wait_for_ssh()
        return 0
    if name in ("docker.service", "docker.socket"):
        return docker(verb)
    if not (UNITS / name).exists():
        return 0
    if verb in ("stop", "restart", "kill"):
        stop(name)
    if verb in ("start", "restart") and not alive(name):
        PIDS.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, os.path.abspath(__file__), "supervise", name]
        with open("/var/log/units.log", "ab") as log:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (PIDS / name).write_text(str(child.pid))
    if verb == "is-active":
        print("active" if alive(name) else "inactive")
        return 0 if alive(name) else 3
    if verb == "is-enabled":
        print("enabled" if (WANTS / name).exists() else "disabled")
        return 0 if (WANTS / name).exists() else 1
    return 0


def docker(verb):
    there = shutil.which("dockerd") is not None
    off = pathlib.Path("/etc/docker/off")
    if verb == "is-active":
        print("active" if there and not off.exists() else "inactive")
        return 0 if there and not off.exists() else 3
    if not there:
        print("Failed: Unit docker.service not found.", file=sys.stderr)
        return 5
    if verb == "stop":
        off.touch()
    if verb in ("stop", "restart"):
        end("/var/run/docker.pid")
    if verb in ("start", "restart"):
        off.unlink(missing_ok=True)
    return 0


def enable(name, wanted):
    WANTS.mkdir(parents=True, exist_ok=True)
    link = WANTS / name
    if wanted and (UNITS / name).exists() and not link.is_symlink():
        link.symlink_to(UNITS / name)
    if not wanted:
        link.unlink(missing_ok=True)


def alive(name):
    try:
        pid = int((PIDS / name).read_text())
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except (OSError, ValueError):
        return False


def stop(name):
    with contextlib.suppress(OSError, ValueError):
        os.killpg(int((PIDS / name).read_text()), signal.SIGTERM)
    (PIDS / name).unlink(missing_ok=True)


def end(pid_file):
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(pathlib.Path(pid_file).read_text()), signal.SIGTERM)


def wait_for_ssh():
    """Until it listens again, as the real one waits."""
    for _ in range(100 if os.path.exists("/run/box/open") else 0):
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", 22), 1).close()
            return


def supervise(name):
    unit = settings(UNITS / name)
    return wait_and_start(name, unit) if name.endswith(".timer") else serve(unit)


def serve(unit):
    """Run a service, again and again if it says so."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    for line in unit.get("Environment", []):
        environment.update(word.split("=", 1) for word in shlex.split(line))
    argv = shlex.split(unit["ExecStart"][0].lstrip("-@+!:"))
    folder = unit.get("WorkingDirectory", ["/"])[-1]
    while True:
        code = subprocess.run(argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL).returncode
        again = unit.get("Restart", ["no"])[-1]
        if again != "always" and not (again.startswith("on-") and again != "on-success" and code):
            return code
        time.sleep(span(unit.get("RestartSec", ["0.1"])[-1]))


def wait_and_start(name, unit):
    target = unit.get("Unit", [name[: -len(".timer")] + ".service"])[-1]
    first = [span(unit[key][-1]) for key in ("OnActiveSec", "OnBootSec", "OnStartupSec") if key in unit]
    time.sleep(min(first) if first else 0)
    while True:
        act("start", target)
        if "OnUnitActiveSec" not in unit:
            return 0
        time.sleep(span(unit["OnUnitActiveSec"][-1]))


def settings(path):
    found = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        key, given, value = line.strip().partition("=")
        if given and not key.startswith(("#", ";", "[")):
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def span(text):
    return sum(
        float(n) * (SPANS.get(unit) or SPANS[unit.rstrip("s")])
        for n, unit in re.findall(r"([\d.]+)\s*([a-z]*)", text)
    )


sys.exit(main(sys.argv[1:]))
