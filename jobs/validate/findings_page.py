"""The findings as one HTML page, each with thumbnails and with what to do next."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from findings import Finding, Item, counts, modes, sizes
from page import data_uri, heading, page, paragraph, table, text
from pictures import BadPicture, Picture

if TYPE_CHECKING:
    from doubts import Doubt
    from validate import Report

SIDE = 96  # pixels of a thumbnail
ITEMS = 24  # shown of each finding; report.json has all
OF_ONE = 6  # pictures shown of a group

STYLE = """<style>
h2 small { font-weight: normal; color: var(--dim) }
.items { display: flex; flex-wrap: wrap; gap: .6rem; margin: .6rem 0 }
.item { border: 1px solid var(--line); border-radius: 6px; padding: .5rem; width: 11.5rem; overflow-wrap: anywhere;
        font-size: .8rem; line-height: 1.35 } .item.group { width: auto; max-width: 38rem }
.item b { display: block; font-weight: 600; margin-top: .3rem }
.thumbs { display: flex; flex-wrap: wrap; gap: .3rem } .thumbs img { display: block; background: #fff;
        border: 1px solid var(--line) }
.bar { width: 16rem; max-width: 40vw; margin-top: .55rem }
</style>"""


def findings_page(report: "Report") -> str:
    parts = [
        STYLE,
        *_head(report),
        heading("Gates"),
        _gates(report),
        *_classes(report),
        *(_finding(f) for f in report.findings if f.items),
        _doubts(report),
        _next(report),
        *_shape(report),
        *_not_found(report),
    ]
    return page(f"{report.source}: worth GPU time?", parts)


def _head(report: "Report") -> list[str]:
    failed, n = sum(not gate.passed for gate in report.gates), len(report.gates)
    said = f"Not yet: {failed} of {n} gates failed." if failed else f"Yes: all {n} gates passed."
    have, out = len(report.data.pictures), len(report.data.left_out)
    classes = len(report.data.labels)
    return [
        paragraph(said, "say bad" if failed else "say good"),
        paragraph(
            f"{have:,} pictures, {classes} classes; {out:,} files left out. No picture was changed or deleted.",
            "dim",
        ),
    ]


def _gates(report: "Report") -> str:
    def row(gate) -> str:
        word = "passed" if gate.passed else '<span class="flag">failed</span>'
        return f"<tr><td>{word}</td><td>{text(gate.line)}</td></tr>"

    rows = "".join(row(gate) for gate in sorted(report.gates, key=lambda gate: gate.passed))
    return f'<div class="wide"><table>{rows}</table></div>'


def _classes(report: "Report") -> list[str]:
    found = sorted(counts(report.data).items(), key=lambda one: -one[1])
    most, few = max([n for _, n in found] or [0]), min([n for _, n in found if n] or [0])
    ratio = f", the largest {most / few:.0f} times the smallest" if few else ""

    def row(name: str, n: int) -> str:
        bar = f'<div class="bar"><i style="width:{100 * n / max(most, 1):.1f}%"></i></div>'
        return f'<tr><td>{text(name)}</td><td class="number">{n:,}</td><td>{bar}</td></tr>'

    rows = "".join(row(*one) for one in found)
    return [
        f"<h2>Classes <small>{len(found)}{ratio}</small></h2>",
        paragraph(
            "Label more of the small classes, or merge them. Fine-tuning weighs classes when they differ by more"
            " than 3 : 1.",
            "say",
        ),
        f'<div class="wide"><table>{rows}</table></div>',
    ]


def _finding(finding: Finding) -> str:
    left = len(finding.items) - ITEMS
    more = paragraph(f"and {left:,} more: report.json has all", "dim") if left > 0 else ""
    if any(item.pictures for item in finding.items):
        shown = _items(finding.items)
    else:
        shown = table(["file", "why"], [(item.name, item.note) for item in finding.items[:ITEMS]])
    return _title(finding.title, len(finding.items)) + paragraph(finding.next, "say") + shown + more


def _title(title: str, n: int) -> str:
    return f"<h2>{text(title)} <small>{n:,}</small></h2>"


def _items(items: Sequence[Item]) -> str:
    return f'<div class="items">{"".join(_item(item) for item in items[:ITEMS])}</div>'


def _item(item: Item) -> str:
    kind = "item group" if len(item.pictures) > 1 else "item"
    thumbs = "".join(_thumbnail(p) for p in item.pictures[:OF_ONE])
    names = [text(p.name) for p in item.pictures[:OF_ONE]]
    if len(item.pictures) > OF_ONE:
        names.append(f"and {len(item.pictures) - OF_ONE} more")
    note = f"<b>{text(item.note)}</b>" if item.note else ""
    return f'<div class="{kind}"><div class="thumbs">{thumbs}</div>{note}{"<br>".join(names)}</div>'


def _doubts(report: "Report") -> str:
    if report.why_not_judged:
        return heading("Labels to doubt") + paragraph(f"No network looked: {report.why_not_judged}.")
    what = (
        f"A network that was not told a picture's own label judged {report.judged:,} pictures; the most doubtful"
        " labels lead. Look at these: correct what is wrong, and leave what is only hard."
    )
    items = [Item((d.picture,), note=_doubt(d, report.data.labels)) for d in report.doubts]
    return _ranked("Labels to doubt", what, items, "doubts.csv")


def _doubt(doubt: "Doubt", labels: list[str]) -> str:
    own, other = labels[doubt.picture.label], labels[doubt.other]
    return f"{own} {doubt.own_odds:.0%}; rather {other} {doubt.other_odds:.0%}"


def _next(report: "Report") -> str:
    labels = report.data.labels
    what = "Label these first: the network cannot tell their two likeliest classes apart."
    if all(x.picture.label is not None for x in report.label_next):
        what = "All have a label. The network is least sure of these: label more pictures like them."
    items = [
        Item((x.picture,), note=f"{labels[x.best]} or {labels[x.second]}? margin {x.margin:.2f}")
        for x in report.label_next
    ]
    return "" if report.why_not_judged else _ranked("What to label next", what, items, "label_next.csv")


def _ranked(title: str, what: str, items: Sequence[Item], file: str) -> str:
    if not items:
        return _title(title, 0)
    more = paragraph(f"{file} has all {len(items):,} in this order", "dim")
    return _title(title, len(items)) + paragraph(what, "say") + _items(items) + more


def _shape(report: "Report") -> list[str]:
    sides = [(name, *values) for name, values in sizes(report.data).items()]
    return [
        heading("Colour modes and sizes"),
        paragraph(
            "Nothing has to be done: training sees RGB, transparent parts on white, all sizes scaled. But if one"
            " class alone has another mode or size, a network learns that instead of what is shown.",
            "say",
        ),
        table(["mode", "pictures"], list(modes(report.data).items())),
        table(["pixels", "least", "middle", "most"], sides),
    ]


def _not_found(report: "Report") -> list[str]:
    none = [f.title for f in report.findings if not f.items]
    return [heading("Looked for and not found"), paragraph("; ".join(none) + ".", "dim")] if none else []


def _thumbnail(picture: Picture) -> str:
    try:
        image = picture.open()
    except BadPicture:  # gone since it was read
        return ""
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "jpeg", quality=80)
    place = f'width="{image.width}" height="{image.height}" alt="{text(picture.name)}"'
    return f'<img {place} src="{data_uri(file.getvalue(), "image/jpeg")}">'
