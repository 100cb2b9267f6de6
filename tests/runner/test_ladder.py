"""The ladder of targets: what is refused, full or not signed in to is passed over, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.settings import Answer, Settings
from tests.laptop import Laptop

PRINTS = (
    "import os; print('segment', os.environ['LAUNCHER_SEGMENT'], os.environ.get('LAUNCHER_RESUME', '-')[-3:])"
)
SAVES = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUT"]) / "checkpoints"
out.mkdir()
(out / "one.tmp").write_text("saved")
(out / "one.tmp").rename(out / "one")
"""


@pytest.fixture(scope="module")
def kaggle() -> Iterator[Kaggle]:
    with Kaggle(Settings(time_scale=360)) as emulator:
        yield emulator


@pytest.fixture
def laptop(tmp_path: Path, kaggle: Kaggle) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop", kaggle.environment)
    made.ok("target", "add", "here", "local", "--docker", "never")
    made.job("prints", PRINTS)
    yield made
    kaggle.faults.answers.clear()
    made.launcher("release", "--all", "--force")
    made.close()


def push_refused(kaggle: Kaggle, status: int = 403) -> None:
    kaggle.faults.answers.append(Answer("SaveKernel", status=status, message="not today"))


def left_on(kaggle: Kaggle) -> list[str]:
    return [*kaggle.kernels.by_ref, *kaggle.datasets.by_ref]


def test_a_refusal_at_submission_moves_on_and_leaves_nothing_behind(laptop: Laptop, kaggle: Kaggle) -> None:
    push_refused(kaggle)
    done = laptop.ok("run", "prints", "--on", "kaggle", "--on", "here")
    assert done.out == "segment 1 -\n"
    assert "going on with here" in done.err
    status = laptop.status()
    states = [(s["target"], s["state"], bool(s["released_at"])) for s in status["segments"]]
    assert states == [("kaggle", "failed", True), ("here", "succeeded", False)]
    assert left_on(kaggle) == []


def test_a_refusal_with_nothing_left_of_the_ladder_is_the_end(laptop: Laptop, kaggle: Kaggle) -> None:
    push_refused(kaggle, 400)
    done = laptop.launcher("run", "prints", "--on", "kaggle")
    assert (done.code, done.out) == (126, "")
    assert laptop.status()["state"] == "failed"
    assert left_on(kaggle) == []
    assert laptop.launcher("wait", "last").code == 126


def test_a_submission_that_may_yet_be_finished_is_kept(laptop: Laptop, kaggle: Kaggle) -> None:
    push_refused(kaggle, 403)
    done = laptop.launcher("run", "prints", "--on", "here", "--on", "kaggle")
    assert done.code == 0
    done = laptop.launcher("run", "prints", "--on", "kaggle")
    assert done.code == 125
    nonce = laptop.status()["id"][-8:]
    assert [nonce in name for name in left_on(kaggle)] == [True]
    assert laptop.ok("attach", "last").out == "segment 0 -\n"


def test_what_cannot_be_asked_is_passed_over(laptop: Laptop) -> None:
    del laptop.env["KAGGLE_API_TOKEN"]
    done = laptop.ok("run", "prints", "--on", "verda", "--on", "kaggle", "--on", "here")
    assert "skipped verda: " in done.err
    assert "skipped kaggle: " in done.err
    assert done.out == "segment 0 -\n"
    assert laptop.launcher("run", "prints", "--on", "kaggle").code == 125
    assert laptop.launcher("run", "prints", "--on", "verda", "--on", "kaggle").code == 126


def test_a_checkpoint_of_another_run_goes_down_the_ladder_too(laptop: Laptop, kaggle: Kaggle) -> None:
    laptop.job("saves", SAVES)
    laptop.ok("run", "saves", "--on", "here")
    push_refused(kaggle)
    done = laptop.ok("run", "prints", "--on", "kaggle", "--on", "here", "--from", "saves")
    assert done.out == "segment 1 one\n"
