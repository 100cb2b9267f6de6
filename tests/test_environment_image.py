"""One environment from a lock, as a Docker image: on a base with nothing in it, layer by layer."""

from __future__ import annotations

import io
import ipaddress
import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.agent.fingerprint import packages
from launcher.environment import (
    UV_DOCKERFILE,
    EnvironmentPlan,
    VenvPaths,
    context_files,
    env_path,
    image_tag,
    plan,
    venv_script,
)
from launcher.job.spec import Environment
from launcher.lock import Lock, parse_lock
from launcher.locking import LockSettings, write_lock
from launcher.tools import installed_uv, uv_binary
from tests.servers import interpreter
from tests.servers.bare_image import bare
from tests.servers.interpreter import Served
from tests.servers.programs import docker
from tests.test_sources import job

ARCH = os.uname().machine
ENVIRONMENT = Environment(python=interpreter.MINOR)


@pytest.fixture(scope="module")
def bare_base(docker_socket: str) -> Iterator[str]:
    with bare() as tag:
        yield tag


@pytest.fixture(scope="module")
def served(docker_socket: str) -> Iterator[Served]:
    subnet = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
    gateway = str(next(ipaddress.ip_network(subnet).hosts()))  # this machine, as containers see it
    with interpreter.serving(gateway) as served:
        yield served


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Lock:
    """six and click, of which click counts as heavy."""
    folder = tmp_path_factory.mktemp("lock")
    wanted = f"requirements: r.lock, python: '{interpreter.MINOR}'"
    made = job(folder / "job", wanted, r_in="click==8.1.8\nsix==1.17.0\n")
    locked = parse_lock(write_lock(made, LockSettings(folder / "cache", str(served.table))))
    return replace(locked, heavy=frozenset({"click"}))


class Built:
    """Images built by the classic builder; all are removed at the end."""

    def __init__(self) -> None:
        self.tags: list[str] = []

    def build(self, made: EnvironmentPlan, base: str) -> tuple[str, str]:
        """(tag, what the builder said)."""
        if not self.tags:
            uv = uv_binary("linux", ARCH).path.read_bytes()
            self._build("uv", {"Dockerfile": UV_DOCKERFILE, "uv": uv})
        return self._build("env", context_files(made, base, self.tags[0]))

    def _build(self, name: str, files: Mapping[str, bytes]) -> tuple[str, str]:
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size, member.mode = len(content), 0o755 if path == "uv" else 0o644
                archive.addfile(member, io.BytesIO(content))
        self.tags.append(f"launcher-test/{name}:{uuid.uuid4().hex[:8]}")
        done = subprocess.run(
            ["docker", "build", "--tag", self.tags[-1], "-"],
            input=context.getvalue(),
            capture_output=True,
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return self.tags[-1], done.stdout.decode()


@pytest.fixture(scope="module")
def built(docker_socket: str) -> Iterator[Built]:
    images = Built()
    yield images
    docker("rmi", "--force", *images.tags)


def steps(said: str) -> dict[str, bool]:
    """Each step of a build, and whether it came from the cache."""
    parts = said.split("\nStep ")
    return {part.split(" : ", 1)[1].split("\n")[0]: "Using cache" in part for part in parts if " : " in part}


def cached(said: str, words: str) -> bool:
    return next(hit for step, hit in steps(said).items() if words in step)


def test_a_base_without_python_gets_interpreter_and_packages_for_any_user(
    built: Built, bare_base: str, lock: Lock, served: Served
) -> None:
    tag, _ = built.build(plan(ENVIRONMENT, lock, ARCH), bare_base)
    program = "import six, click, ssl, sqlite3, sys; print(sys.version.split()[0], sys.executable)"
    run = ("run", "--rm", "--network", "none", "--user", "1234:1234", tag)
    assert docker(*run, "python", "-c", program).split() == [served.version, "/opt/launcher/env/bin/python"]
    assert json.loads(docker(*run, "cat", "/opt/launcher/env/.ready"))["interpreter"] == "managed"


def test_a_small_package_rebuilds_neither_interpreter_nor_heavy_layer(
    built: Built, bare_base: str, lock: Lock, served: Served
) -> None:
    made = plan(ENVIRONMENT, lock, ARCH)
    built.build(made, bare_base)
    asked = len(served.asked)
    other = {**made.files, "rest.txt": made.files["rest.txt"] + f"# {uuid.uuid4()}\n"}
    _, said = built.build(replace(made, files=other), bare_base)
    assert cached(said, "build_interpreter")
    assert cached(said, "build_packages heavy.txt")
    assert not cached(said, "build_packages rest.txt")
    assert len(served.asked) == asked


def test_the_same_lock_is_the_same_image_whatever_the_code(built: Built, bare_base: str, lock: Lock) -> None:
    made = plan(ENVIRONMENT, lock, ARCH)
    built.build(made, bare_base)
    tag, said = built.build(made, bare_base)
    assert all(hit for step, hit in steps(said).items() if not step.startswith("FROM"))
    assert image_tag(made, docker("inspect", "--format", "{{.Id}}", bare_base)) == image_tag(
        plan(ENVIRONMENT, lock, ARCH), docker("inspect", "--format", "{{.Id}}", bare_base)
    )
    assert (
        docker("inspect", "--format", '{{index .Config.Labels "launcher.environment"}}', tag).strip()
        == made.key
    )


def test_both_forms_hold_the_same_files(tmp_path: Path, built: Built, bare_base: str, lock: Lock) -> None:
    made = plan(ENVIRONMENT, lock, ARCH)
    tag, _ = built.build(made, bare_base)
    container = docker("create", tag, "true").strip()
    try:
        inside = f"lib/python{interpreter.MINOR}/site-packages"
        docker("cp", f"{container}:/opt/launcher/env/{inside}", str(tmp_path / "image"))
    finally:
        docker("rm", container)
    script = venv_script(made, VenvPaths(str(tmp_path), installed_uv()))
    subprocess.run(["sh"], input=script.encode(), check=True, capture_output=True)
    here = Path(env_path(made, str(tmp_path))) / inside
    assert packages([str(tmp_path / "image")]) == packages([str(here)])
    assert len(packages([str(here)])) == 2
