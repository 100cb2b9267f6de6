"""A segment's container, on a real engine, as a user who is not root."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from launcher.engine import run
from launcher.engine.run import Place
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import docker
from tests.servers.tunnel import forwarded_docker

UID = 12345
MEMORY = 512 << 20
FACTS = {"uid": UID, "gid": UID, "user": "ada", "memory_bytes": 8 << 30, "docker": {"rootless": False}}
ORDER: dict[str, Any] = {"run": "job-abcd2345", "segment": 0, "gpus": 0, "grace_s": 60.0, "bin": None}

PROBE = """
import getpass, grp, json, os, pathlib, pwd, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
shm = os.statvfs("/dev/shm")
secrets = os.stat("/run/launcher-secrets")
pathlib.Path(sys.argv[2], "made").write_text(sys.stdin.readline())
def writable(path):
    try:
        open(path, "a").close()
    except OSError:
        return False
    return True
print(json.dumps({
    "user": getpass.getuser(), "passwd": pwd.getpwuid(os.getuid()).pw_dir,
    "group": grp.getgrgid(os.getgid()).gr_name,
    "environ": dict(os.environ), "shm": shm.f_blocks * shm.f_frsize, "caps": status["CapEff"].strip(),
    "bounding": status["CapBnd"].strip(), "no_new": status["NoNewPrivs"].strip(),
    "secrets": [secrets.st_uid, oct(secrets.st_mode & 0o777)], "init": open("/proc/1/comm").read().strip(),
    "data": os.listdir("/launcher/data"), "agent": writable("/launcher/agent.pyz"),
    "source": writable("/launcher/data/train/x"), "socket": os.path.exists("/var/run/docker.sock"),
    "seccomp": status["Seccomp"].strip(), "argv": sys.argv[1:], "isolated": sys.flags.isolated,
}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the container's user may reach; pytest's own tmp_path is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="launcher-engine-"))
    path.chmod(0o755)
    (path / "segment").mkdir()
    (path / "data").mkdir()
    (path / "data" / "x").write_text("1")
    (path / "agent.pyz").write_text(PROBE)
    for name, text in run.account_files(FACTS).items():
        (path / "segment" / name).write_text(text)
    for owned in ("segment", "data", "agent.pyz"):  # the job's own, so that only the mounts stand in its way
        os.chown(path / owned, UID, UID)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def execute(folder: Path, base_image: str) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Create a container with this body, give it a line on stdin, and return what it printed."""
    client: Any = APIClient("unix:///var/run/docker.sock", version="auto")
    name = f"launcher-test-{uuid.uuid4().hex[:8]}"

    def call(config: dict[str, Any]) -> Any:
        identity = client.create_container_from_config(config, name)["Id"]
        docker("start", "-i", "-a", name, data=b"a line on stdin\n")
        assert client.wait(identity)["StatusCode"] == 0
        return json.loads(docker("logs", name))

    yield call
    docker("rm", "--force", "--volumes", name)
    client.close()


def place(folder: Path, **more: Any) -> Place:
    return Place(str(folder / "segment"), str(folder / "agent.pyz"), {"train": str(folder / "data")}, **more)


@pytest.fixture
def seen(folder: Path, base_image: str, execute: Callable[[dict[str, Any]], Any]) -> Any:
    """What a job sees of its container."""
    return execute(run.container_config(base_image, ORDER, place(folder, memory_bytes=MEMORY), FACTS))


def test_the_job_is_the_machines_user_without_any_power(seen: Any, folder: Path) -> None:
    assert (seen["user"], seen["group"]) == ("ada", "ada")
    assert seen["passwd"] == seen["environ"]["HOME"] == "/launcher/segment/home"
    assert seen["environ"]["USER"] == seen["environ"]["LOGNAME"] == "ada"
    assert int(seen["caps"], 16) == int(seen["bounding"], 16) == 0
    assert (seen["no_new"], seen["seccomp"]) == ("1", "2")
    assert not seen["socket"]
    made = (folder / "segment" / "made").stat()
    assert (made.st_uid, made.st_gid) == (UID, UID)
    assert (folder / "segment" / "made").read_text() == "a line on stdin\n"


def test_the_job_has_memory_to_share_and_an_init(seen: Any) -> None:
    assert seen["shm"] == MEMORY // 2
    assert "init" in seen["init"]
    assert seen["secrets"] == [UID, "0o700"]
    assert seen["argv"] == ["run", "/launcher/segment"]
    assert seen["isolated"] == 1


def test_what_is_not_the_jobs_is_read_only(seen: Any) -> None:
    assert seen["data"] == ["train"]
    assert not seen["agent"]
    assert not seen["source"]


def test_without_a_limit_half_of_the_machines_memory_may_be_shared(folder: Path) -> None:
    config = run.container_config("x", ORDER, place(folder), FACTS)["HostConfig"]
    assert config["ShmSize"] == 4 << 30
    assert "Memory" not in config


def test_a_missing_source_is_refused_and_not_made(
    folder: Path, base_image: str, execute: Callable[[dict[str, Any]], Any]
) -> None:
    gone = Place(str(folder / "segment"), str(folder / "gone.pyz"))
    with pytest.raises(Exception, match=r"gone\.pyz"):
        execute(run.container_config(base_image, ORDER, gone, FACTS))
    assert not (folder / "gone.pyz").exists()


def test_the_environments_own_interpreter_runs_the_agent(folder: Path) -> None:
    config = run.container_config("x", {**ORDER, "bin": "/opt/env/bin"}, place(folder), FACTS)
    assert config["Entrypoint"][0] == "/opt/env/bin/python"


def test_a_rootless_engine_maps_its_root_to_the_user() -> None:
    facts = {**FACTS, "docker": {"rootless": True}}
    assert run.user_ids(facts) == (0, 0)
    assert run.account_files(facts)[run.PASSWD].startswith("ada:x:0:0:")


@pytest.mark.parametrize(
    ("user", "kept"), [("ada", "ada"), ("CORP\\ada", "CORP\\ada"), ("a:b\n", "ab"), ("1000", "user")]
)
def test_a_user_name_that_a_passwd_file_cannot_hold_is_cut(user: str, kept: str) -> None:
    assert run.user_name({"user": user}) == kept


def test_a_container_with_gpus_is_given_them(new_gpu_server: Callable[..., GPUServer]) -> None:
    """On a FAKE GPU: the engine's own way of handing GPUs out is real, the device is not."""
    server = new_gpu_server()
    server.fake_gpu()
    server.load_image()
    for path in (run.PASSWD, run.GROUP):
        server.run(f"touch /root/{path}")
    config = run.container_config(
        "ubuntu:22.04", {**ORDER, "gpus": 1}, Place("/root", "/etc/hostname"), FACTS
    )
    config |= {"Entrypoint": ["sh", "-c"], "Cmd": ["env; nvidia-smi -L"], "User": "0:0", "WorkingDir": "/"}
    with forwarded_docker(server) as path:
        said = run_to_end(path, config)
    assert "FAKE GeForce" in said
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in said


def run_to_end(socket_path: str, config: dict[str, Any]) -> str:
    """All that a container printed."""
    client: Any = APIClient(f"unix://{socket_path}", version="auto")
    with contextlib.closing(client):
        identity = client.create_container_from_config(config)["Id"]
        client.start(identity)
        client.wait(identity)
        return str(client.logs(identity).decode())
