"""The report and the model card, from results that are usual, scarce, lopsided, large, and no numbers at all."""

import csv
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.inside import Inside, Refused, inside

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch

FILES = ["confusion.csv", "confusion.png", "curve.png", "index.html", "per_class.csv", "reliability.png"]

RESULT = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(1, jobs + "/finetune")
import report

def result_of(labels, y, said, cheap=None, **more):
    '''Test pictures of the classes `y`, called `said` with 90 %; the cheap methods call them `cheap`.'''
    y, C = np.array(y, dtype=int), len(labels)
    sure = lambda calls: np.full((len(y), C), 0.1 / max(C - 1, 1)) + np.eye(C)[calls] * (0.9 - 0.1 / max(C - 1, 1))
    cheap = [0] * len(y) if cheap is None else cheap
    odds = {"majority": sure([0] * len(y)), "raw": sure(cheap), "random": sure([0] * len(y)), "probe": sure(said)}
    given = dict(
        labels=labels, names=[f"{labels[k]}/{i}.png" for i, k in enumerate(y)], y=y, odds=odds,
        curve=[(n, m, 0.5 + n / 50) for n in (5, 10) for m in ("raw", "probe")],
        counts={"train": [10] * C, "test": np.bincount(y, minlength=C).tolist()},
        left_out=[("cat/broken.png", "a truncated file")],
        facts={"arch": "efficientnet_lite0", "weights": "package", "weights_licence": "Apache-2.0", "seed": 1,
               "data_digest": "0123abcd", "device": "cpu"},
    )
    return report.Result(**(given | more))
