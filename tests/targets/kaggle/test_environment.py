"""The locked environment on Kaggle: built from the internet, or from a private dataset that later runs use too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import interpreter
from tests.servers.interpreter import Served
from tests.targets.kaggle.place import Place
from tests.targets.kaggle.place import kaggle as kaggle
from tests.targets.kaggle.place import place as place

SHOW = "import six, sys\nprint(six.__version__, six.__file__, sys.prefix)\nprint(list(sys.version_info[:3]))"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with interpreter.serving() as serving:
        yield serving


@pytest.fixture
def locked(place: Place, served: Served) -> Path:
    """A job with a lock: this interpreter and one wheel."""
    place.laptop.env["UV_PYTHON_DOWNLOADS_JSON_URL"] = str(served.table)
    environment = {"python": interpreter.MINOR, "requirements": "requirements.lock"}
    job = place.laptop.job("locked", SHOW, environment=environment)
    (job / "requirements.in").write_text("six\n")
    place.laptop.ok("lock", str(job))
    return job


def version() -> str:
    return str([int(part) for part in interpreter.VERSION.split(".")])


def test_the_environment_is_the_locks_and_nothing_of_the_platforms(place: Place, locked: Path) -> None:
    done = place.laptop.ok("run", str(locked), "--on", "kaggle")
    assert version() in done.out
    assert "/kaggle/tmp/launcher/" in done.out
    assert place.laptop.segment()["fingerprint"]["shown"]["build"] == "managed"


def test_without_internet_it_comes_from_a_private_dataset_which_later_runs_find(
    place: Place, locked: Path, served: Served
) -> None:
    laptop = place.laptop
    place.account.phone_verified = False
    laptop.ok("target", "add", "mine", "kaggle", "--set", "internet=off", "--set", "environment=dataset")
    assert "the first run uploads" in laptop.ok("plan", str(locked), "--on", "mine").out
    assert version() in laptop.ok("run", str(locked), "--on", "mine").out
    assert not place.sessions[0].machine.internet
    laptop.ok("release", "last")
    (environment,) = place.datasets
    assert "launcher-env-" in environment
    assert "the first run uploads" not in laptop.ok("plan", str(locked), "--on", "mine").out
    uploads = sum(call == "StartBlobUpload" for call, _ in place.kaggle.asked)
    fetched = len(served.asked)
    assert version() in laptop.ok("run", str(locked), "--on", "mine").out
    assert len(served.asked) == fetched
    assert sum(call == "StartBlobUpload" for call, _ in place.kaggle.asked) - uploads < 8
    laptop.ok("release", "last")
    assert place.datasets == [environment]


def test_an_account_without_a_phone_number_is_told_of_the_other_way(place: Place, locked: Path) -> None:
    place.account.phone_verified = False
    done = place.laptop.launcher("run", str(locked), "--on", "kaggle")
    assert done.code == 126
    assert "phone number is not verified" in done.err
    assert "environment: dataset" in done.err
    assert "internet: off" in done.err
    assert place.laptop.status()["state"] == "failed"
    place.nothing_left()


def test_the_internet_turned_off_wants_the_environment_from_a_dataset(place: Place, locked: Path) -> None:
    place.laptop.ok("target", "add", "mine", "kaggle", "--set", "internet=off")
    done = place.laptop.launcher("run", str(locked), "--on", "mine")
    assert done.code == 126
    assert "environment: dataset" in done.err
    assert place.sessions == []
    place.nothing_left()


def test_an_environment_that_cannot_be_built_is_a_failure_with_its_reason(place: Place, locked: Path) -> None:
    lock = locked / "requirements.lock"
    lock.write_text(re.sub(r"--hash=sha256:\w{64}", "--hash=sha256:" + "0" * 64, lock.read_text()))
    done = place.laptop.launcher("run", str(locked), "--on", "kaggle")
    assert done.code == 125
    assert place.laptop.status()["state"] == "failed"
    assert "environment" in place.laptop.status()["reason"]
    assert "Traceback" not in done.err
    place.laptop.ok("release", "last")
    place.nothing_left()
