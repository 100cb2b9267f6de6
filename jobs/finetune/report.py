"""What the job says about itself: report/ (one page, tables, figures, JSON), model_card.md, and a plain verdict.

The cheap baselines always stand beside the result: where one is as good, transfer was not worth its time.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import card
import figures
import page
import report_page
import scores
from common import refuse, write_whole

SCHEMA = 1  # of report.json
METHODS = {
    "majority": "always the largest class",
    "raw": "raw pixels, linear",
    "random": "random network, linear",
    "probe": "pretrained network, linear",
    "finetune": "pretrained network, fine-tuned",
}
FROM_RANDOM = {  # with --weights none there is nothing to transfer
    "probe": "this random network, linear",
    "finetune": "this network, trained from random weights",
}
CHEAP = ("majority", "raw", "random")
WORST = 40  # mistakes that are listed


@dataclass(frozen=True)
class Result:
    labels: list[str]
    names: list[str]  # of the N test pictures
    y: np.ndarray  # (N,) their classes
    odds: dict[str, np.ndarray]  # method -> (N, C) probabilities
    curve: list[tuple[int, str, float]]  # labels of each class, raw or probe, balanced accuracy
    counts: dict[str, list[int]]  # part -> pictures of each class
    left_out: list[tuple[str, str]]  # picture, why
    facts: dict[str, object]

    @property
    def ours(self) -> str:
        return "finetune" if "finetune" in self.odds else "probe"

    @property
    def titles(self) -> dict[str, str]:
        """The methods, in the words for people."""
        return METHODS | (FROM_RANDOM if self.facts.get("weights") == "none" else {})

    @property
    def cheap(self) -> str:
        """The best of the cheap methods."""
        return max((m for m in CHEAP if m in self.odds), key=lambda m: self.right(m).mean())

    def right(self, method: str) -> np.ndarray:
        """(N,) bool: which test pictures it gets right."""
        return self.odds[method].argmax(1) == self.y


def write(out: Path, result: Result) -> dict[str, float]:
    """out/report/ and out/model_card.md; the headline numbers."""
    check(result)
    folder, numbers = out / "report", evaluate(result)
    folder.mkdir(parents=True, exist_ok=True)
    plots = _plots(result, numbers, out / "metrics.jsonl")
    for name, draw in plots.items():
        write_whole(folder / f"{name}.png", lambda path, draw=draw: draw(path, figures.LIGHT))
    with tempfile.TemporaryDirectory() as dark:  # only the page needs these
        for name, draw in plots.items():
            draw(Path(dark) / f"{name}.png", figures.DARK)
        shown = {name: (folder / f"{name}.png", Path(dark) / f"{name}.png") for name in plots}
        _save(folder / "index.html", report_page.build(numbers, shown))
    _save(
        folder / "report.json",
        json.dumps(numbers, indent=1, ensure_ascii=False, default=str, allow_nan=False),
    )
    _save(folder / "per_class.csv", page.csv_text(_class_rows(numbers)))
    _save(folder / "confusion.csv", page.csv_text(_confusion_rows(numbers)))
    _save(out / "model_card.md", card.build(numbers))
    return headline(numbers)


def verdict(result: Result) -> str:
    """Did transfer help here? Against the best cheap method, picture by picture: a two-sided sign test at 5 %."""
    return str(_verdict(result)["sentence"])


def summary(result: Result) -> str:
    """The methods one below the other, best last as a rule."""
    methods = evaluate(result)["methods"]
    lines = [f"{'':32} test acc1   95 % interval   balanced"]
    for scored in methods.values():
        between = f"{scored['acc1_low']:.3f} to {scored['acc1_high']:.3f}"
        lines.append(
            f"{scored['name']:32} {scored['acc1']:9.3f}   {between}   {scored['balanced_accuracy']:8.3f}"
        )
    return "\n".join(lines)


def check(result: Result) -> None:
    """Numbers that are no probabilities would make a report that looks right and is not."""
    N, C = len(result.names), len(result.labels)
    if N == 0 or len(result.y) != N:
        refuse(f"no report: {N} test pictures and {len(result.y)} labels for them")
    for method, odds in result.odds.items():
        if odds.shape != (N, C):
            refuse(f"no report: the probabilities of '{method}' are {odds.shape}, not {(N, C)}")
        sound = (odds >= 0).all(1) & (np.abs(odds.sum(1) - 1) < 1e-3)  # of nan neither is true
        if not sound.all():
            first = int(np.flatnonzero(~sound)[0])
            refuse(
                f"no report: '{method}' gave {N - sound.sum()} of {N} test pictures no probabilities "
                f"(first {result.names[first]}: {np.round(odds[first][:4], 3).tolist()}); "
                "a lower --lr keeps them finite"
            )


def evaluate(result: Result) -> dict:
    """All numbers of the report: report.json."""
    odds = result.odds[result.ours]
    matrix = scores.confusion_matrix(result.y, odds.argmax(1), len(result.labels))
    return {
        "schema": SCHEMA,
        "verdict": _verdict(result),
        "method": result.ours,
        "methods": {method: _method(result, method) for method in METHODS if method in result.odds},
        "labels": result.labels,
        "per_class": [_with_interval(score) for score in scores.class_scores(matrix, result.labels)],
        "confusion": matrix.tolist(),
        "reliability": [asdict(b) for b in scores.reliability(odds, result.y)],
        "curve": [{"labels_per_class": n, "method": m, "balanced_accuracy": s} for n, m, s in result.curve],
        "mistakes": _mistakes(result),
        "counts": result.counts,
        "left_out": [{"picture": name, "why": why} for name, why in result.left_out],
        "facts": result.facts,
    }


def headline(numbers: dict) -> dict[str, float]:
    ours = numbers["methods"][numbers["method"]]
    short = {name: ours[name] for name in ("acc1", "balanced_accuracy", "macro_f1", "ece")}
    return short | {f"acc1_{method}": scored["acc1"] for method, scored in numbers["methods"].items()}


def _verdict(result: Result) -> dict[str, object]:
    ours, cheap, N = result.right(result.ours), result.right(result.cheap), len(result.y)
    test = scores.sign_test(ours, cheap)
    name = METHODS[result.cheap]
    subject = "Training from random weights" if result.facts.get("weights") == "none" else "Transfer"
    counts = (
        f"of {_n(N, 'test picture')} {test.won} {_be(test.won)} right only with it, "
        f"{test.lost} only with '{name}' (sign test p = {test.p:.2g})"
    )
    if test.p <= 0.05:
        answer = "helped" if test.won > test.lost else "harmed"
        sentence = f"{subject} {'helped' if answer == 'helped' else 'did harm'}: {counts}."
    elif N < scores.LEAST:
        answer = "too few"
        sentence = (
            f"{subject} cannot be judged: {_n(N, 'test picture')} can show no difference "
            f"from '{name}', whatever the outcome; it takes {scores.LEAST} at the very least."
        )
    else:
        answer = "no clear difference"
        sentence = f"{subject} made no clear difference: {counts}."
        if test.won + test.lost < scores.LEAST:
            sentence += (
                f" So few differences show nothing: it takes {scores.LEAST}, so test on more pictures."
            )
    return {"answer": answer, "sentence": sentence, "against": result.cheap} | asdict(test)


def _method(result: Result, method: str) -> dict[str, object]:
    odds, N = result.odds[method], len(result.y)
    matrix = scores.confusion_matrix(result.y, odds.argmax(1), len(result.labels))
    classes = scores.class_scores(matrix, result.labels)
    right = int(result.right(method).sum())
    low, high = scores.wilson(right, N)
    return {
        "name": result.titles[method],
        "acc1": right / N,
        "acc1_low": low,
        "acc1_high": high,
        "balanced_accuracy": scores.balanced_accuracy(classes),
        "macro_f1": scores.macro_f1(classes),
        "ece": scores.calibration_error(scores.reliability(odds, result.y)),
    }


def _with_interval(score: scores.ClassScore) -> dict[str, object]:
    low, high = scores.wilson(score.right, score.support) if score.support else (None, None)
    return asdict(score) | {"recall_low": low, "recall_high": high}


def _mistakes(result: Result) -> list[dict[str, object]]:
    """Those it was surest of come first: often a wrong label, or a kind of picture that was never shown to it."""
    odds = result.odds[result.ours]
    said, sure = odds.argmax(1), odds.max(1)
    wrong = np.flatnonzero(said != result.y)
    order = sorted(wrong, key=lambda i: (-round(float(sure[i]), 6), result.names[i]))
    return [
        {
            "picture": result.names[i],
            "true": result.labels[result.y[i]],
            "predicted": result.labels[said[i]],
            "confidence": float(sure[i]),
            "of_the_true_class": float(odds[i, result.y[i]]),
        }
        for i in order[:WORST]
    ]


Draw = Callable[[Path, figures.Ink], None]


def _plots(result: Result, numbers: dict, metrics: Path) -> dict[str, Draw]:
    matrix, ece = np.array(numbers["confusion"]), numbers["methods"][result.ours]["ece"]
    bins = [scores.Bin(**b) for b in numbers["reliability"]]
    plots: dict[str, Draw] = {
        "confusion": lambda path, ink: figures.confusion(path, matrix, result.labels, ink),
        "reliability": lambda path, ink: figures.reliability(path, bins, ece, ink),
        "curve": lambda path, ink: figures.learning_curve(path, result.curve, result.titles, ink),
    }
    if panels := figures.panels(figures.read_metrics(metrics)):
        plots["training"] = lambda path, ink: figures.training(path, panels, ink)
    return plots


def _class_rows(numbers: dict) -> Iterable[Sequence[object]]:
    columns = [
        "label",
        "support",
        "predicted",
        "right",
        "precision",
        "recall",
        "recall_low",
        "recall_high",
        "f1",
    ]
    return [columns, *([score[column] for column in columns] for score in numbers["per_class"])]


def _confusion_rows(numbers: dict) -> Iterable[Sequence[object]]:
    rows = zip(numbers["labels"], numbers["confusion"], strict=True)
    return [["true \\ predicted", *numbers["labels"]], *([label, *row] for label, row in rows)]


def _save(path: Path, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()  # names on a disk need not be text
    write_whole(path, lambda to: to.write_text(text if text.endswith("\n") else text + "\n"))


def _n(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"
