"""`launcher run train.py`: a script and what it needs, and no other file of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laptop import Laptop
from tests.servers import interpreter
from tests.servers.gpu_server import GPUServer
from tests.servers.interpreter import Served
from tests.targets.conftest import add_target

PROGRAM = "import six, sys; print('six', six.__version__, sys.argv[1:])\n"
MAJOR, MINOR = interpreter.MINOR.split(".")
PYTHON = f">={interpreter.MINOR},<{MAJOR}.{int(MINOR) + 1}"
HEADER = f'# /// script\n# requires-python = "{PYTHON}"\n# dependencies = ["six"]\n# ///\n'
SOURCES = {"header": "train.lock", "requirements.txt": "requirements.lock"}


@pytest.fixture(params=["local-plain", "ssh-docker"])
def laptop_and_door(
    request: pytest.FixtureRequest, locking_laptop: Laptop, shared_gpu_server: GPUServer
) -> Iterator[tuple[Laptop, str]]:
    locking_laptop.ok("target", "add", "local-plain", "local", "--docker", "never")
    add_target(locking_laptop, shared_gpu_server, docker="always", name="ssh-docker")
    yield locking_laptop, request.param
    locking_laptop.launcher("release", "--all", "--force")


def script(laptop: Laptop, source: str) -> Path:
    folder = laptop.work / "my project"
    folder.mkdir()
    (folder / "train.py").write_text((HEADER if source == "header" else "") + PROGRAM)
    if source == "requirements.txt":
        (folder / "requirements.txt").write_text("six>=1.16  # any\n")
    return folder / "train.py"


@pytest.mark.parametrize("source", SOURCES)
def test_a_bare_script_is_locked_once_and_runs(
    laptop_and_door: tuple[Laptop, str], served_python: Served, source: str
) -> None:
    laptop, door = laptop_and_door
    train = script(laptop, source)
    lock = train.with_name(SOURCES[source])

    planned = laptop.ok("plan", "train.py", "--on", door, cwd=train.parent)
    assert not lock.exists()
    first = laptop.ok("run", "train.py", "--on", door, "--", "--fast", "a b", cwd=train.parent)
    made, locked = lock.read_bytes(), lock.stat().st_mtime_ns
    second = laptop.ok("run", str(train), "--on", door)

    assert "would lock first" in planned.out
    assert first.out.startswith("six 1.")
    assert first.out.endswith("['--fast', 'a b']\n")
    assert "locking: there is no" in first.err
    assert "locking" not in second.err
    assert "lock: " not in second.err
    assert (lock.read_bytes(), lock.stat().st_mtime_ns) == (made, locked)
    assert laptop.status()["name"] == "train"
    segment = laptop.segment()
    assert segment["fingerprint"]["portable"]["python"] == served_python.version
    assert [name.split("==")[0] for name in segment["fingerprint"]["portable"]["packages"]] == ["six"]
    laptop.ok("lock", str(train))
    assert lock.read_bytes() == made


def test_plan_and_check_know_both_forms(laptop_and_door: tuple[Laptop, str]) -> None:
    laptop, door = laptop_and_door
    train = script(laptop, "header")

    (row,) = laptop.ok("--json", "plan", str(train), "--on", door).json["targets"]
    found = laptop.launcher("--json", "check", door)

    assert (row["fits"], row["form"]) == (True, door.rpartition("-")[2])
    assert found.code == 0, found.out
    assert laptop.ok("--json", "ps", "-a").json["runs"] == []
