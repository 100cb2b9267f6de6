"""The fine-tuning job, run as it runs anywhere: killed, stopped, resumed, and refused."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

JOB = Path(__file__).parents[2] / "jobs" / "finetune"
SMALL = {"size": 32, "epochs": 4, "batch": 4, "test_share": 0.9, "seed": 1}  # 5 steps an epoch, 20 steps
RESUME_ME = 75

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch


class Job:
    """train.py in a segment's surroundings."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder

    def start(self, out: str, env: dict[str, str] | None = None, **params: object) -> subprocess.Popen[str]:
        surroundings = {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "LAUNCHER_OUT": str(self.folder / out),
            "LAUNCHER_PARAMS": json.dumps(SMALL | params),
            "LAUNCHER_CHECKPOINT_EVERY": "600",
        }
        command = [self.python, JOB / "train.py"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=surroundings | (env or {}), stdout=pipe, stderr=pipe, text=True)

    def run(self, out: str, env: dict[str, str] | None = None, **params: object) -> "Ended":
        with ended_with_the_test(self.start(out, env, **params)) as process:
            stdout, stderr = process.communicate(timeout=240)
        return Ended(process.returncode, stdout, stderr, self.folder / out)

    def stopped_at(self, step: int, number: signal.Signals, out: str, **how: object) -> int:
        """Start, send the signal once `step` steps are done; the exit status."""
        with ended_with_the_test(self.start(out, **how)) as process:
            while len(losses(self.folder / out)) < step:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            process.send_signal(number)
            process.communicate(timeout=60)
        return process.returncode


class Ended:
    def __init__(self, status: int, stdout: str, stderr: str, out: Path) -> None:
        self.status, self.stdout, self.stderr, self.out = status, stdout, stderr, out

    @property
    def model(self) -> str:
        assert self.status == 0, self.stdout + self.stderr
        return hashlib.sha256((self.out / "model.safetensors").read_bytes()).hexdigest()


