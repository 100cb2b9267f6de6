"""What a job finds in its container on a server where we are an ordinary user."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.laptop import Laptop
from tests.servers.gpu_server import GPUServer
from tests.targets.conftest import add_target

LOOK = """
import getpass, grp, json, os, pathlib, pwd, socket, subprocess, sys, time

def zombies():
    states = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            states.append(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        except OSError:
            pass
    return states.count("Z")

def orphan():
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.waitpid(child, 0)

for _ in range(5):
    orphan()
time.sleep(0.1)
end = time.monotonic() + 10
time.sleep(0.5)
while zombies() and time.monotonic() < end:
    time.sleep(0.1)

def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
        return True
    except OSError:
        return False

status = dict(line.split(":\\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
shm = os.statvfs("/dev/shm")
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
(out / "checkpoints").mkdir()
(out / "checkpoints/one.bin").write_bytes(b"1")
(out / "folder").mkdir()
(out / "folder/file.txt").write_text("x")
print(json.dumps({
    "user": getpass.getuser(), "ids": [os.getuid(), os.getgid()], "groups": os.getgroups(),
    "name": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name,
    "home": os.environ["HOME"], "pwd_home": pwd.getpwuid(os.getuid()).pw_dir,
    "variables": sorted(os.environ),
    "writable": {p: writable(p) for p in (os.environ["HOME"], "/tmp", ".", "/", "/etc", "/launcher", "/usr")},
    "shm": shm.f_blocks * shm.f_frsize,
    "caps": {key: int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "no_new_privs": status["NoNewPrivs"], "seccomp": status["Seccomp"],
    "sockets": [p for p in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(p)],
    "zombies": zombies(), "init": pathlib.Path("/proc/1/comm").read_text().strip(),
    "sudo": subprocess.run(["su", "-c", "id -u"], stdin=subprocess.DEVNULL, capture_output=True).returncode,
}))
"""
MEMORY = 512 * 10**6


@dataclass(frozen=True)
class Looked:
    """One run; `found` is what its job saw."""

    laptop: Laptop
    server: GPUServer
    found: dict[str, Any]

    def host_config(self) -> dict[str, Any]:
        """The engine's word on the container."""
        told = json.loads(self.server.run(f"docker inspect {self.laptop.status()['id']}-0"))[0]
        config: dict[str, Any] = told["HostConfig"]
        return config


@pytest.fixture(scope="module")
def looked(shared_gpu_server: GPUServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    with looking(Laptop(tmp_path_factory.mktemp("look") / "laptop"), shared_gpu_server) as looked:
        yield looked


@contextlib.contextmanager
def looking(laptop: Laptop, server: GPUServer, **spec: Any) -> Iterator[Looked]:
    try:
        add_target(laptop, server, docker="always")
        done = laptop.ok("run", str(laptop.job("look", LOOK, env={"MINE": "1"}, **spec)), "--on", "gpu1")
        yield Looked(laptop, server, json.loads(done.out))
        laptop.ok("release", "--all", "--force")
    finally:
        laptop.close()


def test_the_job_is_the_machines_own_user_without_any_privilege(looked: Looked) -> None:
    found = looked.found
    uid, gid = (int(looked.server.run(f"id -{flag} trainer")) for flag in "ug")
    assert uid != 0
    assert found["ids"] == [uid, gid]
    assert (found["user"], found["name"], found["group"]) == ("trainer", "trainer", "trainer")
    assert set(found["groups"]) <= {gid}
    assert set(found["caps"].values()) == {0}
    assert (found["no_new_privs"], found["seccomp"]) == ("1", "2")
    assert found["sockets"] == []
    assert found["sudo"] != 0


def test_home_is_writable_and_the_image_is_not(looked: Looked) -> None:
    found = looked.found
    assert found["home"] == found["pwd_home"]
    can = {path for path, yes in found["writable"].items() if yes}
    assert can == {found["home"], "/tmp", "."}


def test_the_environment_holds_what_the_contract_names_and_no_more(looked: Looked) -> None:
    found = looked.found
    ours = {name for name in found["variables"] if name.startswith("LAUNCHER_")}
    named = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "PYTHONUNBUFFERED", "MINE", "NVIDIA_VISIBLE_DEVICES"}
    by_shell = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert set(found["variables"]) - ours - by_shell == named
    assert "LAUNCHER_RESUME" not in ours
    assert {"LAUNCHER_OUT", "LAUNCHER_DATA", "LAUNCHER_DEADLINE", "LAUNCHER_RUN"} <= ours


def test_shared_memory_is_half_of_the_machines(looked: Looked) -> None:
    total_kb = int(looked.server.run("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    assert abs(looked.found["shm"] / (total_kb * 1024) - 0.5) < 0.01


def test_shared_memory_is_half_of_what_is_granted(laptop: Laptop, shared_gpu_server: GPUServer) -> None:
    with looking(laptop, shared_gpu_server, resources={"memory": "512MB"}) as looked:
        assert abs(looked.found["shm"] / MEMORY - 0.5) < 0.01
        assert looked.host_config()["Memory"] == MEMORY


def test_processes_have_a_bound(looked: Looked) -> None:
    assert 0 < looked.host_config()["PidsLimit"] <= 32768


def test_orphans_are_reaped(looked: Looked) -> None:
    found = looked.found
    assert found["zombies"] == 0
    assert found["init"] != "python"


def test_every_file_is_its_users_own(looked: Looked) -> None:
    strange = "find /home/trainer/.launcher \\( ! -user trainer -o ! -group trainer \\) -print"
    assert looked.server.run(strange) == ""
    home = looked.laptop.work / "runs" / looked.laptop.status()["id"]
    found = [home, *home.rglob("*")]
    assert {home / "checkpoints/one.bin", home / "folder/file.txt"} <= set(found)
    assert {path.stat().st_uid for path in found} == {os.getuid()}
