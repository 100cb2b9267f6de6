"""What a change costs: code builds nothing, a small package leaves the heavy layer, and no secret is in any."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.laptop import Laptop, kill
from tests.servers import interpreter
from tests.servers.interpreter import Served
from tests.servers.programs import docker

SECRET = "hf_this-must-not-be-in-an-image"
PROGRAM = "import click; print('code', 1)"


@dataclass(frozen=True)
class Here:
    """A laptop whose own engine runs its jobs, on a base that nothing was built on before."""

    laptop: Laptop
    base: str

    def job(self, *packages: str, **spec: Any) -> Path:
        """A job with these packages locked, of which click counts as heavy."""
        environment = {"python": interpreter.MINOR, "requirements": "requirements.lock", "base": self.base}
        job = self.laptop.job("layers", PROGRAM, environment=environment, **spec)
        (job / "requirements.in").write_text("".join(f"{name}\n" for name in packages))
        self.laptop.ok("lock", str(job))
        lock = (job / "requirements.lock").read_text()
        assert "# heavy:" not in lock
        (job / "requirements.lock").write_text(lock.replace("# source:", "# heavy: click\n# source:"))
        return job

    def image(self) -> dict[str, Any]:
        """The image that the last run used, as the engine knows it."""
        found: dict[str, Any] = json.loads(docker("image", "inspect", self.laptop.segment()["image"]))[0]
        return found


@pytest.fixture
def here(locking_laptop: Laptop, fresh_base: str) -> Iterator[Here]:
    locking_laptop.ok("target", "add", "here", "local", "--docker", "always")
    yield Here(locking_laptop, fresh_base)
    locking_laptop.launcher("release", "--all", "--force")


def images_of(base: str) -> set[str]:
    """All environments on that base, those that lost their name too."""
    words = ["--filter", f"label=fresh={base}", "--filter", "label=launcher.environment"]
    return set(docker("images", "--quiet", "--no-trunc", *words).split())


def test_a_change_of_code_builds_nothing(here: Here) -> None:
    job = here.job("click")
    here.laptop.ok("run", str(job), "--on", "here")
    before = here.image()
    (job / "train.py").write_text(PROGRAM.replace("1", "2"))

    done = here.laptop.ok("run", str(job), "--on", "here")

    assert "code 2" in done.out
    assert here.image()["Id"] == before["Id"]
    assert "image" not in done.err


def test_a_small_package_leaves_the_heavy_layer_as_it_is(here: Here, served_python: Served) -> None:
    here.laptop.ok("run", str(here.job("click")), "--on", "here")
    before, fetched = here.image()["RootFS"]["Layers"], len(served_python.asked)

    done = here.laptop.ok("run", str(here.job("click", "six")), "--on", "here")

    after = here.image()["RootFS"]["Layers"]
    assert "image" in done.err
    assert len(after) > len(before)
    heavy = len(before) - 1  # its last layer says that it is complete
    assert after[:heavy] == before[:heavy]
    assert len(served_python.asked) == fetched


def test_a_build_whose_client_was_killed_is_finished_by_attach(here: Here) -> None:
    laptop, job = here.laptop, here.job("click", "packaging")
    said = laptop.folder / "said"
    with open(said, "wb") as out:
        client = laptop.start("--json", "run", str(job), "--on", "here", stdout=out)
        laptop.wait_for(lambda: "build_packages" in said.read_text(), "packages being installed")
        kill(client)

    assert laptop.status()["state"] == "building"
    done = laptop.ok("attach", "last")

    assert "code 1" in done.out
    assert laptop.status()["state"] == "succeeded"


def test_of_several_at_once_one_builds(here: Here, served_python: Served) -> None:
    laptop, job = here.laptop, here.job("click", "pluggy")
    before, fetched = images_of(here.base), len(served_python.asked)

    clients = [laptop.start("run", str(job), "--on", "here") for _ in range(3)]
    said = [client.communicate(timeout=120) for client in clients]

    assert [client.returncode for client in clients] == [0, 0, 0], said
    assert len(images_of(here.base) - before) == 1
    assert len(served_python.asked) <= fetched + 1


def test_nothing_secret_enters_a_build(here: Here) -> None:
    login = base64.b64encode(f"ada:{SECRET}".encode()).decode()
    (here.laptop.folder / "docker").mkdir()
    (here.laptop.folder / "docker/config.json").write_text(
        json.dumps({"auths": {"registry.example": {"auth": login}}})
    )
    (here.laptop.folder / ".netrc").write_text(f"machine registry.example login ada password {SECRET}\n")
    here.laptop.env |= {
        "DOCKER_CONFIG": str(here.laptop.folder / "docker"),
        "TOKEN": SECRET,
        "HTTP_TOKEN": SECRET,
    }
    job = here.job("click", "idna", secrets=["TOKEN"])

    done = here.laptop.ok("--json", "run", str(job), "--on", "here")

    image = here.image()["Id"]
    build = "".join(json.dumps(o) for o in done.objects if o.get("phase") == "image")
    history = docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    assert "build_packages" in build
    saved = subprocess.run(["docker", "save", image], capture_output=True, check=True).stdout
    for hidden in (SECRET, login, base64.b64encode(SECRET.encode()).decode()):
        assert hidden not in build + history
        assert hidden.encode() not in saved
