"""Pictures of the user's own: what the fine-tuning job reads, leaves out, balances and refuses."""

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.finetuning import SQUEEZE, Job, job_in

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch
QUICK = {"stage": "probe", "test_share": 0.5, **SQUEEZE}
PAINT = """
import json, pathlib, sys
import numpy as np
from PIL import Image
root, counts = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
for k, (label, n) in enumerate(counts.items()):
    (root / label).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.random.default_rng([k, i]).integers(0, 255, (12, 12, 3), dtype=np.uint8) // (k + 1)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.NEAREST).save(root / label / f"{i}.png")
"""


@pytest.fixture
def job(finetune_python: Path, tmp_path: Path) -> Iterator[Job]:
    with job_in(finetune_python, tmp_path) as job:
        yield job


def paint(job: Job, name: str, **counts: int) -> Path:
    folder = job.folder / "data" / name
    subprocess.run([job.python, "-c", PAINT, folder, json.dumps(counts)], check=True)
    return folder


def test_bad_pictures_are_left_out_named_and_in_the_report(job: Job) -> None:
    train = paint(job, "train", bright=6, dark=6)
    (train / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    whole = (train / "dark" / "1.png").read_bytes()
    (train / "dark" / "again.png").write_bytes(whole)
    ended = job.run("out", {"LAUNCHER_DATA": str(train.parent)}, **QUICK)
    assert ended.model
    assert "left out dark/broken.png: " in ended.stdout
    assert "left out dark/again.png: the same file as dark/1.png" in ended.stdout
    assert "6 pictures to learn from, 6 to test on, 2 classes" in ended.stdout
    assert "dark/broken.png" in (ended.out / "report" / "report.json").read_text()


def test_a_second_source_is_tested_on_and_a_label_never_learnt_is_named(job: Job) -> None:
    paint(job, "train", bright=4, dark=4)
    test = paint(job, "test", bright=7, dark=7, other=1)
    for label in ("bright", "dark"):
        for i in range(4):  # those are in train too: there they are left out
            (test / label / f"{i}.png").rename(test / label / f"{i + 10}.png")
    for label in ("bright", "dark"):
        for i in (10, 11):
            (test / label / f"{i}.png").unlink()
    ended = job.run("out", {"LAUNCHER_DATA": str(test.parent)}, **QUICK)
    assert ended.model
    assert "its label 'other' is in no training picture" in ended.stdout
    rows = list(csv.DictReader((ended.out / "split.csv").open()))
    assert sum(row["part"] == "test" for row in rows) == 10
    assert {row["picture"] for row in rows if row["part"] == "train"} == {
        f"{label}/{i}.png" for label in ("bright", "dark") for i in (0, 1)
    }


@pytest.mark.parametrize(("balance", "how"), [("auto", "weigh more"), ("sampling", "are drawn more often")])
def test_rare_classes_count_for_more_when_they_are_very_rare(job: Job, balance: str, how: str) -> None:
    paint(job, "train", bright=32, dark=8)
    data = {"LAUNCHER_DATA": str(job.folder / "data")}
    small = {"epochs": 1, "test_share": 0.5, "batch": 10, **SQUEEZE}
    ended = job.run("out", data, balance=balance, **small)
    assert ended.model
    assert (
        f"the largest class has 4.0 times as many pictures as the smallest: rare ones {how}" in ended.stdout
    )


def test_one_picture_or_none_of_a_class_is_refused_before_training(job: Job) -> None:
    paint(job, "train", bright=6, dark=1)
    said = job.run("out", {"LAUNCHER_DATA": str(job.folder / "data")}, **QUICK).refused()
    assert "dark/0.png" in said
    assert not (job.folder / "out").exists()


def test_without_a_word_shares_and_size_follow_from_the_pictures(job: Job) -> None:
    many, few = paint(job, "many", bright=40, dark=32), paint(job, "few", bright=12, dark=8)
    auto = dict.fromkeys(("size", "batch", "val_share", "test_share"), "auto")
    large = job.run("large", data=many, **auto | QUICK | {"test_share": "auto"})
    small = job.run("small", data=few, **auto | QUICK | {"test_share": "auto"})
    assert "44 pictures to learn from, 14 to choose by, 14 to test on" in large.stdout
    assert "16 pictures to learn from, 4 to test on" in small.stdout
    assert json.loads((small.out / "preprocess.json").read_text())["size"] == 224
