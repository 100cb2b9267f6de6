"""The validating job, run as it runs anywhere: what it finds, what it says, and what it leaves alone."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from launcher.job.parse import load
from tests.jobs.inside import JOBS, Inside, inside
from tests.jobs.test_pictures import paint

JOB = JOBS / "validate"

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch


@dataclass(frozen=True)
class Ended:
    status: int
    stdout: str
    stderr: str
    out: Path

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.out / "report" / "report.json").read_text())
        return report

    @property
    def page(self) -> str:
        return (self.out / "report" / "index.html").read_text()

    @property
    def failed(self) -> set[str]:
        """The gates whose line on stdout says so."""
        lines = [line for line in self.stdout.splitlines() if line.startswith("FAIL ")]
        return {line.rpartition("(")[2].partition(":")[0] for line in lines}

    def found(self, key: str) -> list[list[str]]:
        """The names of each item of a finding."""
        (finding,) = [f for f in self.report["findings"] if f["key"] == key]
        return [item["pictures"] for item in finding["items"]]

    def table(self, name: str) -> list[dict[str, str]]:
        with open(self.out / "report" / name, newline="") as file:
            return list(csv.DictReader(file))


@dataclass(frozen=True)
class Job:
    python: Path
    out: Path
    script: Path = JOB / "validate.py"

    def __call__(self, pictures: Path | None = None, **params: object) -> Ended:
        """Without a judge, unless one is asked for: that takes seconds."""
        surroundings = {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "LAUNCHER_OUT": str(self.out),
            "LAUNCHER_PARAMS": json.dumps({"judge": "no"} | params),
        }
        if pictures:  # as launcher brings it
            (self.out.parent / "data").mkdir()
            (self.out.parent / "data" / "pictures").symlink_to(pictures)
            surroundings["LAUNCHER_DATA"] = str(self.out.parent / "data")
        ended = subprocess.run(
            [self.python, self.script], env=surroundings, capture_output=True, text=True, check=False
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr, self.out)


@pytest.fixture(scope="module")
def run(finetune_python: Path) -> Iterator[Inside]:
    with inside(finetune_python) as python:
        yield python


@pytest.fixture
def job(finetune_python: Path, tmp_path: Path) -> Job:
    return Job(finetune_python, tmp_path / "out")


@pytest.fixture
def good(run: Inside, tmp_path: Path) -> Path:
    """Two classes of twelve."""
    folder = tmp_path / "pictures"
    paint(run, *(folder / kind / f"{kind}{i}.png" for kind in ("cat", "dog") for i in range(12)))
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_good_pictures_pass_all_gates(job: Job, good: Path) -> None:
    ended = job(good)
    assert (ended.status, ended.failed, ended.stderr) == (0, set(), "")
    assert "All gates passed" in ended.stdout
    assert ended.report["passed"] is True
    assert ended.report["classes"] == {"cat": 12, "dog": 12}
    assert ended.report["why_not_judged"]


def test_in_its_bundle_and_without_data_it_judges_what_comes_with_the_environment(
    finetune_python: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    files = load(JOB).spec.files
    for file in [*JOB.glob("*.py"), *(JOB / path for path in files.also)]:
        shutil.copy(file, bundle)
    ended = Job(finetune_python, tmp_path / "out", bundle / "validate.py")(judge="yes", size=32)
    assert ended.status == 0, ended.stdout + ended.stderr
    assert ended.report["judged"] == 200
    margins = [row["margin"] for row in ended.report["label_next"]]
    assert margins == sorted(margins)


def test_planted_label_errors_are_doubted_and_what_has_no_label_is_ranked(run: Inside, job: Job) -> None:
    folder = job.out.parent / "pictures"
    plant = """
