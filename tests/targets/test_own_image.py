"""A job that brings its own image, Dockerfile or Debian packages."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.laptop import Laptop
from tests.servers import registry
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import docker, output
from tests.targets.conftest import add_target

WHERE = "import sys; print('ran in', sys.prefix, open('/marker').read())"
DOCKERFILE = """
FROM {base}
USER nobody
ENV GREETING=hello
USER root
COPY docker/marker /marker
ENTRYPOINT ["/bin/false"]
HEALTHCHECK CMD /bin/false
USER 4321
"""
SIX = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"  # six-1.17.0-py2.py3-none-any.whl
NEEDS = {
    "image": {"image": "example.org/mine@sha256:" + "0" * 64},
    "dockerfile": {"dockerfile": "Dockerfile"},
    "apt": {"apt": ["hello"]},
}


@pytest.fixture
def here(laptop: Laptop, base_image: str, own_images: None) -> Iterator[Laptop]:
    laptop.ok("target", "add", "here", "local", "--docker", "always")
    yield laptop
    laptop.launcher("release", "--all", "--force")


@pytest.fixture
def made(base_image: str) -> Iterator[Any]:
    """`made(lines)`: the name of an image on the base; removed afterwards."""
    names: list[str] = []

    def make(lines: str) -> str:
        names.append(f"launcher-test/own:{uuid.uuid4().hex[:8]}")
        text = f"FROM {base_image}\n{lines}\n"
        output(["docker", "build", "--quiet", "--tag", names[-1], "-"], data=text.encode())
        return names[-1]

    yield make
    for name in names:
        docker("rmi", "--force", name)


def test_an_image_is_pulled_by_its_digest_and_used_as_it_is(here: Laptop, made: Any) -> None:
    mine = made('RUN echo mine >/marker\nENTRYPOINT ["/bin/false"]\nUSER 4321')
    with registry.running() as address:
        name = f"{address}/mine"
        docker("tag", mine, f"{name}:1")
        pushed = docker("push", f"{name}:1")
        digest = next(word for word in pushed.split() if word.startswith("sha256:"))
        docker("rmi", f"{name}:1", mine)
        job = here.job("own", WHERE, run="python3 train.py", environment={"image": f"{name}@{digest}"})
        try:
            done = here.ok("run", str(job), "--on", "here")
        finally:
            docker("rmi", "--force", f"{name}@{digest}")

    assert "ran in /usr mine" in done.out
    segment = here.segment()
    assert segment["base"] == digest
    assert segment["fingerprint"]["shown"]["build"] == "found"


def test_a_user_whom_docker_denies_access_is_told_how_to_get_it(laptop: Laptop, new_gpu_server: Any) -> None:
    server = new_gpu_server()
    server.run("gpasswd --delete trainer docker")
    add_target(laptop, server, docker="always")
    job = laptop.job("denied", WHERE, environment=NEEDS["apt"])

    done = laptop.launcher("run", str(job), "--on", "gpu1")
    found = laptop.launcher("check", "gpu1")

    assert done.code == 126
    assert "usermod -aG docker" in done.err
    assert (found.code, "usermod -aG docker" in found.out + found.err) == (1, True)


def test_an_image_that_the_server_cannot_pull_is_shipped(
    laptop: Laptop, shared_gpu_server: GPUServer, made: Any
) -> None:
    add_target(laptop, shared_gpu_server, docker="always")
    mine = made("RUN echo shipped >/marker")
    with registry.running() as address:
        name = f"{address}/mine"
        docker("tag", mine, f"{name}:1")
        digest = next(word for word in docker("push", f"{name}:1").split() if word.startswith("sha256:"))
        docker("rmi", f"{name}:1", mine)
        job = laptop.job("own", WHERE, run="python3 train.py", environment={"image": f"{name}@{digest}"})
        refused = laptop.launcher("run", str(job), "--on", "gpu1")
        done = laptop.ok("run", str(job), "--on", "gpu1", "--image", "ship")
        again = laptop.ok("--json", "run", str(job), "--on", "gpu1", "--image", "ship")

    assert refused.code == 125
    assert "--image ship" in refused.err
    assert "ran in /usr shipped" in done.out
    assert laptop.segment()["base"] == digest
    assert '"phase":"ship image"' not in again.out
    laptop.ok("release", "--all")
    docker("rmi", "--force", f"{name}@{digest}", laptop.segment()["image"])
    shared_gpu_server.run(f"docker rmi --force {laptop.segment()['image']}")


def test_a_dockerfile_of_the_job_is_built_beside_the_gpu(
    laptop: Laptop, shared_gpu_server: GPUServer
) -> None:
    add_target(laptop, shared_gpu_server, docker="always")
    job = laptop.job("built", WHERE, run="python3 train.py", environment={"dockerfile": "docker/Dockerfile"})
    (job / "docker").mkdir()
    (job / "docker/Dockerfile").write_text(DOCKERFILE.format(base="ubuntu:22.04"))
    (job / "docker/marker").write_text("built")

    first = laptop.ok("run", str(job), "--on", "gpu1")
    image = laptop.segment()["image"]
    base = laptop.segment()["base"]
    second = laptop.ok("run", str(job), "--on", "gpu1")

    assert "ran in /usr built" in first.out
    assert "image: " in first.err
    assert "image: " not in second.err
    assert "ran in /usr built" in second.out
    assert laptop.segment()["image"] == image
    assert laptop.segment()["base"] == base
    assert base.startswith("sha256:")
    laptop.ok("release", "--all")
    shared_gpu_server.run(f"docker rmi --force {image}")


def test_debian_packages_are_in_the_image(here: Laptop) -> None:
    job = here.job("apt", "", run="hello", environment={"python": "3.11", "apt": ["hello"]})

    done = here.ok("run", str(job), "--on", "here")

    assert "Hello, world!" in done.out


@pytest.mark.parametrize("key", NEEDS)
def test_without_docker_it_is_refused_with_the_reason(laptop: Laptop, key: str) -> None:
    laptop.ok("target", "add", "plain", "local", "--docker", "never")
    job = laptop.job("needs", WHERE, environment=NEEDS[key])
    (job / "Dockerfile").write_text("FROM scratch\n")

    done = laptop.launcher("run", str(job), "--on", "plain")

    assert done.code == 126
    assert "this job needs Docker (image, dockerfile or apt)" in done.err
    assert laptop.ok("--json", "ps", "-a").json["runs"] == []


def test_an_engine_that_is_not_there_is_named(laptop: Laptop) -> None:
    laptop.env["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    job = laptop.job("needs", WHERE, environment=NEEDS["apt"])

    done = laptop.launcher("run", str(job), "--on", "local")

    assert done.code == 126
    assert "/nowhere/docker.sock" in done.err


def with_python(laptop: Laptop, base: str, program: str) -> Path:
    """A job whose Dockerfile replaces the image's python3; an empty program: there is none."""
    job = laptop.job("bare", WHERE, run="echo hi", environment={"dockerfile": "Dockerfile"})
    remove = "RUN rm -f /usr/bin/python3* /usr/local/bin/python3*\n"
    write = f"RUN printf '{program}' >/usr/bin/python3 && chmod 755 /usr/bin/python3\n" if program else ""
    (job / "Dockerfile").write_text(f"FROM {base}\n{remove}{write}")
    return job


