"""What was predicted, as a table for the terminal, as CSV and JSON, and as a contact sheet."""

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

import page
from common import write_whole
from trained import Trained

SCHEMA = 1  # of predictions.json
WIDEST = 48  # characters of a name in the terminal; the files have all
UNLIKE = "unlike anything it was trained on"


@dataclass(frozen=True)
class Answer:
    """Of one picture."""

    name: str
    label: str | None = None  # what it is, where that is known
    top: list[tuple[str, float]] = field(default_factory=list)  # class, probability; the surest first
    distance: float | None = None  # from the pictures that the model was trained on
    unlike: bool | None = None  # None: the model cannot say
    why_not: str = ""  # it could not be read
    thumbnail: bytes = b""


def write(out: Path, model: Trained, answers: Sequence[Answer], top: int) -> None:
    files = {
        "predictions.csv": page.csv_text(_rows(model, answers, top)),
        "predictions.json": json.dumps(_json(model, answers), indent=1, ensure_ascii=False) + "\n",
        "predictions.html": _sheet(model, answers),
    }
    for name, text in files.items():
        write_whole(
            out / name, lambda path, text=text: path.write_text(text, encoding="utf-8", errors="replace")
        )


def table(answers: Sequence[Answer], top: int) -> str:
    """One line a picture, columns aligned."""
    rows = []
    for answer in answers:
        said = [f"{label} {p:.2f}" for label, p in answer.top[:top]]
        remark = f"unreadable: {answer.why_not}" if answer.why_not else UNLIKE if answer.unlike else ""
        rows.append([_cut(answer.name), *said, *[""] * (top - len(said)), remark])
    used = [k for k in range(top + 2) if any(row[k] for row in rows)]
    read = [row for row, answer in zip(rows, answers, strict=True) if not answer.why_not] or rows
    widths = {k: max(len(row[k]) for row in (rows if k == 0 else read)) for k in used}
    return "\n".join("  ".join(row[k].ljust(widths[k]) for k in used).rstrip() for row in rows)


def summary(model: Trained, answers: Sequence[Answer]) -> str:
    """How many, how many not, and how many right where that is known."""
    read = [answer for answer in answers if not answer.why_not]
    lines = [f"{count(len(read), 'picture')} read, {len(answers) - len(read)} unreadable"]
    if model.unlike is None:
        lines.append(
            "nothing is flagged as unlike its training pictures: this model came without unlike.safetensors"
        )
    else:
        lines.append(f"{sum(bool(answer.unlike) for answer in read)} flagged as {UNLIKE}")
    if known := accuracy(model, answers):
        of = f"{known['right']} of {count(known['labelled'], 'labelled picture')}"
        lines.append(f"{of} right: accuracy {known['acc1']:.3f}")
    if strange := unseen(model, answers):
        named = ", ".join(f"{label!r} ({n})" for label, n in strange.items())
        lines.append(f"labels never seen in training, left out of the accuracy: {named}")
    return "\n".join(lines)


def accuracy(model: Trained, answers: Sequence[Answer]) -> dict[str, float] | None:
    known = [answer for answer in answers if not answer.why_not and answer.label in model.labels]
    right = sum(answer.top[0][0] == answer.label for answer in known)
    return {"labelled": len(known), "right": right, "acc1": right / len(known)} if known else None


def unseen(model: Trained, answers: Sequence[Answer]) -> dict[str, int]:
    """Labels of the pictures that are none of the model's classes."""
    return dict(Counter(a.label for a in answers if a.label is not None and a.label not in model.labels))


def thumbnail(image: Image.Image, side: int) -> bytes:
    small, file = image.copy(), io.BytesIO()
    small.thumbnail((side, side))
    small.save(file, "jpeg", quality=80)
    return file.getvalue()


def count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _rows(model: Trained, answers: Sequence[Answer], top: int) -> list[list[object]]:
    places = range(1, min(top, len(model.labels)) + 1)
    head = ["picture", *(f"{what}_{k}" for k in places for what in ("class", "probability"))]
    rows: list[list[object]] = [[*head, "unlike", "distance", "label", "right", "unreadable"]]
    for a in answers:
        said = [value for pair in a.top for value in pair] or [""] * 2 * len(places)
        right = "" if a.label not in model.labels or a.why_not else _yes(a.top[0][0] == a.label)
        far = "" if a.distance is None else a.distance
        rows.append([a.name, *said, _yes(a.unlike), far, a.label or "", right, a.why_not])
    return rows


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _json(model: Trained, answers: Sequence[Answer]) -> dict[str, object]:
    pictures = [
        {
            "picture": a.name,
            "answers": [{"label": label, "probability": p} for label, p in a.top],
            "unlike": a.unlike,
            "distance": a.distance,
            "label": a.label,
            "unreadable": a.why_not or None,
        }
        for a in answers
    ]
    known = {"labels": model.labels, "threshold": None if model.unlike is None else round(model.threshold, 4)}
    more = {"accuracy": accuracy(model, answers), "unseen_labels": unseen(model, answers)}
    return {"schema": SCHEMA, "model": model.words} | known | more | {"pictures": pictures}


def _sheet(model: Trained, answers: Sequence[Answer]) -> str:
    shown = [answer for answer in answers if answer.thumbnail]
    parts = [page.paragraph(line) for line in (model.words, *summary(model, answers).splitlines())]
    if bad := [(answer.name, answer.why_not) for answer in answers if answer.why_not]:
        parts += [page.heading("Unreadable"), page.table(["picture", "why"], bad)]
    complete = len(shown) + len(bad) == len(answers)
    parts.append(page.heading("Pictures" if complete else f"The first {len(shown)} pictures"))
    parts.append('<div class="tiles">' + "\n".join(_tile(answer) for answer in shown) + "</div>")
    return page.page("Predictions", parts)


def _tile(answer: Answer) -> str:
    uri = f"data:image/jpeg;base64,{base64.b64encode(answer.thumbnail).decode()}"
    lines = [f'<img src="{uri}" alt=""><div class="dim">{page.text(answer.name)}</div>']
    for label, p in answer.top:
        lines.append(
            f'<div>{page.text(label)} {p:.2f}<div class="bar"><i style="width:{p:.0%}"></i></div></div>'
        )
    if answer.unlike:
        lines.append(f'<div class="flag">{UNLIKE}</div>')
    if answer.label is not None:
        wrong = bool(answer.top) and answer.top[0][0] != answer.label
        lines.append(f'<div class="{"flag" if wrong else "dim"}">is: {page.text(answer.label)}</div>')
    return f'<div class="tile">{"".join(lines)}</div>'


def _cut(name: str) -> str:
    return name if len(name) <= WIDEST else "…" + name[1 - WIDEST :]
