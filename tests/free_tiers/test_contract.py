"""The contract that every door keeps, kept by the free tiers; what platforms end by themselves is said here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.kaggle.emulator import Kaggle
from tests.free_tiers.doors import ColabDoor, FreeLaptop, KaggleDoor
from tests.laptop import records
from tests.targets.conftest import Door
from tests.targets.test_contract import TRAIN, spec
from tests.targets.test_contract import (
    test_a_detached_run_is_cancelled_resumed_and_ends_as_an_undisturbed_one as test_cancel_and_resume,
)
from tests.targets.test_contract import (
    test_a_job_runs_and_everything_comes_home as test_everything_comes_home,
)
from tests.targets.test_contract import test_a_killed_client_loses_nothing as test_killed_client
from tests.targets.test_contract import (
    test_a_living_run_is_not_released_without_force as test_living_runs_are_kept,
)
from tests.targets.test_contract import (
    test_release_leaves_nothing_there_and_everything_home as test_release_leaves_nothing,
)
from tests.targets.test_contract import test_the_exit_code_is_the_jobs_own as test_exit_code

__all__ = [
    "test_cancel_and_resume",
    "test_everything_comes_home",
    "test_exit_code",
    "test_killed_client",
    "test_living_runs_are_kept",
    "test_release_leaves_nothing",
]


@pytest.fixture(params=["kaggle", "colab"])
def door(
    request: pytest.FixtureRequest, kaggle: Kaggle, colab: Colab, platforms: dict[str, str], tmp_path: Path
) -> Iterator[Door]:
    laptop = FreeLaptop(tmp_path / "laptop with 'quotes' ü", platforms)
    if request.param == "kaggle":
        kaggle.alice.secrets["TOKEN"] = "hunter2-hunter2"
        made: Door = KaggleDoor(laptop, "kaggle", False, None, kaggle)
    else:
        made = ColabDoor(laptop, "colab", False, None, colab)
    try:
        yield made
    finally:
        laptop.launcher("release", "--all", "--force")
        laptop.close()
    assert not [one for one in kaggle.sessions if not one.over]
    assert colab.endpoints == []


def test_a_job_whose_agent_dies_goes_on_from_its_newest_checkpoint(door: Door) -> None:
    laptop = door.laptop
    job = laptop.job("dies", TRAIN, **spec(params=door.relay))
    laptop.ok("run", str(job), "--on", door.target, "-d")
    run = laptop.status()["id"]
    laptop.wait_for(lambda: "step 3" in laptop.ok("logs", run).out, "the third step")
    door.kill_agent(run)

    assert laptop.launcher("attach", run).code in (124, 125)
    assert laptop.status(run)["state"] in ("lost", "preempted")
    done = laptop.ok("resume", run)

    assert "resumed at" in done.out
    assert laptop.status(run)["state"] == "succeeded"
    lines = records(laptop.work / "runs" / run / "log.jsonl")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
