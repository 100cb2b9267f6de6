"""What people open: one HTML page that needs nothing else (no scripts, names escaped, light and dark), and CSV.

page("A title", [heading("Scores"), table(["class", "recall"], [["cat", "0.90"]]), figure("a.png")])
"""

import base64
import csv
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --text: #24292f; --dim: #59636e; --line: #d8dee4; --soft: #f6f8fa;
        --good: #1a7f37; --bad: #cf222e; --mark: #1f6feb }
@media (prefers-color-scheme: dark) { :root { --paper: #161b22; --text: #d7dde3; --dim: #9aa4af; --line: #3a424c;
        --soft: #1f262e; --good: #56d364; --bad: #ff7b72; --mark: #58a6ff } }
* { box-sizing: border-box }
body { max-width: 68rem; margin: 2rem auto 4rem; padding: 0 1.25rem; background: var(--paper); color: var(--text);
       font: 16px/1.5 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p { max-width: 46rem } .dim { color: var(--dim) } .small { font-size: .875rem }
.say { border-left: 4px solid var(--mark); background: var(--soft); padding: .7rem 1rem; margin: 1rem 0 }
.say.good { border-color: var(--good) } .say.bad { border-color: var(--bad) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top;
         overflow-wrap: anywhere } th { font-weight: 600; color: var(--dim); font-size: .875rem; white-space: nowrap }
td.number, th.number { text-align: right; white-space: nowrap } tr.best td { font-weight: 600 }
figure { margin: .5rem 0 } figure img { max-width: 100%; height: auto; display: block }
figcaption { color: var(--dim); font-size: .875rem; max-width: 46rem }
.side { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start }
.side > * { flex: 1 1 24rem; min-width: 0 }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: .6rem; overflow-wrap: anywhere; font-size: .875rem }
.tile img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--soft); display: block }
.flag { color: var(--bad); font-weight: 600 } .bar { background: var(--line); height: 5px; border-radius: 3px }
.bar > i { display: block; background: var(--mark); height: 5px; border-radius: 3px } summary { cursor: pointer }
"""


def page(title: str, parts: Iterable[str]) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{text(title)}</title>'
    # Nothing may be fetched and nothing run, whatever a name or a label holds.
    guard = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head += f'<meta http-equiv="Content-Security-Policy" content="{guard}"><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{text(title)}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def text(value: object) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode())


def heading(words: str) -> str:
    return f"<h2>{text(words)}</h2>"


def paragraph(words: str, kind: str = "") -> str:
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], best: int | None = None) -> str:
    """Cells that are numbers stand right; None is a dash; the row `best` is bold."""
    rows = [list(row) for row in rows]
    numeric = [all(_is_number(row[k]) for row in rows) and bool(rows) for k in range(len(head))]
    kinds = [' class="number"' if number else "" for number in numeric]
    lines = ["<tr>" + "".join(f"<th{k}>{text(h)}</th>" for h, k in zip(head, kinds, strict=True)) + "</tr>"]
    for number, row in enumerate(rows):
        cells = "".join(f"<td{k}>{_cell(value)}</td>" for value, k in zip(row, kinds, strict=True))
        lines.append(f'<tr class="best">{cells}</tr>' if number == best else f"<tr>{cells}</tr>")
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def figure(light: Path, dark: Path | None = None, words: str = "") -> str:
    """A PNG; `dark`, the same one for a dark page, is taken by itself there."""
    other = f'<source media="(prefers-color-scheme: dark)" srcset="{data_uri(dark)}">' if dark else ""
    image = f'<img src="{data_uri(light)}" alt="{text(words or light.stem)}">'
    caption = f"<figcaption>{text(words)}</figcaption>" if words else ""
    return f"<figure><picture>{other}{image}</picture>{caption}</figure>"


def side_by_side(*parts: str) -> str:
    return '<div class="side">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def folded(words: str, part: str) -> str:
    return f"<details><summary>{text(words)}</summary>{part}</details>"


def data_uri(picture: Path | bytes, kind: str = "image/png") -> str:
    data = picture if isinstance(picture, bytes) else picture.read_bytes()
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """None is empty; a name that a spreadsheet would take for a formula gets a quote in front."""
    text = io.StringIO()
    for row in rows:
        csv.writer(text, lineterminator="\n").writerow([_safe(value) for value in row])
    return text.getvalue()


def _safe(value: object) -> object:
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else text(value)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)
