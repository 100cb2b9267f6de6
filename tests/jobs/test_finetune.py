"""The fine-tuning job, run as it runs anywhere: what it learns, what it leaves, what it does about trouble."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.finetuning import SQUEEZE, Ended, Job, checkpoints, difference, job_in, losses, newest, values

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch


@pytest.fixture
def job(finetune_python: Path, tmp_path: Path) -> Iterator[Job]:
    with job_in(finetune_python, tmp_path) as job:
        yield job


@pytest.fixture(scope="module")
def undisturbed(finetune_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    with job_in(finetune_python, tmp_path_factory.mktemp("undisturbed")) as job:
        yield job.run("out")


@pytest.fixture(scope="module")
def squeezed(finetune_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    with job_in(finetune_python, tmp_path_factory.mktemp("squeezed")) as job:
        yield job.run("out", **SQUEEZE, epochs=1)


def test_it_prints_the_cheap_baselines_and_a_verdict_beside_the_result(undisturbed: Ended) -> None:
    for method in ("always the largest class", "raw pixels", "random network", "linear", "fine-tuned"):
        assert method in undisturbed.stdout
    assert "Transfer " in undisturbed.stdout
    assert undisturbed.stdout.endswith(f"model.safetensors sha256 {undisturbed.model}\n")


def test_it_leaves_a_model_its_labels_its_look_and_the_split(undisturbed: Ended) -> None:
    out = undisturbed.out
    assert json.loads((out / "labels.json").read_text()) == {"labels": ["face", "other"]}
    look = json.loads((out / "preprocess.json").read_text())
    assert (look["size"], look["arch"], look["weights"]) == (32, "efficientnet_lite0", "package")
    rows = list(csv.DictReader((out / "split.csv").open()))
    assert [sum(row["part"] == part for row in rows) for part in ("train", "test")] == [20, 180]
    for name in ("report/index.html", "report/report.json", "model_card.md", "unlike.safetensors"):
        assert (out / name).stat().st_size
    assert list((out / "tensorboard").glob("events.*"))


def test_each_step_and_the_end_are_measured(undisturbed: Ended) -> None:
    assert list(losses(undisturbed.out)) == list(range(20))
    assert list(values(undisturbed.out, "images_per_s")) == list(range(20))
    assert list(values(undisturbed.out, "balanced_accuracy")) == [20]


def test_the_last_state_is_a_folder_that_nothing_unpickles(undisturbed: Ended) -> None:
    last = checkpoints(undisturbed.out)[-1]
    names = ["model.safetensors", "optimizer.pt", "split.csv", "state.json"]
    assert sorted(f.name for f in last.iterdir()) == names
    assert json.loads((last / "state.json").read_text())["step"] == 20


def test_the_probe_alone_needs_no_checkpoints(job: Job) -> None:
    ended = job.run("out", stage="probe")
    assert ended.model
    assert "fine-tuned" not in ended.stdout
    assert not checkpoints(ended.out)


def test_the_best_epoch_is_kept_and_a_run_without_progress_ends_early(job: Job) -> None:
    how = {"val_share": 0.2, "test_share": 0.7, "patience": 2, "epochs": 30, "lr": 0.05, "batch": 10}
    ended = job.run("out", **how, **SQUEEZE)
    assert ended.model
    assert "stopped early: no better epoch in 2" in ended.stdout
    scores = values(ended.out, "val_balanced_accuracy")
    best = json.loads((ended.out / "checkpoints" / "best" / "state.json").read_text())
    assert best["score"] == max(scores.values())
    assert max(scores) == best["step"] + 2 * 2  # two epochs of two steps, not thirty


def test_batches_that_do_not_fit_are_computed_in_halves_and_end_the_same(
    job: Job, undisturbed: Ended
) -> None:
    ended = job.run("out", {"FINETUNE_PRETENDED_MEMORY": "1"})
    assert "out of memory: 1 pictures at once from step 0 on, the batch stays 4" in ended.stdout
    assert ended.model
    assert difference(job, ended.out, undisturbed.out) < 1e-5


def test_too_little_memory_for_one_picture_is_one_line(job: Job) -> None:
    ended = job.run("out", {"FINETUNE_PRETENDED_MEMORY": "0"}, **SQUEEZE)
    assert ended.status == 1
    assert ended.stderr == "out of memory with one picture at once: try a smaller --size or another --arch\n"


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(job: Job) -> None:
    how = {"lr": 1e20, "clip": 0, "warmup": 0, "val_share": 0.2, "test_share": 0.7}
    ended = job.run("out", {"LAUNCHER_CHECKPOINT_EVERY": "0.01"}, **how, **SQUEEZE)
    assert ended.status == 1
    assert "stopped" in ended.stderr
    assert ended.stderr.count("\n") == 1
    state = json.loads((ended.out / "checkpoints" / "best" / "state.json").read_text())
    assert state["step"] == 0  # the probe, from before
    assert checkpoints(ended.out)
    assert not (ended.out / "model.safetensors").exists()


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2"])
def test_other_architectures_learn_too(job: Job, arch: str) -> None:
    how = {
        "ema": 0.9,
        "bn": "train",
        "channels_last": True,
        "label_smoothing": 0.1,
        "amp": "bf16",
        "flip": False,
    }
    assert job.run("out", arch=arch, weights="none", epochs=1, **how).model


def test_a_saved_model_can_be_the_start_of_another(job: Job, squeezed: Ended) -> None:
    shutil.copytree(squeezed.out, job.folder / "first", ignore=shutil.ignore_patterns("checkpoints"))
    ended = job.run("out", arch="squeezenet1_1", weights=str(job.folder / "first"), stage="probe")
    assert ended.model


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"arch": "resnet19"}, "no classification architecture 'resnet19' in torchvision: did you mean"),
        ({"arch": "resnet18"}, "no package has weights of resnet18"),
        ({"weights": "nowhere.pth"}, "--weights nowhere.pth: no such file"),
        ({"arch": "alexnet", "weights": "none", "size": 16}, "alexnet cannot see pictures of 16 pixels"),
        ({"arch": "vit_b_16", "weights": "none"}, "vit_b_16 takes pictures of 224 pixels only: --size 224"),
        ({"epochs": 0}, "--epochs 0: from 1 to 1000000"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_in_one_line(
    job: Job, how: dict[str, object], said: str
) -> None:
    assert said in job.run("out", **how).refused()
    assert not (job.folder / "out").exists()


def test_a_weights_file_that_would_run_code_is_refused(job: Job) -> None:
    evil = job.folder / "evil.pkl"
    evil.write_bytes(b"cos\nsystem\n(S'touch " + str(job.folder / "harm").encode() + b"'\ntR.")
    said = job.run("out", arch="squeezenet1_1", weights=str(evil)).refused()
    assert "it asks for os.system" in said or "it asks for posix.system" in said
    assert not (job.folder / "harm").exists()


def test_a_fresh_run_does_not_mix_with_another_ones_checkpoints(job: Job, squeezed: Ended) -> None:
    shutil.copytree(squeezed.out, job.folder / "out")
    assert "holds those of another run" in job.run("out", **SQUEEZE, epochs=1).refused()
    assert newest(job.folder / "out")
