"""Killed, stopped, cut off and resumed, with other workers and processes: the same model, or a clear no."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.finetuning import (
    JOB,
    OFTEN,
    RESUME_ME,
    SQUEEZE,
    Ended,
    Job,
    checkpoints,
    difference,
    ended_with_the_test,
    job_in,
    losses,
    newest,
    weights,
)

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch
# Dropout, averaged weights, mixing and a validation part: all that a resume could get wrong.
FULL = {"ema": 0.9, "mixup": 0.4, "cutmix": 1.0, "val_share": 0.1, "test_share": 0.8, "epochs": 5, **SQUEEZE}


@pytest.fixture
def job(finetune_python: Path, tmp_path: Path) -> Iterator[Job]:
    with job_in(finetune_python, tmp_path) as job:
        yield job


@pytest.fixture(scope="module")
def undisturbed(finetune_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    with job_in(finetune_python, tmp_path_factory.mktemp("undisturbed")) as job:
        yield job.run("out", **FULL)


def test_killed_at_five_random_steps_with_other_workers_it_is_the_same_model(
    job: Job, undisturbed: Ended
) -> None:
    steps = sorted(random.sample(range(1, 25), 5))
    env, out = dict(OFTEN), job.folder / "out"
    for workers, step in zip((0, 2, 1, 2, 0), steps, strict=True):
        done = len(losses(out))
        job.stopped_at(max(step, done), signal.SIGKILL, "out", env, **FULL, workers=workers)
        env = OFTEN | newest(out)
    last = job.run("out", env, **FULL, workers=1)
    assert last.model == undisturbed.model, steps
    assert weights(last.out) == weights(undisturbed.out)
    assert {"model.safetensors", "ema.safetensors"} <= weights(last.out).keys()
    assert losses(last.out) == losses(undisturbed.out)
    assert not list((out / "checkpoints").glob("*.tmp"))


def test_sigterm_saves_the_step_and_the_run_goes_on_elsewhere(job: Job, undisturbed: Ended) -> None:
    assert job.stopped_at(7, signal.SIGTERM, "first", **FULL) == RESUME_ME
    done = len(losses(job.folder / "first"))
    assert checkpoints(job.folder / "first")[-1].name == f"step-{done:06d}"
    second = job.run("second", newest(job.folder / "first"), **FULL)
    assert second.model == undisturbed.model
    assert losses(job.folder / "first") | losses(second.out) == losses(undisturbed.out)
    assert min(losses(second.out)) == done


def test_it_stops_by_itself_before_the_deadline(job: Job) -> None:
    deadline = time.time() + 25
    ended = job.run("out", {"LAUNCHER_DEADLINE": str(deadline)}, **SQUEEZE, epochs=100_000)
    assert ended.status == RESUME_ME, ended.stderr
    assert time.time() < deadline
    assert checkpoints(ended.out)[-1].name == f"step-{max(losses(ended.out)) + 1:06d}"


def test_two_processes_learn_what_one_learns_and_either_goes_on_from_the_other(job: Job) -> None:
    """The pretrained network: it has dropout and stochastic depth, and does not blow rounding up."""
    how = {"ema": 0.9, "mixup": 0.4, "val_share": 0.1, "test_share": 0.8, "epochs": 2}
    one = job.run("one", OFTEN, **how)
    half = {"LAUNCHER_RESUME": str(checkpoints(one.out)[0])}
    job.processes = 2
    pair, again = job.run("pair", **how), job.run("again", half, **how)
    assert (
        "processes was 1, is 2: the model will be as good, but not the same to the last bit" in again.stdout
    )
    assert losses(pair.out) == pytest.approx(losses(one.out), rel=1e-3)
    assert min(losses(again.out)) > 0
    assert difference(job, pair.out, one.out) < 1e-5
    assert difference(job, again.out, one.out) < 1e-5


def test_its_own_processes_are_stopped_and_go_on_as_one_run(job: Job) -> None:
    how = {"processes": 2, "epochs": 4, **SQUEEZE}
    undisturbed = job.run("undisturbed", **how)
    assert job.stopped_at(7, signal.SIGTERM, "first", **how) == RESUME_ME
    assert job.run("second", newest(job.folder / "first"), **how).model == undisturbed.model


def test_where_one_of_its_processes_is_killed_all_end(job: Job) -> None:
    with ended_with_the_test(job.start("out", processes=2, epochs=100_000, **SQUEEZE)) as parent:
        while len(losses(job.folder / "out")) < 3:
            assert parent.poll() is None, parent.communicate()
            time.sleep(0.01)
        tasks = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        first, second = map(int, tasks.read_text().split())
        os.kill(second, signal.SIGKILL)
        parent.communicate(timeout=60)
    assert parent.returncode == 128 + signal.SIGKILL
    assert not Path(f"/proc/{first}").exists()


def test_another_setting_or_split_or_picture_is_refused_and_named(job: Job, undisturbed: Ended) -> None:
    said = job.run("out", newest(undisturbed.out), **FULL | {"lr": 0.5, "test_share": 0.7}).refused()
    assert "cannot resume step-000025, it is of another run" in said
    assert "lr was 0.001, is 0.5; test_share was 0.8, is 0.7" in said
    assert "part was t" in said  # picture by picture
    assert not (job.folder / "out").exists()


def test_a_damaged_checkpoint_or_one_of_another_job_is_refused(job: Job, undisturbed: Ended) -> None:
    copy = job.folder / "step-000025"
    shutil.copytree(checkpoints(undisturbed.out)[-1], copy)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "it is damaged" in job.run("out", {"LAUNCHER_RESUME": str(copy)}, **FULL).refused()
    (copy / "model.safetensors").write_bytes(whole)
    (copy / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    assert "it is damaged" in job.run("out", {"LAUNCHER_RESUME": str(copy)}, **FULL).refused()
    foreign = {"LAUNCHER_RESUME": str(job.folder)}
    assert "not a checkpoint of this job" in job.run("out", foreign, **FULL).refused()
    assert not (job.folder / "out").exists()


def test_a_full_disk_leaves_the_older_checkpoint_and_the_run_goes_on(job: Job) -> None:
    """No file may grow beyond 4 MB: the first model (2.9 MB) fits, its optimizer (5.8 MB) no more."""
    command = [job.python, JOB / "train.py", *flags(SQUEEZE | {"epochs": 2, "size": 32, "test_share": 0.9})]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))  # noqa: E731
    env = {"PATH": "/usr/bin:/bin", "HOME": str(job.folder), "LAUNCHER_CHECKPOINT_EVERY": "0"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*command, "--out", job.folder / "out"],
        env=env,
        preexec_fn=limit,
        text=True,
        stdout=pipe,
        stderr=pipe,
    )
    with ended_with_the_test(process):
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert "could not save step-000001: File too large; the checkpoint before it stays" in stdout
    assert [f.name for f in (job.folder / "out" / "checkpoints").iterdir()] == ["step-000000"]
    state = json.loads((job.folder / "out" / "checkpoints" / "step-000000" / "state.json").read_text())
    assert state["step"] == 0


def flags(params: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in params.items()]
