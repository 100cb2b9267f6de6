"""One job behind four doors, two of them with another Python and other packages: nothing of that reaches it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.plain import PlainClient
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.machine import TRAP
from tests.emulators.kaggle.plain import Plain
from tests.free_tiers.traps import TRAIN, VERSION
from tests.laptop import Laptop, records
from tests.servers import interpreter
from tests.servers.gpu_server import GPUServer
from tests.servers.interpreter import Served
from tests.targets.conftest import add_target

DOORS = ("local-docker", "ssh-docker", "kaggle", "colab")
PLATFORMS = ("kaggle", "colab")
pytestmark = pytest.mark.timeout(900)  # the first one makes the server, four environments and images
OF_PLATFORMS = (
    "KAGGLE_",
    "COLAB_",
    "PYTHONPATH",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "MPLBACKEND",
    "UV_",
    "JPY_",
)
NAIVE = "import os\nos.environ['LAUNCHER_OUT'] = '{out}'\nos.makedirs('{out}')\n" + TRAIN.replace(
    "{", "{{"
).replace("}", "}}")


@dataclass(frozen=True)
class Parity:
    """One job, run once behind each door; `runs` maps a door to its run."""

    laptop: Laptop
    job: Path
    served: Served
    runs: Mapping[str, str]

    def home(self, door: str) -> Path:
        return self.laptop.work / "runs" / self.runs[door]

    def fingerprint(self, door: str) -> dict[str, Any]:
        found: dict[str, Any] = self.laptop.segment(self.runs[door])["fingerprint"]
        return found

    def seen(self, door: str) -> dict[str, Any]:
        """What the job printed: its variables, its path, its packages."""
        lines = [line for line in records(self.home(door) / "log.jsonl") if line["stream"] == "stdout"]
        found: dict[str, Any] = json.loads("".join(line["text"] for line in lines))
        return found


@pytest.fixture(scope="module")
def parity(
    shared_gpu_server: GPUServer,
    served_python: Served,
    own_images: None,
    platforms: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Parity]:
    variables = {**platforms, "UV_PYTHON_DOWNLOADS_JSON_URL": str(served_python.table)}
    laptop = Laptop(tmp_path_factory.mktemp("parity") / "laptop", variables)
    laptop.ok("target", "add", "local-docker", "local", "--docker", "always")
    add_target(laptop, shared_gpu_server, docker="always", name="ssh-docker")
    environment = {"python": interpreter.MINOR, "requirements": "requirements.lock"}
    job = laptop.job("parity", TRAIN, environment=environment)
    (job / "requirements.in").write_text("six\nclick\n")
    laptop.ok("lock", str(job))
    runs = {}
    try:
        for door in DOORS:
            laptop.ok("run", str(job), "--on", door, "-y")
            runs[door] = laptop.status()["id"]
        yield Parity(laptop, job, served_python, runs)
    finally:
        laptop.launcher("release", "--all", "--force")
        laptop.close()


@pytest.mark.parametrize("door", DOORS[1:])
def test_a_job_is_the_same_behind_every_door(parity: Parity, door: str) -> None:
    found = parity.laptop.launcher("--json", "diff", parity.runs[DOORS[0]], parity.runs[door])

    assert found.code == 0, found.out
    same = {row["what"]: row["equal"] for row in found.json["rows"]}
    assert all(same.values())
    assert {
        "job",
        "bundle",
        "lock",
        "portable fingerprint",
        "newest checkpoint",
        "output final.bin",
    } <= same.keys()
    assert "metrics (3 steps)" in same


@pytest.mark.parametrize("door", PLATFORMS)
def test_a_platforms_job_has_the_locks_interpreter_and_packages(parity: Parity, door: str) -> None:
    fingerprint = parity.fingerprint(door)

    assert fingerprint["shown"]["build"] == "managed"
    assert fingerprint["portable"]["python"] == parity.served.version
    assert set(fingerprint["portable"]["packages"]) == set(pinned(parity.job))


@pytest.mark.parametrize("door", PLATFORMS)
def test_nothing_of_a_platform_is_on_its_jobs_path_or_in_its_variables(parity: Parity, door: str) -> None:
    seen = parity.seen(door)

    assert [name for name in seen["environ"] if name.startswith(OF_PLATFORMS)] == []
    assert seen["packages"] == parity.seen("local-docker")["packages"] == ["click", "six"]
    assert not [one for one in seen["path"] if one.startswith(("/kaggle/lib", "/env", "/root/.local"))]


def test_kaggles_own_python_and_packages_would_be_seen(parity: Parity, kaggle: Kaggle) -> None:
    session = Plain(kaggle).push("runs-it-bare", NAIVE.format(out="/kaggle/working/out"))
    kaggle.wait("COMPLETE", session)

    assert session.outputs
    naive = (session.outputs / "out/final.bin").read_bytes()
    assert naive != (parity.home("kaggle") / "final.bin").read_bytes()
    seen = json.loads("".join(event["data"] for event in json.loads(session.log.array())))
    assert seen["made_of"] != parity.seen("kaggle")["made_of"]
    assert not seen["made_of"][0].startswith(parity.served.version)
    assert {f"click {VERSION}", f"six {VERSION}"} <= set(seen["made_of"])
    assert TRAP in seen["packages"]


def test_colabs_own_python_and_packages_would_be_seen(parity: Parity, colab: Colab) -> None:
    client = PlainClient.of(colab)
    runtime = client.runtime()
    cell = runtime.execute(NAIVE.format(out="/content/out"))

    naive = runtime.read("content/out/final.bin", 0, 99).content
    client.unassign(runtime.endpoint)
    assert naive != (parity.home("colab") / "final.bin").read_bytes()
    seen = json.loads(cell.printed())
    assert not seen["made_of"][0].startswith(parity.served.version)
    assert {"click 8.0.4", "six 1.15.0"} <= set(seen["made_of"])
    assert "jupyter_server" in seen["packages"]


def pinned(job: Path) -> list[str]:
    """name==version of each package in the lock."""
    lines = (job / "requirements.lock").read_text().splitlines()
    return [line.split()[0] for line in lines if "==" in line and not line.startswith("#")]