@contextmanager
def ended_with_the_test(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def losses(out: Path) -> dict[int, float]:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    metrics = [json.loads(line) for line in lines if line.endswith("\n")]
    return {line["step"]: line["loss"] for line in metrics if "loss" in line}


def newest(out: Path) -> dict[str, str]:
    checkpoints = sorted((out / "checkpoints").glob("*.pt"), key=lambda f: f.stat().st_mtime_ns)
    return {"LAUNCHER_RESUME": str(checkpoints[-1])}


@pytest.fixture
def job(finetune_python: Path, tmp_path: Path) -> Iterator[Job]:
    yield Job(finetune_python, tmp_path)
    shutil.rmtree(tmp_path)  # checkpoints are large, and pytest would keep three runs of them


@pytest.fixture(scope="module")
def undisturbed(finetune_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    folder = tmp_path_factory.mktemp("undisturbed")
    yield Job(finetune_python, folder).run("out")
    shutil.rmtree(folder)


def test_it_prints_the_cheap_baselines_and_a_verdict_beside_the_result(undisturbed: Ended) -> None:
    for method in ("always the largest class", "raw pixels", "random network", "linear", "fine-tuned"):
        assert f"{method}" in undisturbed.stdout
    assert "Transfer " in undisturbed.stdout
    assert undisturbed.stdout.endswith(f"model.safetensors sha256 {undisturbed.model}\n")


def test_it_leaves_a_model_its_labels_and_the_split(undisturbed: Ended) -> None:
    assert json.loads((undisturbed.out / "labels.json").read_text())["labels"] == ["face", "other"]
    rows = (undisturbed.out / "split.csv").read_text().splitlines()
    assert [sum(f",{part}," in row for row in rows) for part in ("train", "test")] == [20, 180]
    assert sorted(f.name for f in (undisturbed.out / "checkpoints").iterdir()) == ["epoch-3.pt", "epoch-4.pt"]
    assert list(losses(undisturbed.out)) == list(range(20))


def test_killed_twice_and_resumed_with_other_workers_it_is_the_same_model(
    job: Job, undisturbed: Ended
) -> None:
    often = {"LAUNCHER_CHECKPOINT_EVERY": "0.2"}
    assert job.stopped_at(3, signal.SIGKILL, "out", env=often) == -signal.SIGKILL
    again = often | newest(job.folder / "out")
    assert job.stopped_at(12, signal.SIGKILL, "out", env=again, workers=2) == -signal.SIGKILL
    last = job.run("out", newest(job.folder / "out"), workers=1)
    assert last.model == undisturbed.model
    assert losses(last.out) == losses(undisturbed.out)


def test_sigterm_saves_the_step_and_the_run_goes_on_elsewhere(job: Job, undisturbed: Ended) -> None:
    assert job.stopped_at(7, signal.SIGTERM, "first") == RESUME_ME
    done = len(losses(job.folder / "first"))
    assert done in (7, 8)  # the step in hand is finished, no other is begun
    second = job.run("second", newest(job.folder / "first"))
    assert second.model == undisturbed.model
    assert losses(job.folder / "first") | losses(second.out) == losses(undisturbed.out)
    assert min(losses(second.out)) == done


def test_it_stops_by_itself_before_the_deadline(job: Job) -> None:
    long = {"epochs": 1000}
    assert job.stopped_at(1, signal.SIGTERM, "first", **long) == RESUME_ME
    deadline = time.time() + 20
    ended = job.run("second", {"LAUNCHER_DEADLINE": str(deadline)} | newest(job.folder / "first"), **long)
    assert ended.status == RESUME_ME, ended.stderr
    assert time.time() < deadline
    steps = max(losses(ended.out)) + 1
    last = Path(newest(ended.out)["LAUNCHER_RESUME"]).stem
    assert last == (f"step-{steps}" if steps % 5 else f"epoch-{steps // 5}")


def test_a_changed_setting_or_split_is_refused_and_named(job: Job, undisturbed: Ended) -> None:
    ended = job.run("out", newest(undisturbed.out), lr=0.5, test_share=0.8)
    assert ended.status == 1
    assert "cannot resume epoch-4.pt" in ended.stderr
    assert "lr was 0.001, is 0.5; test_share was 0.9, is 0.8" in ended.stderr
    assert not (job.folder / "out").exists()


def test_a_fresh_run_does_not_mix_with_another_ones_checkpoints(job: Job, undisturbed: Ended) -> None:
    shutil.copytree(undisturbed.out, job.folder / "out")
    ended = job.run("out")
    assert ended.status == 1
    assert "holds those of another run" in ended.stderr


def test_a_folder_of_pictures_is_read_without_its_bad_files(job: Job) -> None:
    train = job.folder / "data" / "train"
    script = (
        "import pathlib, sys; import numpy as np; from PIL import Image\n"
        "rng = np.random.default_rng(0)\n"
        "for i, mode in enumerate(['RGB', 'L', 'P', 'LA', 'RGBA', 'CMYK'] * 2):\n"
        "    pixels = rng.integers(0, 255, (40, 30, 3), dtype=np.uint8) // (1 + i % 2 * 3)\n"
        "    suffix = 'tiff' if mode == 'CMYK' else 'png'\n"
        "    file = pathlib.Path(sys.argv[1], ['bright', 'dark'][i % 2], f'{i}.{suffix}')\n"
        "    file.parent.mkdir(parents=True, exist_ok=True)\n"
        "    Image.fromarray(pixels).convert(mode).save(file)\n"
    )
    subprocess.run([job.python, "-c", script, train], check=True)
    (train / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    shutil.copy(train / "dark" / "1.png", train / "dark" / "again.png")
    ended = job.run("out", {"LAUNCHER_DATA": str(train.parent)}, stage="probe", test_share=0.5)
    assert ended.model
    assert "left out dark/broken.png" in ended.stdout
    assert "left out 1 exact duplicates" in ended.stdout
    assert "6 pictures to learn from, 6 to test on, 2 classes" in ended.stdout
