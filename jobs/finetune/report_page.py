"""The report as one HTML page: the verdict first, then scores, figures, mistakes, and where all came from."""

from pathlib import Path

import page

Pictures = dict[str, tuple[Path, Path]]  # name -> the PNG for light pages, the one for dark ones
KINDS = {"helped": "say good", "harmed": "say bad"}
CLASSES_SHOWN = 12  # longer tables are folded


def build(numbers: dict, pictures: Pictures) -> str:
    parts = [
        *_verdict(numbers),
        *_methods(numbers),
        *_classes(numbers, pictures),
        *_trust(pictures),
        *_training(pictures),
        *_mistakes(numbers),
        *_origin(numbers),
    ]
    labels = numbers["labels"]
    names = ", ".join(labels) if len(labels) <= 5 else f"{len(labels)} classes"
    return page.page(f"Fine-tuning report: {names}", parts)


def _verdict(numbers: dict) -> list[str]:
    ours, N = numbers["methods"][numbers["method"]], sum(score["support"] for score in numbers["per_class"])
    score = (
        f"Accuracy {ours['acc1']:.1%} on {N} test {'picture' if N == 1 else 'pictures'} that it never learnt from "
        f"(95 % interval {ours['acc1_low']:.1%} to {ours['acc1_high']:.1%}), balanced accuracy "
        f"{ours['balanced_accuracy']:.1%}."
    )
    kind = KINDS.get(numbers["verdict"]["answer"], "say")
    return [page.paragraph(score), page.paragraph(numbers["verdict"]["sentence"], kind)]


def _methods(numbers: dict) -> list[str]:
    head = ["method", "accuracy", "95 % interval", "balanced", "macro F1", "calibration error"]
    rows = [
        [
            m["name"],
            m["acc1"],
            between(m["acc1_low"], m["acc1_high"]),
            m["balanced_accuracy"],
            m["macro_f1"],
            m["ece"],
        ]
        for m in numbers["methods"].values()
    ]
    best = list(numbers["methods"]).index(numbers["method"])
    note = "The bold line is the exported model. All lines are of the same test pictures."
    return [
        page.heading("Beside what is cheaper"),
        page.table(head, rows, best),
        page.paragraph(note, "dim small"),
    ]


def _classes(numbers: dict, pictures: Pictures) -> list[str]:
    head = ["class", "test pictures", "called so", "precision", "recall", "95 % interval", "F1"]
    rows = [
        [s["label"], s["support"], s["predicted"], s["precision"], s["recall"],
         between(s["recall_low"], s["recall_high"]), s["f1"]]
        for s in numbers["per_class"]
    ]  # fmt: skip
    table = page.table(head, rows)
    if len(rows) > CLASSES_SHOWN:
        table = page.folded(f"all {len(rows)} classes", table)
    words = "Rows are the true classes, columns what was said; the diagonal is right. Colours are shares of a row."
    parts = [
        page.heading("Class by class"),
        table,
        *(page.paragraph(note, "dim small") for note in _gaps(numbers)),
    ]
    return [*parts, page.heading("Confusion"), page.figure(*pictures["confusion"], words)]


def _gaps(numbers: dict) -> list[str]:
    """What the table cannot say: a dash is no zero."""
    untested = [s["label"] for s in numbers["per_class"] if not s["support"]]
    unused = [s["label"] for s in numbers["per_class"] if s["support"] and not s["predicted"]]
    notes = []
    if untested:
        notes.append(f"Without test pictures, so nothing is known of: {few(untested)}.")
    if unused:
        notes.append(f"Never predicted, though it was there: {few(unused)}.")
    return notes


def _trust(pictures: Pictures) -> list[str]:
    calibrated = (
        "Bars below the dashed line: it is surer than it should be. Below: how many pictures a bar speaks of."
    )
    labelled = "A line that still climbs at its end: more labels will help more than anything else."
    return [
        page.side_by_side(
            page.heading("Can its confidence be trusted?")
            + page.figure(*pictures["reliability"], calibrated),
            page.heading("Would more labels help?") + page.figure(*pictures["curve"], labelled),
        )
    ]


def _training(pictures: Pictures) -> list[str]:
    if "training" not in pictures:
        return []
    words = "From metrics.jsonl. After a resume elsewhere: the steps since then."
    return [page.heading("Training"), page.figure(*pictures["training"], words)]


def _mistakes(numbers: dict) -> list[str]:
    mistakes = numbers["mistakes"]
    if not mistakes:
        return [page.heading("Mistakes"), page.paragraph("None on the test pictures.")]
    head = ["picture", "is", "was called", "how sure", "of the true class"]
    rows = [
        [m["picture"], m["true"], m["predicted"], m["confidence"], m["of_the_true_class"]] for m in mistakes
    ]
    words = "Those it was surest of come first: look for wrong labels among them."
    table = page.table(head, rows)
    if len(rows) > CLASSES_SHOWN:
        table = page.table(head, rows[:CLASSES_SHOWN]) + page.folded(
            "more", page.table(head, rows[CLASSES_SHOWN:])
        )
    return [page.heading("Worst mistakes"), page.paragraph(words, "dim small"), table]


def _origin(numbers: dict) -> list[str]:
    counts, labels = numbers["counts"], numbers["labels"]
    rows = [[label, *(counts[part][k] for part in counts)] for k, label in enumerate(labels)]
    rows.append(["all", *(sum(own) for own in counts.values())])
    table = page.table(["class", *counts], rows)
    if len(labels) > CLASSES_SHOWN:
        table = page.folded(f"{len(labels)} classes", table)
    facts = page.table(
        ["", ""], [[name.replace("_", " "), str(value)] for name, value in numbers["facts"].items()]
    )
    parts = [page.heading("What it was made of"), page.side_by_side(table, facts)]
    if left := numbers["left_out"]:
        table = page.table(["left out", "why"], [[item["picture"], item["why"]] for item in left])
        words = f"{len(left)} {'picture was' if len(left) == 1 else 'pictures were'} left out"
        parts.append(page.folded(words, table))
    return parts


def between(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3f} – {high:.3f}"


def few(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
