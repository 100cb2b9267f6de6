"""The gates between a set of pictures and GPU time: each a number, its limit, and one line."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from findings import Finding, unique
from pictures import Dataset

SHARES = {  # flag -> default, finding, what is counted
    "max_unreadable": (0.01, "unreadable", "of all files cannot be read"),
    "max_copies": (0.1, "copies", "of all pictures are surplus copies"),
    "max_near_conflicts": (0.05, "near", "of all pictures nearly equal one of another class"),
    "max_blank": (0.01, "blank", "of all pictures are blank"),
    "max_tiny": (0.05, "tiny", "of all pictures are tiny"),
    "max_unlabelled": (0.5, "unlabelled", "of all pictures have no label"),
}
COUNTS = {
    "max_bombs": (0, "bombs", "decompression bombs"),
    "max_disagreements": (0, "disagree", "pictures whose annotations disagree"),
    "max_conflicts": (0, "conflicts", "sets of equal files under several labels"),
    "max_leaks": (0, "leaks", "groups of equal or nearly equal pictures lie in several parts of the split"),
}
OF_CLASSES = {
    "min_classes": (2, "classes at least"),
    "min_per_class": (10, "different pictures at least in the smallest class"),
    "max_imbalance": (20.0, "times as many pictures in the largest class as in the smallest, at most"),
}
MAX_DOUBTS = (0.2, "of all labels are doubted by the judge")


@dataclass(frozen=True)
class Gate:
    name: str
    value: float
    limit: float
    passed: bool
    line: str


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag a gate; its default is the documented one."""
    for name, (default, _, what) in {**COUNTS, **SHARES}.items():
        kind = f"{'share' if name in SHARES else 'number'} that {what}".replace("share that of", "share of")
        parser.add_argument(_flag(name), type=type(default), default=default, help=f"{kind} (%(default)s)")
    for name, (default, what) in OF_CLASSES.items():
        parser.add_argument(_flag(name), type=type(default), default=default, help=f"{what} (%(default)s)")
    parser.add_argument(
        "--max-doubts", type=float, default=MAX_DOUBTS[0], help=f"share {MAX_DOUBTS[1]} (%(default)s)"
    )


def gates(
    limits: Mapping[str, float], data: Dataset, found: Sequence[Finding], doubted: float | None
) -> list[Gate]:
    by_key = {finding.key: finding for finding in found}
    passed = _of_classes(limits, data)
    passed += [
        _at_most(name, len(by_key[key].items), limits, what) for name, (_, key, what) in COUNTS.items()
    ]
    files = len(data.pictures) + len(by_key["unreadable"].items) + len(by_key["bombs"].items)
    for name, (_, key, what) in SHARES.items():
        passed.append(_at_most(name, _number(by_key[key], data) / max(files, 1), limits, what))
    if doubted is not None:
        passed.append(_at_most("max_doubts", doubted, limits, MAX_DOUBTS[1]))
    return passed


def _of_classes(limits: Mapping[str, float], data: Dataset) -> list[Gate]:
    """Copies do not count, empty classes do."""
    kept = unique(p for p in data.pictures if p.label is not None)
    counts = {name: sum(p.label == i for p in kept) for i, name in enumerate(data.labels)}
    least = min(counts, key=counts.get) if counts else "none"
    most = max(counts, key=counts.get) if counts else "none"
    few, many = counts.get(least, 0), counts.get(most, 0)
    ratio = many / few if few else float(many)
    filled = sum(n > 0 for n in counts.values())
    return [
        _at_least("min_classes", filled, limits, "classes have pictures"),
        _at_least("min_per_class", few, limits, f"different pictures in the smallest class, {least!r}"),
        _at_most(
            "max_imbalance", round(ratio, 1), limits, f"times as many pictures of {most!r} as of {least!r}"
        ),
    ]


def _number(finding: Finding, data: Dataset) -> int:
    if finding.key == "copies":
        return len(data.pictures) - len(unique(data.pictures))
    if finding.key == "near":
        mixed = [i for i in finding.items if len({p.label for p in i.pictures if p.label is not None}) > 1]
        return sum(len(item.pictures) for item in mixed)
    return len(finding.items)


def _at_most(name: str, value: float, limits: Mapping[str, float], what: str) -> Gate:
    limit = limits[name]
    return Gate(name, value, limit, value <= limit, _line(value, what, f"at most {_text(limit, name)}", name))


def _at_least(name: str, value: float, limits: Mapping[str, float], what: str) -> Gate:
    limit = limits[name]
    return Gate(
        name, value, limit, value >= limit, _line(value, what, f"at least {_text(limit, name)}", name)
    )


def _line(value: float, what: str, limit: str, name: str) -> str:
    return f"{_text(value, name)} {what} ({name}: {limit})"


def _text(value: float, name: str) -> str:
    if name in SHARES or name == "max_doubts":
        return f"{100 * value:.3g} %"
    return f"{value:g}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