from pathlib import Path
for i, p in enumerate(pictures.read("lfw").pictures):
    kind = ["face", "other"][p.label if i % 25 else 1 - p.label]
    path = Path(folder, kind if i % 100 < 80 else "", f"{i:03d}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    p.open().save(path)
"""
    run(plant, folder=folder)
    ended = job(folder, judge="yes", size=64, max_doubts=0.01)
    planted = {f"{i:03d}.png" for i in range(0, 200, 25) if i % 100 < 80}
    assert len(planted) == 8
    doubted = [Path(row["picture"]).name for row in ended.table("doubts.csv")]
    assert len(planted & set(doubted[:10])) >= 6
    unlabelled = {row["picture"] for row in ended.table("label_next.csv")}
    assert unlabelled <= {f"{i:03d}.png" for i in range(200) if i % 100 >= 80}
    assert len(unlabelled) > 30
    assert ended.failed == {"max_doubts"}
    assert ended.status == 1


def test_what_is_wrong_is_found_and_fails_its_gate_and_no_file_is_touched(
    run: Inside, job: Job, good: Path
) -> None:
    cat0, dog0 = good / "cat" / "cat0.png", good / "dog" / "dog0.png"
    shutil.copy(cat0, good / "cat" / "again.png")
    shutil.copy(cat0, good / "dog" / "wrong.png")
    paint(run, good / "few" / "one.png", good / "lost.png")
    (good / "none").mkdir()
    (good / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (good / "cat" / "notes.txt").write_text("about cats")
    make = """
from PIL import Image
Image.new("RGB", (50, 50), "teal").save(f"{folder}/cat/blank.png")
Image.open(f"{folder}/dog/dog1.png").resize((9, 9)).save(f"{folder}/dog/tiny.png")
Image.new("1", (30_000, 30_000)).save(f"{folder}/dog/bomb.png")
Image.open(f"{folder}/dog/dog0.png").resize((100, 120)).save(f"{folder}/cat/near.jpg", quality=80)
"""
    run(make, folder=good)
    before = digests(good)
    ended = job(good, max_blank=0.0, max_tiny=0.0, max_unlabelled=0.0, max_copies=0.0, max_near_conflicts=0.0)
    assert ended.status == 1
    assert ended.found("conflicts") == [["cat/again.png", "cat/cat0.png", "dog/wrong.png"]]
    assert ended.found("copies") == ended.found("conflicts")
    assert ["cat/near.jpg", dog0.relative_to(good).as_posix()] in ended.found("near")
    assert ended.found("blank") == [["cat/blank.png"]]
    assert ended.found("tiny") == [["dog/tiny.png"]]
    assert ended.found("bombs") == [["dog/bomb.png"]]
    assert ended.found("unreadable") == [["cat/broken.jpg"]]
    assert ended.found("unlabelled") == [["lost.png"]]
    assert ended.found("empty") == [["none/"]]
    assert ended.found("no_pictures") == [["cat/notes.txt"]]
    gates = "min_per_class max_unreadable max_bombs max_conflicts max_copies max_near_conflicts max_blank max_tiny"
    assert ended.failed == {*gates.split(), "max_unlabelled"}
    assert all(finding["next"] for finding in ended.report["findings"])
    assert digests(good) == before


def test_a_leak_between_the_parts_of_a_csv_fails(run: Inside, job: Job, good: Path) -> None:
    shutil.copy(good / "cat" / "cat0.png", good / "copy.png")
    run("from PIL import Image\nImage.open(f'{d}/dog/dog0.png').save(f'{d}/near.jpg', quality=75)", d=good)
    lines = [f"{kind}/{kind}{i}.png;{kind};train" for kind in ("cat", "dog") for i in range(12)]
    lines += ["copy.png;cat;test", "near.jpg;dog;val"]
    (good / "labels.csv").write_text("\ufeffpath;label;split\n" + "\n".join(lines))
    ended = job(good)
    assert ended.failed == {"max_leaks"}
    assert sorted(map(sorted, ended.found("leaks"))) == [
        ["cat/cat0.png", "copy.png"],
        ["dog/dog0.png", "near.jpg"],
    ]


def test_imbalance_fails_until_its_limit_is_raised(job: Job, good: Path) -> None:
    for i in range(3, 12):
        (good / "dog" / f"dog{i}.png").unlink()
    ended = job(good, max_imbalance=3.0, min_per_class=3)
    assert ended.failed == {"max_imbalance"}
    assert "4 times as many pictures of 'cat' as of 'dog' (max_imbalance: at most 3)" in ended.stdout
    shutil.rmtree(job.out.parent / "data")
    assert job(good, max_imbalance=4.0, min_per_class=3).status == 0


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.places: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.places += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_and_labels_are_text_on_the_page_and_it_fetches_nothing(job: Job, good: Path) -> None:
    evil = "<script>alert(1)<_script>"
    (good / "cat").rename(good / "<img src=x onerror=alert(2)>")
    (good / "dog" / "dog0.png").rename(good / "dog" / f'"{evil}.png')
    shutil.copy(good / "dog" / f'"{evil}.png', good / "dog" / "a\nb\u202e.png")
    os.rename(good / "dog" / "dog1.png", os.path.join(os.fsencode(good / "dog"), b"\xff.txt"))
    ended = job(good)
    seen = Tags(ended.page)
    assert not seen.tags & {"script", "iframe", "object", "link", "form"}
    assert not any(name.startswith("on") for name in seen.attributes)
    assert all(place.startswith("data:image/jpeg;base64,") for place in seen.places)
    assert len(seen.places) == 2  # the copies
    for name in (evil, "<img src=x onerror=alert(2)>", r"a\nb\u202e.png", r"\xff.txt"):
        assert name in seen.text


def test_what_is_no_set_of_pictures_is_refused_in_one_line(job: Job) -> None:
    nothing = job.out.parent / "words.txt"
    nothing.write_text("words")
    ended = job(data=str(nothing))
    assert ended.status == 2
    assert ended.stderr.count("\n") == 1
    assert "words.txt: neither a folder of pictures" in ended.stderr
    assert not job.out.exists()


def test_a_folder_without_pictures_fails_its_gates(job: Job, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = job(tmp_path / "empty")
    assert ended.status == 1
    assert {"min_classes", "min_per_class"} <= ended.failed


def test_all_jobs_share_one_lock() -> None:
    for name in ("requirements.in", "requirements.lock"):
        assert (JOB / name).read_bytes() == (JOBS / "finetune" / name).read_bytes()
