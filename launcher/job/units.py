"""Times and sizes as people write them: `1h30m` -> seconds, `16GB` -> bytes, and back.

GB is decimal (10**9), GiB binary (2**30), as the standards have it; a unit is always required, because a bare
8 has meant gigabytes, megabytes and bytes in different tools.
"""

from __future__ import annotations

import re

from launcher.errors import SpecError

_NUMBER = r"[0-9]+(\.[0-9]+)?"
DURATION = rf"(?=[0-9])({_NUMBER}d)? ?({_NUMBER}h)? ?({_NUMBER}m)? ?({_NUMBER}s)?"
SIZE = rf"{_NUMBER} ?([KMGTkmgt][iI]?)?[Bb]\+?"
MAX_DURATION_S = 366 * 86400.0
MAX_SIZE_BYTES = 10**18

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def duration_s(text: str) -> float:
    """Seconds of `90s`, `10m`, `6h`, `1h30m`, `1d`, `1.5h`."""
    if not re.fullmatch(DURATION, text):
        raise SpecError(f"{shown(text)} is not a time", "write it like 90s, 10m, 6h, 1h30m or 1d")
    parts = re.findall(rf"({_NUMBER})([dhms])", text)
    seconds = float(sum(float(number) * _SECONDS[unit] for number, _, unit in parts))
    if seconds > MAX_DURATION_S:
        raise SpecError(f"{shown(text)} is longer than a year", "the longest time is 366d")
    return seconds


def size_bytes(text: str) -> int:
    """Bytes of `8GB` (8 * 10**9), `8GiB` (8 * 2**30), `500MB`; a trailing `+` (at least) changes nothing."""
    if not re.fullmatch(SIZE, text):
        short = re.fullmatch(rf"({_NUMBER}) ?[KMGTkmgt]", text)
        example = f"{text}B or {text}iB" if short else "8GB, 500MB or 8GiB"
        raise SpecError(f"{shown(text)} is not a size", f"write it with its unit, like {example}")
    number, letters = re.fullmatch(r"([0-9.]+) ?([a-zA-Z]+)\+?", text).groups()  # type: ignore[union-attr]
    prefix = letters.lower().removesuffix("b")
    base = 1024 if prefix.endswith("i") else 1000
    size = round(float(number) * float(base ** _POWERS[prefix.removesuffix("i")]))
    if size > MAX_SIZE_BYTES:
        raise SpecError(f"{shown(text)} is more than any machine has", "the largest size is 1000000TB")
    return size


def show_duration(seconds: float) -> str:
    """`5400` -> `1h30m`: what `duration_s` reads back, to the millisecond."""
    whole, fraction = divmod(round(seconds * 1000), 1000)
    text = ""
    for unit, length in _SECONDS.items():
        count, whole = divmod(whole, length)
        if unit == "s" and fraction:
            text += f"{count}.{fraction:03d}".rstrip("0") + "s"
        elif count:
            text += f"{count}{unit}"
    return text or "0s"


def show_size(size: int) -> str:
    """`16000000000` -> `16GB`, in the largest decimal unit that loses nothing beyond a tenth."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.1f}".removesuffix(".0") + unit
    return f"{size}B"


def shown(value: object) -> str:
    """A value inside a message: quoted, on one line, never long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:56] + "…" + text[-1]