"""
WRITE = RESULT + "result = report.write(Path(out), result_of(**of))"


@pytest.fixture(scope="module")
def run(finetune_python: Path) -> Iterator[Inside]:
    with inside(finetune_python) as python:
        yield python


class Written:
    """A report on the disk."""

    def __init__(self, run: Inside, out: Path, **of: Any) -> None:
        self.headline = run(WRITE, jobs=JOBS, out=out, of=of)
        self.out, self.folder = out, out / "report"
        self.json = json.loads((self.folder / "report.json").read_text())
        self.page = (self.folder / "index.html").read_text()
        self.card = (out / "model_card.md").read_text()

    def rows(self, name: str) -> list[list[str]]:
        with open(self.folder / name, newline="") as file:
            return list(csv.reader(file))


JOBS = str(Path(__file__).parents[2] / "jobs")
CATS = {"labels": ["cat", "dog"], "y": [0] * 10 + [1] * 10, "said": [0] * 9 + [1] * 11, "cheap": [0] * 20}


def test_it_writes_every_file_and_the_headline_numbers(run: Inside, tmp_path: Path) -> None:
    report = Written(run, tmp_path, **CATS)
    assert sorted(f.name for f in report.folder.iterdir()) == [*FILES, "report.json"]
    assert report.headline["acc1"] == report.headline["balanced_accuracy"] == 0.95
    assert report.headline["acc1_majority"] == report.headline["acc1_raw"] == 0.5
    assert report.json["schema"] == 1
    assert report.json["confusion"] == [[9, 1], [0, 10]]


def test_each_class_has_precision_recall_f1_and_an_interval(run: Inside, tmp_path: Path) -> None:
    head, cat, dog = Written(run, tmp_path, **CATS).rows("per_class.csv")
    cat_of = dict(zip(head, cat, strict=True))
    assert (cat_of["label"], cat_of["support"], cat_of["predicted"]) == ("cat", "10", "9")
    assert [float(cat_of[k]) for k in ("precision", "recall")] == [1.0, 0.9]
    assert float(cat_of["f1"]) == pytest.approx(18 / 19)
    assert float(cat_of["recall_low"]) == pytest.approx(0.5958, abs=1e-4)  # Wilson, 9 of 10
    assert float(cat_of["recall_high"]) == pytest.approx(0.9821, abs=1e-4)
    assert dict(zip(head, dog, strict=True))["precision"] == str(10 / 11)


def test_the_cheap_baselines_stand_beside_the_result_in_page_card_and_summary(
    run: Inside, tmp_path: Path
) -> None:
    report = Written(run, tmp_path, **CATS)
    said = run(RESULT + "result = report.summary(result_of(**of))", jobs=JOBS, of=CATS)
    for method in (
        "always the largest class",
        "raw pixels, linear",
        "random network, linear",
        "pretrained network",
    ):
        assert method in report.page
        assert method in report.card
        assert method in said


@pytest.mark.parametrize(
    ("y", "said", "cheap", "sentence"),
    [
        (
            [1] * 20,
            [1] * 20,
            [0] * 20,
            "Transfer helped: of 20 test pictures 20 are right only with it, 0 only",
        ),
        (
            [0] * 20,
            [1] * 20,
            [0] * 20,
            "Transfer did harm: of 20 test pictures 0 are right only with it, 20 only",
        ),
        ([0, 1] * 10, [0, 1] * 10, [0, 1] * 9 + [1, 0], "Transfer made no clear difference"),
        ([0, 1] * 10, [0, 1] * 10, [0, 1] * 9 + [1, 0], "So few differences show nothing"),
        ([1] * 5, [1] * 5, [0] * 5, "Transfer cannot be judged: 5 test pictures can show no difference"),
        ([1], [1], [0], "Transfer cannot be judged: 1 test picture can"),
    ],
)
def test_the_verdict_says_what_the_test_pictures_allow(
    run: Inside, y: list[int], said: list[int], cheap: list[int], sentence: str
) -> None:
    code = RESULT + "result = report.verdict(result_of(['a', 'b'], y, said, cheap))"
    assert sentence in run(code, jobs=JOBS, y=y, said=said, cheap=cheap)


def test_five_of_five_is_no_verdict_but_six_of_six_is(run: Inside) -> None:
    code = RESULT + "result = report.verdict(result_of(['a', 'b'], [1] * n, [1] * n))"
    assert "cannot be judged" in run(code, jobs=JOBS, n=5)
    assert "Transfer helped" in run(code, jobs=JOBS, n=6)


def test_with_random_weights_it_does_not_speak_of_transfer(run: Inside) -> None:
    code = RESULT + (
        "r = result_of(['a', 'b'], [1] * 20, [1] * 20, facts={'weights': 'none'})\n"
        "result = [report.verdict(r), report.summary(r)]\n"
    )
    verdict, summary = run(code, jobs=JOBS)
    assert verdict.startswith("Training from random weights helped: of 20 test pictures")
    assert "pretrained" not in summary


def test_what_nobody_can_know_is_empty_and_named(run: Inside, tmp_path: Path) -> None:
    report = Written(run, tmp_path, labels=["cat", "dog", "owl"], y=[0, 0, 1, 1], said=[0, 0, 0, 0])
    _head, _cat, dog, owl = report.rows("per_class.csv")
    assert dog[4:6] == ["", "0.0"]  # never predicted: no precision, a recall of 0
    assert owl[4:] == ["", "", "", "", ""]
    assert "Without test pictures, so nothing is known of: owl." in report.page
    assert "Never predicted, though it was there: dog." in report.page
    assert "Not tested at all, for want of test pictures: owl." in report.card
    assert report.headline["balanced_accuracy"] == 0.5  # of the two that were tested


@pytest.mark.parametrize("bad", ["nan", "inf", "-0.5"])
def test_numbers_that_are_no_probabilities_are_refused_before_anything_is_written(
    run: Inside, tmp_path: Path, bad: str
) -> None:
    code = (
        RESULT
        + "r = result_of(**of)\nr.odds['probe'][3] = [1 - float(bad), float(bad)]\nreport.write(Path(out), r)"
    )
    with pytest.raises(
        Refused, match=r"'probe' gave 1 of 20 test pictures no probabilities \(first cat/3.png"
    ):
        run(code, jobs=JOBS, out=tmp_path / "out", of=CATS, bad=bad)
    assert not (tmp_path / "out").exists()


def test_one_test_picture_makes_a_report(run: Inside, tmp_path: Path) -> None:
    report = Written(run, tmp_path, labels=["cat", "dog"], y=[1], said=[1])
    assert report.headline["acc1"] == 1.0
    assert "95 % interval 20.7% to 100.0%" in report.page


def test_two_hundred_classes_make_a_report(run: Inside, tmp_path: Path) -> None:
    labels = [f"class number {k}" for k in range(200)]
    report = Written(run, tmp_path, labels=labels, y=list(range(200)), said=[*range(199), 0])
    assert len(report.rows("confusion.csv")) == 201
    assert report.headline["acc1"] == 0.995


def test_the_same_result_gives_the_same_bytes(run: Inside, tmp_path: Path) -> None:
    for name in ("one", "two"):
        Written(run, tmp_path / name, **CATS)
    for file in (tmp_path / "one" / "report").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / "report" / file.name).read_bytes(), file.name


NASTY = ["<script>alert(1)</script>", "$x^{$", "=cmd|' /C calc'!A0", "a|b `c` *d*", "猫"]


def test_names_of_classes_and_pictures_cannot_break_page_tables_or_figures(
    run: Inside, tmp_path: Path
) -> None:
    y = [0, 1, 2, 3, 4] * 2
    names = [f'"><img src=x onerror=alert({i})>' for i in range(10)]
    report = Written(run, tmp_path, labels=NASTY, y=y, said=[0] * 10, names=names)
    tags = Tags()
    tags.feed(report.page)
    assert {"script", "link", "iframe"}.isdisjoint(tags.names)
    assert all(url.startswith("data:image/png;base64,") for url in tags.urls)
    assert len(tags.urls) == 6  # three figures, each for light and for dark pages
    assert NASTY[0] in tags.text
    assert {row[0] for row in report.rows("per_class.csv")} >= {"'=cmd|' /C calc'!A0", "猫"}
    assert report.json["labels"] == NASTY
    assert "a\\|b \\`c\\` \\*d\\*" in report.card


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.urls: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.urls += [str(value) for name, value in attributes if name in ("src", "srcset", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_training_curves_come_from_metrics_also_with_a_torn_line(run: Inside, tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 1 / (step + 1), "lr": 0.001}) for step in range(100)]
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join(lines) + '\n{"step": 100, "loss": NaN}\n{"step": 101, "lo'
    )
    report = Written(run, tmp_path, **CATS)
    assert (report.folder / "training.png").stat().st_size > 5000
    assert "From metrics.jsonl. After a resume" in report.page


def test_mistakes_are_listed_the_surest_first(run: Inside, tmp_path: Path) -> None:
    code = RESULT + (
        "r = result_of(['cat', 'dog'], [0, 0, 0], [0, 1, 1])\n"
        "r.odds['probe'][2] = [0.02, 0.98]\n"
        "result = report.evaluate(r)['mistakes']\n"
    )
    mistakes = run(code, jobs=JOBS)
    assert [m["picture"] for m in mistakes] == ["cat/2.png", "cat/1.png"]
    assert mistakes[0]["true"] == "cat"
    assert mistakes[0]["predicted"] == "dog"


def test_the_card_says_what_it_is_made_of_and_what_it_cannot_do(run: Inside, tmp_path: Path) -> None:
    card = Written(run, tmp_path, **CATS).card
    for said in (
        "whatever it is shown",
        "Apache-2.0",
        "cat/broken.png",
        "a truncated file",
        "0123abcd",
        "seed",
    ):
        assert said in card
    assert "launcher run jobs/predict --data model=RUN --data pictures=DIR" in card


def test_the_code_in_the_card_says_what_the_model_says(run: Inside, tmp_path: Path) -> None:
    code = RESULT + (
        "import contextlib, io, os, torch, networks\n"
        "from PIL import Image\n"
        "from card import code\n"
        "torch.manual_seed(0); torch.set_num_threads(1)\n"
        "weights = 'package' if arch == 'efficientnet_lite0' else 'none'\n"
        "network, look = networks.build(arch, 2, weights).eval(), networks.look_of(arch, weights, 64)\n"
        "pixels = np.random.default_rng(0).integers(0, 255, (60, 70, 3), dtype=np.uint8)\n"
        "Image.fromarray(pixels).save(out + '/picture.jpg')\n"
        "x = networks.to_tensor(Image.open(out + '/picture.jpg'), look)[None]\n"
        "with torch.inference_mode():\n"
        "    networks.head(network).weight.data *= 2 / network(x).abs().max()\n"
        "    ours = [round(p, 3) for p in network(x).softmax(1)[0].tolist()]\n"
        "networks.save_model(Path(out), network, ['cat', 'dog'], look, arch, weights)\n"
        "os.chdir(out)\n"
        "with contextlib.redirect_stdout(io.StringIO()) as said:\n"
        "    exec(code(arch), {})\n"
        "result = [said.getvalue(), str(dict(zip(['cat', 'dog'], ours)))]\n"
    )
    for arch in ("efficientnet_lite0", "squeezenet1_1", "mobilenet_v3_small"):
        theirs, ours = run(code, jobs=JOBS, arch=arch, out=tmp_path)
        assert re.findall(r"[0-9.]+", theirs) == re.findall(r"[0-9.]+", ours), arch
