"""What a notebook wrote and the user downloaded comes home by `pull --from-folder`, verified like everything else."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.ledger import Ledger
from launcher.run import State
from tests.laptop import Laptop, records, sha256
from tests.runner.steady import assert_numbered, home_of

TRAIN = """
import json, os, pathlib, time
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
(out / "checkpoints").mkdir()
(out / "deep").mkdir()
with open(out / "metrics.jsonl", "w", buffering=1) as metrics:
    for step in range(1, 5):
        print("step", step, "after", os.path.basename(os.environ.get("LAUNCHER_RESUME", "nothing")))
        metrics.write(json.dumps({"step": step, "loss": 1 / step}) + "\\n")
        part = out / "checkpoints" / f"step-{step}.tmp"
        part.write_bytes(bytes([step]) * 100_000)
        part.rename(out / "checkpoints" / f"step-{step}")
(out / "final.bin").write_bytes(b"weights" * 1000)
(out / "deep" / "notes.txt").write_text("fine")
print("trained", flush=True)
first = os.environ["LAUNCHER_SEGMENT"] == "0"
while first and "WAIT" in os.environ and not os.path.exists(os.environ["WAIT"]):
    time.sleep(0.05)
"""


@dataclasses.dataclass(frozen=True)
class Downloaded:
    """A run whose notebook was opened by hand: only the ledger knows it, and a folder has what it wrote."""

    laptop: Laptop
    run: str
    folder: Path  # has <run>/0 in it

    @property
    def segment(self) -> Path:
        return self.folder / self.run / "0"

    def pull(self, *words: str) -> tuple[int, str]:
        done = self.laptop.launcher("pull", self.run, "--from-folder", str(self.folder), *words)
        assert "Traceback" not in done.err
        return done.code, done.err

    def refused(self, code: int = 125) -> str:
        """The one line (and its hint) of a pull that must fail."""
        found, err = self.pull()
        lines = [line for line in err.splitlines() if line.startswith(("error:", "hint:"))]
        assert found == code, err
        assert len(lines) == 2, err
        return lines[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Laptop, str]]:
    """A run that has ended where nobody fetched it."""
    yield from _ran(tmp_path_factory, killed=False)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Laptop, str]]:
    """A run whose session was ended in the middle: no exit record."""
    yield from _ran(tmp_path_factory, killed=True)


def _ran(factory: pytest.TempPathFactory, killed: bool) -> Iterator[tuple[Laptop, str]]:
    laptop = Laptop(factory.mktemp("place") / "laptop")
    laptop.ok("target", "add", "here", "local", "--docker", "never")
    env = {"WAIT": str(laptop.folder / "never")} if killed else {}
    laptop.job("flowers", TRAIN, env=env)
    laptop.ok("run", "flowers", "--on", "here", "-d")
    run = Ledger(laptop.folder / "state").find("last").id
    there = laptop.folder / ".launcher/runs" / run / "0"
    if killed:
        laptop.wait_for(lambda: (there / "manifest.jsonl").read_bytes().count(b"\n") == 4, "4 checkpoints")
        laptop.wait_for(lambda: b"trained" in (there / "log.jsonl").read_bytes(), "the last line")
        _kill_all(json.loads((there / "state.json").read_text()))
    else:
        laptop.wait_for((there / "exit.json").exists, "the end")
    yield laptop, run
    laptop.launcher("release", run, "--force")
    laptop.close()


def _kill_all(state: dict[str, int]) -> None:
    os.kill(state["agent_pid"], signal.SIGKILL)
    os.killpg(state["session"], signal.SIGKILL)


@pytest.fixture
def by_hand(tmp_path: Path, finished: tuple[Laptop, str]) -> Iterator[Downloaded]:
    yield from _downloaded(tmp_path, *finished)


@pytest.fixture
def cut_off(tmp_path: Path, killed: tuple[Laptop, str]) -> Iterator[Downloaded]:
    yield from _downloaded(tmp_path, *killed)


def _downloaded(tmp_path: Path, place: Laptop, run_id: str) -> Iterator[Downloaded]:
    laptop = Laptop(tmp_path / "laptop")
    theirs, ours = Ledger(place.folder / "state"), Ledger(laptop.folder / "state")
    run = theirs.run(run_id)
    waiting = dataclasses.replace(
        run.segments[0],
        target="kaggle-notebook",
        handle={"resume": None},
        state=State.PENDING,
        started_at=None,
    )
    home = laptop.work / "runs" / run_id
    ours.create_run(dataclasses.replace(run, home=str(home), segments=(waiting,)))
    theirs.close()
    ours.close()
    folder = tmp_path / "down load" / "archive"
    kept = shutil.ignore_patterns("work", "home", "bundle.tar", "order.json", "control", "agent.*", "data")
    shutil.copytree(place.folder / ".launcher/runs" / run_id / "0", folder / run_id / "0", ignore=kept)
    yield Downloaded(laptop, run_id, folder)
    laptop.close()


def test_a_downloaded_folder_comes_home_whole(by_hand: Downloaded) -> None:
    code, err = by_hand.pull()
    assert code == 0, err
    assert f"segment 0 of {by_hand.run}: succeeded" in err
    status = by_hand.laptop.status(by_hand.run)
    assert (status["state"], status["exit_code"], status["target"]) == ("succeeded", 0, "kaggle-notebook")
    home = home_of(by_hand.laptop)
    assert sorted(path.name for path in (home / "checkpoints").iterdir()) == [
        f"step-{n}" for n in range(1, 5)
    ]
    for name in ("final.bin", "deep/notes.txt", "checkpoints/step-4", "metrics.jsonl"):
        assert sha256(home / name) == sha256(by_hand.segment / "out" / name)
    assert (home / "log.jsonl").read_bytes() == (by_hand.segment / "log.jsonl").read_bytes()
    capsule = json.loads((home / "capsule.json").read_text())
    assert capsule["state"] == "succeeded"
    assert capsule["fingerprint"]["portable"]


def test_twice_is_harmless(by_hand: Downloaded) -> None:
    by_hand.pull()
    home = home_of(by_hand.laptop)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != "lock"}
    code, err = by_hand.pull()
    assert code == 0
    assert "was home already" in err
    assert before == {path: path.read_bytes() for path in before}


def test_the_segments_folder_itself_may_be_named_and_a_copy_elsewhere_made(by_hand: Downloaded) -> None:
    copy = by_hand.laptop.folder / "copy"
    done = by_hand.laptop.ok(
        "pull",
        by_hand.run,
        "--from-folder",
        str(by_hand.segment),
        "--out",
        str(copy),
        "--checkpoints",
        "last",
    )
    assert "step-4" in done.err
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["step-4"]


def test_a_session_that_was_ended_leaves_all_that_it_published(cut_off: Downloaded) -> None:
    code, err = cut_off.pull()
    assert code == 0, err
    status = cut_off.laptop.status(cut_off.run)
    assert (status["state"], status["reason"]) == ("preempted", "the notebook's session ended")
    home = home_of(cut_off.laptop)
    assert sorted(path.name for path in (home / "checkpoints").iterdir()) == [
        f"step-{n}" for n in range(1, 5)
    ]
    assert [line["step"] for line in records(home / "metrics.jsonl")] == [1, 2, 3, 4]
    assert records(home / "log.jsonl")[-1]["text"] == "trained\n"
    assert_numbered(home)
    ended = cut_off.laptop.launcher("wait", cut_off.run)
    assert ended.code == 124
    segment = status["segments"][0]
    lines = records(home / "log.jsonl")
    assert (segment["started_at"], segment["ended_at"]) == (lines[0]["time"], lines[-1]["time"])


def test_a_run_goes_on_elsewhere_from_what_was_downloaded(
    cut_off: Downloaded, killed: tuple[Laptop, str]
) -> None:
    laptop = cut_off.laptop
    shutil.copytree(killed[0].folder / "state/bundles", laptop.folder / "state/bundles")
    laptop.ok("target", "add", "here", "local", "--docker", "never")
    cut_off.pull()
    resumed = laptop.ok("resume", cut_off.run, "--on", "here")
    assert resumed.out.startswith("step 1 after step-4\n")
    assert_numbered(home_of(laptop))
    assert cut_off.pull()[0] == 0  # an old download changes nothing any more
    assert laptop.status(cut_off.run)["state"] == "succeeded"
    laptop.ok("release", cut_off.run)


@pytest.mark.parametrize("name", ["log.jsonl", "manifest.jsonl"])
def test_an_edited_file_is_named_and_nothing_is_taken(by_hand: Downloaded, name: str) -> None:
    path = by_hand.segment / name
    path.write_bytes(path.read_bytes().replace(b"step", b"stop", 1))
    said = by_hand.refused()
    assert name in said
    assert "is not what its exit record names" in said
    assert not (by_hand.laptop.work / "runs" / by_hand.run / "log.jsonl").read_bytes()
    path.write_bytes(path.read_bytes().replace(b"stop", b"step", 1))
    assert by_hand.pull()[0] == 0


def test_a_log_that_is_cut_short_is_named(by_hand: Downloaded) -> None:
    path = by_hand.segment / "log.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    assert "log.jsonl" in by_hand.refused()


def test_an_edited_checkpoint_or_output_never_gets_its_name(by_hand: Downloaded) -> None:
    (by_hand.segment / "out/final.bin").write_bytes(b"badness" * 1000)
    (by_hand.segment / "out/checkpoints/step-4").write_bytes(b"?" * 100_000)
    assert "final.bin" in by_hand.refused()
    home = home_of(by_hand.laptop)
    assert not (home / "final.bin").exists()
    assert not (home / "checkpoints/step-4").exists()
    assert (home / "checkpoints/step-3").exists()
    assert by_hand.laptop.status()["state"] == "pending"


def test_a_missing_output_is_named_and_the_rest_is_kept(by_hand: Downloaded) -> None:
    (by_hand.segment / "out/final.bin").rename(by_hand.folder / "final.bin")
    said = by_hand.refused()
    assert "final.bin is not in" in said
    assert (home_of(by_hand.laptop) / "checkpoints/step-4").exists()
    (by_hand.folder / "final.bin").rename(by_hand.segment / "out/final.bin")
    assert by_hand.pull()[0] == 0
    assert by_hand.laptop.status()["state"] == "succeeded"


@pytest.mark.parametrize("kind", ["link", "folder behind a link", "pipe", "folder"])
def test_what_is_no_regular_file_is_neither_followed_nor_waited_for(by_hand: Downloaded, kind: str) -> None:
    out = by_hand.segment / "out"
    elsewhere = by_hand.laptop.folder / "elsewhere"
    shutil.copytree(out, elsewhere)
    if kind == "folder behind a link":
        shutil.rmtree(out / "deep")
        (out / "deep").symlink_to(elsewhere / "deep")
    else:
        (out / "final.bin").unlink()
    if kind == "link":
        (out / "final.bin").symlink_to(elsewhere / "final.bin")
    elif kind == "pipe":
        os.mkfifo(out / "final.bin")
    elif kind == "folder":
        (out / "final.bin").mkdir()
    assert "lies behind a link" in by_hand.refused()
    home = home_of(by_hand.laptop)
    assert not (home / ("deep/notes.txt" if "behind" in kind else "final.bin")).exists()


def test_another_segments_or_runs_end_is_not_believed(by_hand: Downloaded) -> None:
    path = by_hand.segment / "exit.json"
    path.write_text(path.read_text().replace(by_hand.run, "flowers-aaaaaaaa"))
    assert "belongs to another run" in by_hand.refused()


def test_the_wrong_folder_is_said_to_be_it(by_hand: Downloaded) -> None:
    (by_hand.folder / by_hand.run).rename(by_hand.folder / "flowers-aaaaaaaa")
    said = by_hand.refused(2)
    assert f"nothing of {by_hand.run} is below" in said
    assert "flowers-aaaaaaaa" in said
    archive = by_hand.folder / "archive.zip"
    archive.write_bytes(b"PK")
    for wrong, why in ((archive, "unpack it"), (by_hand.folder / "nosuch", "is not a folder")):
        done = by_hand.laptop.launcher("pull", by_hand.run, "--from-folder", str(wrong))
        assert done.code == 2
        assert why in done.err


def test_a_run_of_another_place_may_come_from_a_folder_too(
    finished: tuple[Laptop, str], tmp_path: Path
) -> None:
    laptop, run = finished
    copy = tmp_path / run / "0"
    shutil.copytree(laptop.folder / ".launcher/runs" / run / "0", copy)
    laptop.ok("pull", run, "--from-folder", str(tmp_path))
    assert laptop.status(run)["state"] == "succeeded"
    assert laptop.launcher("attach", run).code == 0


def test_what_waits_for_a_download_says_so(by_hand: Downloaded) -> None:
    laptop, run = by_hand.laptop, by_hand.run
    assert laptop.status(run)["reason"] == "its notebook waits to be opened"
    for words in (["attach", run], ["cancel", run], ["pull", run], ["logs", run, "-f"], ["release", run]):
        done = laptop.launcher(*words)
        assert done.code == 126, (words, done.err)
        assert f"launcher pull {run} --from-folder DIR" in done.err
        assert "Traceback" not in done.err
    for words in (["exec", run, "--", "ls"], ["ssh", run], ["forward", run, "80"]):
        done = laptop.launcher(*words)
        assert done.code == 126
        assert "gives no way in" in done.err
    assert laptop.launcher("resume", run, "--on", "local").code == 126
    laptop.ok("release", run, "--force")
    assert laptop.status(run)["state"] == "cancelled"


def test_watch_and_from_folder_exclude_each_other(by_hand: Downloaded) -> None:
    assert by_hand.pull("--watch")[0] == 2
