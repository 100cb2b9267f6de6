"""`--image ship`: an environment made here runs on a server that can reach nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.laptop import Laptop, kill
from tests.servers import interpreter
from tests.servers.faultproxy import FaultProxy, Faults
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import docker

PROGRAM = "import click; print('ran with click', click.__file__)"
RATE = 20 << 20
LITTLE = 1 << 20
OUTSIDE = "iptables -I {} -o eth0 -m conntrack --ctstate NEW -j REJECT"


@dataclass(frozen=True)
class Shore:
    """A laptop, a job on a base that only its engine has, and a server without a way out, `far` being a slow
    line to it."""

    laptop: Laptop
    server: GPUServer
    job: Path
    line: FaultProxy

    def add(self, *packages: str) -> None:
        (self.job / "requirements.in").write_text("".join(f"{name}\n" for name in packages))

    def images(self) -> set[str]:
        return set(self.server.run("docker images -q --no-trunc").split())


@pytest.fixture(scope="module")
def shore(
    fresh_base: str, served_python: Any, docker_socket: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shore]:
    variables = {"UV_PYTHON_DOWNLOADS_JSON_URL": str(served_python.table)}
    laptop = Laptop(tmp_path_factory.mktemp("shore") / "laptop", variables)
    environment = {"python": interpreter.MINOR, "requirements": "requirements.lock", "base": fresh_base}
    job = laptop.job("ship", PROGRAM, environment=environment)
    with GPUServer() as server, FaultProxy(server.host, server.port, Faults(rate=RATE)) as line:
        for chain in ("OUTPUT", "FORWARD"):
            server.run(OUTSIDE.format(chain))
        shore = Shore(laptop, server, job, line)
        for name, port in (("near", server.port), ("far", line.port)):
            address = f"ssh://{server.user}@{server.host}:{port}"
            key = ("--key", server.key_path, "--host-key", server.fingerprint)
            laptop.ok("target", "add", name, address, *key, "--docker", "always")
        shore.add("click")
        yield shore
        laptop.launcher("release", "--all", "--force")
        laptop.close()


def progress(out: str) -> list[dict[str, Any]]:
    objects = [json.loads(line) for line in out.splitlines()]
    return [o for o in objects if o.get("phase") == "ship image" and o["detail"] == "send"]


def test_a_server_that_can_pull_nothing_says_what_would_help(shore: Shore) -> None:
    done = shore.laptop.launcher("run", str(shore.job), "--on", "near")

    assert done.code == 125
    assert "has no image" in done.err
    assert "--image ship" in done.err


def test_a_killed_shipping_is_finished_by_attach_with_what_is_missing(shore: Shore) -> None:
    laptop = shore.laptop
    with open(laptop.folder / "shipping", "wb") as out:
        client = laptop.start("--json", "run", str(shore.job), "--on", "far", "--image", "ship", stdout=out)

        def sent() -> int:
            lines = (laptop.folder / "shipping").read_text().rpartition("\n")[0]
            return max([o["done_bytes"] for o in progress(lines)], default=0)

        laptop.wait_for(lambda: sent() > 2 * RATE, "some seconds of sending")
        kill(client)
    total = progress((laptop.folder / "shipping").read_text().rpartition("\n")[0])[0]["total_bytes"]
    assert laptop.status()["state"] == "building"

    done = laptop.ok("--json", "attach", "last")

    again = progress(done.out)
    assert again[0]["total_bytes"] == total
    assert again[1]["done_bytes"] > RATE
    assert laptop.status()["state"] == "succeeded"
    assert "ran with click /opt/launcher/env/" in laptop.ok("logs", "last").out
    image = laptop.segment()["image"]
    assert image in shore.images()
    assert image in docker("images", "-q", "--no-trunc").split()
    assert shore.server.run("ls ~trainer/.launcher/ships ~trainer/.launcher/blobs").split() == [
        "/home/trainer/.launcher/blobs:",
        "/home/trainer/.launcher/ships:",
    ]
    assert not any((laptop.folder / "state" / "ships").iterdir())


def test_the_same_environment_is_not_sent_again(shore: Shore) -> None:
    before = shore.images()

    done = shore.laptop.ok("--json", "run", str(shore.job), "--on", "near", "--image", "ship")

    assert progress(done.out) == []
    assert shore.images() == before


def test_one_more_package_sends_one_more_layer(shore: Shore) -> None:
    shore.add("click", "six")

    done = shore.laptop.ok("--json", "run", str(shore.job), "--on", "near", "--image", "ship")

    assert 0 < progress(done.out)[-1]["total_bytes"] < LITTLE


def test_nothing_is_pulled_or_built_there(shore: Shore) -> None:
    history = shore.server.run("docker images --format '{{.Repository}}'").split()
    assert set(history) == {"launcher/env"}