def test_an_image_without_python_is_told_at_once(here: Laptop, base_image: str) -> None:
    job = with_python(here, base_image, "")

    done = here.launcher("run", str(job), "--on", "here", timeout=120)

    assert done.code == 125
    assert "the job's image has no python3" in done.err
    assert "Python 3.8 or newer" in done.err
    here.ok("release", "last")
    assert docker("ps", "-aq", "--filter", f"name={here.status()['id']}") == ""


def test_an_image_whose_python_fails_is_lost_with_its_last_words(here: Laptop, base_image: str) -> None:
    job = with_python(here, base_image, "#!/bin/sh\\necho too old >&2\\nexit 2\\n")

    done = here.launcher("run", str(job), "--on", "here", timeout=120)

    assert done.code == 125
    assert "its container ended with 2 and left no exit record: too old" in done.err


def test_the_dockerfile_to_copy_brings_the_locked_packages(here: Laptop, base_image: str) -> None:
    script = "import six, sys; print('six', six.__version__, 'in', sys.prefix)"
    job = here.job("copied", script, environment={"dockerfile": "train.Dockerfile"})
    dockerfile = (Path(__file__).parents[2] / "docker/train.Dockerfile").read_text()
    stand_in = dockerfile.replace("FROM ubuntu:24.04", f"FROM {base_image}")
    assert stand_in != dockerfile
    (job / "train.Dockerfile").write_text(stand_in)
    (job / "requirements.lock").write_text(f"six==1.17.0 --hash=sha256:{SIX}\n")

    done = here.ok("run", str(job), "--on", "here", timeout=280)

    assert "six 1.17.0 in /opt/venv" in done.out
