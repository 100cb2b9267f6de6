"""Plain tables and the units in them; no colours, so that they are the same in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from launcher.render.safe import one_line


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], gap: str = "  ") -> str:
    """Aligned columns under heads; a column that is empty in every row is left out."""
    texts = [[one_line("" if cell is None else cell) for cell in row] for row in rows]
    columns = [i for i in range(len(heads)) if any(row[i] for row in texts)]
    kept = [[heads[i] for i in columns], *([row[i] for i in columns] for row in texts)]
    widths = [max(len(row[i]) for row in kept) for i in range(len(columns))]
    lines = (gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in kept)
    return "\n".join(line.rstrip() for line in lines)


def pairs(rows: Sequence[tuple[str, object]]) -> str:
    """`key  value` lines; what has no value is left out."""
    shown = [(key, one_line(value)) for key, value in rows if value not in (None, "")]
    width = max((len(key) for key, _ in shown), default=0)
    return "\n".join(f"{key.ljust(width)}  {value}".rstrip() for key, value in shown)


def size(count: float) -> str:
    """Bytes as `44.8 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def elapsed(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def brief(value: object, longest: int = 60) -> str:
    """On one line and not long; of a SHA-256 its beginning tells enough."""
    text = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1…", one_line("-" if value is None else value))
    return text if len(text) <= longest else text[: longest - 1] + "…"
