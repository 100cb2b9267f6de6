"""One door at a time: the same fixture for this machine and a server, with Docker and without."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.laptop import Laptop
from tests.servers import interpreter
from tests.servers.gpu_server import GPUServer
from tests.servers.interpreter import Served
from tests.servers.programs import output

DOORS = ("local-plain", "local-docker", "ssh-plain", "ssh-docker")


@dataclass
class Door:
    """A laptop and the name of a target on it; `cat` reads a file of a run's folder where it lies."""

    laptop: Laptop
    target: str
    docker: bool
    server: GPUServer | None
    python = "3.11."  # what a job that asks for 3.11 gets
    live_checkpoints = True  # they come home while the job runs
    cancelled_code = 75  # of a job that saves and stops when it is cancelled
    keeps = True  # what the segment left lies there until it is released
    # long enough to be looked at and stopped in the middle, on a busy machine too; what is left then takes no time
    relay: ClassVar = {"steps": 100, "pause": 0.2, "later": 0}

    @property
    def form(self) -> str:
        return "docker" if self.docker else "plain"

    def kill_agent(self, run: str) -> None:
        """As when memory runs out there."""
        command = f"docker kill {run}-0"
        if not self.docker:
            command = f"kill -9 {json.loads(self.cat(f'runs/{run}/0/state.json'))['agent_pid']}"
        if self.server:
            self.server.run(command)
        else:
            output(["sh", "-c", command])

    def cat(self, path: str) -> bytes:
        """A file below ~/.launcher there."""
        if self.server is None:
            return (self.laptop.folder / ".launcher" / path).read_bytes()
        return base64.b64decode(self.server.run(f"base64 /home/trainer/.launcher/{path}"))

    def exists(self, path: str) -> bool:
        if self.server is None:
            return (self.laptop.folder / ".launcher" / path).exists()
        return "yes" in self.server.run(f"test -e /home/trainer/.launcher/{path} && echo yes || echo no")


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop with 'quotes' ü")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def own_images(docker_socket: str) -> Iterator[None]:
    """Images that the tests make in this machine's engine are gone at the end."""
    before = _made_here()
    yield
    for made in _made_here() - before:
        output(["docker", "rmi", "--force", made])


def _made_here() -> set[str]:
    """What launcher made, but for uv: by name, as another name may hold it; by id what has lost its name."""
    form = "{{.Repository}}:{{.Tag}} {{.ID}}"
    found = set()
    for only in ("reference=launcher/*", "label=launcher.environment"):
        listed = output(["docker", "images", "--filter", only, "--format", form])
        lines = [line.split() for line in listed.splitlines()]
        found |= {identity if "<none>" in name else name for name, identity in lines}
    return {name for name in found if not name.startswith(("launcher/uv:", "launcher-test/"))}


@pytest.fixture(scope="module")
def fresh_base(base_image: str, own_images: None) -> Iterator[str]:
    """The base image with an id of its own: nothing was ever built on it. Only this machine's engine has it."""
    name = f"launcher-test/fresh:{uuid.uuid4().hex[:8]}"
    text = f"FROM {base_image}\nLABEL fresh={name}\n"
    output(["docker", "build", "--quiet", "--tag", name, "-"], data=text.encode())
    yield name
    output(["docker", "rmi", "--force", name])


@pytest.fixture(scope="session")
def served_python(docker_socket: str) -> Iterator[Served]:
    """A CPython for locks, at an address that containers reach too, those of a nested engine among them."""
    bridge = json.loads(output(["ip", "-json", "-4", "addr", "show", "docker0"]))[0]
    with interpreter.serving(bridge["addr_info"][0]["local"]) as served:
        yield served


@pytest.fixture
def locking_laptop(laptop: Laptop, served_python: Served) -> Laptop:
    """A laptop whose locks name the served interpreter."""
    laptop.env["UV_PYTHON_DOWNLOADS_JSON_URL"] = str(served_python.table)
    return laptop


def add_target(laptop: Laptop, server: GPUServer, *, docker: str, name: str = "gpu1") -> None:
    laptop.ok(
        *("target", "add", name, server.address, "--host-key", server.fingerprint),
        *("--key", server.key_path, "--docker", docker),
    )


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, laptop: Laptop) -> Iterator[Door]:
    where, _, form = request.param.partition("-")
    docker = form == "docker"
    server = None
    if where == "ssh":
        server = request.getfixturevalue("shared_gpu_server")
        add_target(laptop, server, docker="always" if docker else "never")
    else:
        if docker:
            request.getfixturevalue("base_image")
        laptop.ok("target", "add", "gpu1", "local", "--docker", "always" if docker else "never")
    yield Door(laptop, "gpu1", docker, server)
    for process in laptop.started:
        if process.poll() is None:
            process.kill()
    laptop.launcher("release", "--all", "--force")
