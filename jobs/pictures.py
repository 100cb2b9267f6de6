"""Labelled pictures: where they lie, what they are, and who learns and who is tested.

    python pictures.py DIR        # or a .csv, or an export of Label Studio: what would be read, and what not

Read are DIR/<class>/**/*.jpg; or DIR/{train,val,test}/<class>/…; a CSV with the columns path (file, image,
filename), label (class, choice) and, if you like, split (part: train, val or test); Label Studio's JSON,
JSON-MIN or CSV. Paths in a list are relative to the list. In a folder a labels.csv or labels.json decides.
Every picture is opened once; what cannot be used is left out and named, and no picture is ever changed.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from common import refuse
from duplicates import DISTANCE, group_duplicates, near_duplicates, near_groups, near_pairs, phash, small
from listed import Entry, entries, shown
from opening import MAX_PIXELS, SUFFIXES, BadPicture, Facts, decode, digest, open_picture, spread

__all__ = ["DISTANCE", "MAX_PIXELS", "SUFFIXES", "BadPicture", "Dataset", "Facts", "Picture", "Split"]
__all__ += [
    "gather",
    "group_duplicates",
    "near_duplicates",
    "near_groups",
    "near_pairs",
    "open_picture",
    "phash",
    "read",
]
__all__ += ["shown", "split"]


@dataclass(frozen=True)
class Picture:
    name: str  # posix path below the source, one line of proper Unicode
    label: int | None  # None: unlabelled
    sha256: str  # of the file, or of the pixels where there is no file
    source: Path | np.ndarray = field(compare=False)
    part: str = ""  # train, val or test where the source says so
    facts: Facts | None = field(default=None, compare=False)

    def open(self) -> Image.Image:
        return open_picture(self.source)


@dataclass(frozen=True)
class Dataset:
    pictures: list[Picture]
    labels: list[str]
    left_out: list[tuple[str, str]] = field(default_factory=list)  # name, why


@dataclass(frozen=True)
class Split:
    train: list[Picture]
    val: list[Picture]
    test: list[Picture]
    notes: list[str] = field(default_factory=list)  # what a reader of the scores must know


def read(source: str | Path, unlabelled: bool = False, threads: int = 1) -> Dataset:
    """What can be learnt from, each picture once; with `unlabelled` also what has no label yet."""
    found = gather(source, threads)
    dataset = _without_copies(found, source)
    if unlabelled:
        return dataset
    bare = [(p.name, "unlabelled") for p in dataset.pictures if p.label is None]
    dataset = replace(dataset, pictures=[p for p in dataset.pictures if p.label is not None])
    dataset = _with_used_labels(replace(dataset, left_out=dataset.left_out + bare))
    if len(dataset.labels) < 2:
        have = f"only {dataset.labels[0]!r}" if dataset.labels else "none"
        why = "".join(f"; {name}: {reason}" for name, reason in dataset.left_out[:1])
        refuse(f"{shown(source)} needs readable pictures of two classes or more; found {have}{why}")
    return dataset


def gather(source: str | Path, threads: int = 1) -> Dataset:
    """Every picture that opens, copies and unlabelled ones too."""
    listed = _lfw() if str(source) == "lfw" else entries(Path(source))
    labels = sorted({e.label for e in listed if e.label is not None})
    with ThreadPoolExecutor(max(threads, 1)) as pool:  # Pillow decodes without holding the interpreter
        looked = list(pool.map(lambda entry: _look(entry, labels), listed))
    left_out = [one for one in looked if isinstance(one, tuple)]
    return Dataset([one for one in looked if isinstance(one, Picture)], labels, left_out)


def _look(entry: Entry, labels: list[str]) -> Picture | tuple[str, str]:
    if entry.why_not or entry.source is None:
        return entry.name, entry.why_not
    try:
        sha256 = digest(entry.source)
        image, mode = decode(entry.source)
    except BadPicture as error:
        return entry.name, str(error)
    except OSError as error:
        return entry.name, error.strerror or "cannot be read"
    facts = Facts(*image.size, mode, phash(image), small(image), round(spread(image), 3))
    label = None if entry.label is None else labels.index(entry.label)
    return Picture(entry.name, label, sha256, entry.source, entry.part, facts)


def _lfw() -> list[Entry]:
    """100 faces and 100 other patches, 25 x 25, grey, out of scikit-image's wheel; the faces come first."""
    from skimage.data import lfw_subset

    patches = (lfw_subset() * 255).round().astype(np.uint8)
    return [Entry(f"{i:03d}", patch, "other" if i >= 100 else "face") for i, patch in enumerate(patches)]


def _without_copies(found: Dataset, source: str | Path) -> Dataset:
    """Of equal files one is kept: a labelled one, and one to be tested on rather than to learn from."""
    kept: dict[str, Picture] = {}
    order = {"test": 0, "val": 1, "train": 2, "": 3}
    for p in sorted(found.pictures, key=lambda p: (p.label is None, order[p.part])):
        first = kept.setdefault(p.sha256, p)
        if None not in (p.label, first.label) and p.label != first.label:
            one, other = (f"{x.name} ({found.labels[x.label]})" for x in (first, p))
            refuse(
                f"{shown(source)}: {one} and {other} are one picture with two labels: correct or remove one"
            )
    copies = [(p, kept[p.sha256]) for p in found.pictures if p is not kept[p.sha256]]
    left_out = [(p.name, f"the same file as {first.name}") for p, first in copies]
    pictures = [p for p in found.pictures if p is kept[p.sha256]]
    return Dataset(pictures, found.labels, found.left_out + left_out)


def _with_used_labels(dataset: Dataset) -> Dataset:
    """A class of which no picture can be read is none: the others are numbered anew."""
    used = sorted({p.label for p in dataset.pictures if p.label is not None})
    unused = [label for i, label in enumerate(dataset.labels) if i not in used]
    pictures = [replace(p, label=used.index(p.label)) for p in dataset.pictures]
    why = [(label, "a class without a readable picture") for label in unused]
    return Dataset(pictures, [dataset.labels[i] for i in used], dataset.left_out + why)


def split(
    pictures: Sequence[Picture], groups: Sequence[int], shares: tuple[float, float], seed: int
) -> Split:
    """`shares` (val, test) of each class; a group stays together, and a part that the source gave is kept.

    A class that is one group could not be tested on at all: it is split picture by picture, and a note says so.
    A function of seed and content: neither names nor the order of the pictures matter.
    """
    given = {part for p in pictures if (part := p.part)}
    want = {"test": 0.0 if "test" in given else shares[1], "val": 0.0 if "val" in given else shares[0]}
    groups, notes = list(groups), []
    while True:
        members: dict[int, list[Picture]] = {}
        for picture, group in zip(pictures, groups, strict=True):
            members.setdefault(group, []).append(picture)
        part_of = {p.sha256: part for part, own in _assign(members.values(), want, seed) for p in own}
        parts = {
            part: [p for p in pictures if part_of[p.sha256] == part] for part in ("train", "val", "test")
        }
        alike = _lacking_for_likeness(pictures, groups, parts, tested=shares[1] > 0)
        if not alike:
            break
        groups = [max(groups) + 1 + i if p.label in alike else groups[i] for i, p in enumerate(pictures)]
        notes += [_too_alike(pictures, label) for label in sorted(alike)]
    _check(pictures, parts, tested=shares[1] > 0)
    return Split(**parts, notes=notes)


def _lacking_for_likeness(
    pictures: Sequence[Picture], groups: Sequence[int], parts: dict[str, list[Picture]], tested: bool
) -> set[int]:
    """Classes that have nothing in a part they need, and near duplicates that could be torn apart for it."""
    needed = ("train", "test") if tested else ("train",)
    size = Counter(groups)
    torn = {p.label for p, group in zip(pictures, groups, strict=True) if size[group] > 1 and not p.part}
    return {label for label in torn for part in needed if not any(p.label == label for p in parts[part])}


def _too_alike(pictures: Sequence[Picture], label: int) -> str:
    own = [p for p in pictures if p.label == label]
    return (
        f"the {len(own)} pictures of the class of {own[0].name} are near duplicates of each other or of other "
        "classes: they were split picture by picture, so the scores flatter"
    )


def _assign(
    groups: Iterable[list[Picture]], want: dict[str, float], seed: int
) -> Iterable[tuple[str, list[Picture]]]:
    """(part, the pictures that go there). What the source said holds; groups without a word are drawn."""
    free: dict[int, list[list[Picture]]] = {}
    for group in groups:
        said = next((part for part in ("test", "val", "train") if any(p.part == part for p in group)), "")
        yield from ((p.part or said, [p]) for p in group if p.part or said)
        if not said:
            free.setdefault(_label_of(group), []).append(group)
    for own in free.values():
        own.sort(key=lambda group: _key(seed, group))
        n = sum(map(len, own))
        for part in ("test", "val"):
            taken = _take(own, want[part], n, spare=1 + (part == "test" and want["val"] > 0 and n > 2))
            own[:] = [group for group in own if group not in taken]
            yield from ((part, group) for group in taken)
        yield from (("train", group) for group in own)


def _take(own: list[list[Picture]], share: float, n: int, spare: int) -> list[list[Picture]]:
    """Groups of about `share` of `n` pictures, at least one; `spare` groups at least stay for others."""
    target, taken, count = max(round(n * share), 1), [], 0
    if not share:
        return []
    for group in own:
        if count + len(group) <= target and len(own) - len(taken) > spare:
            taken, count = [*taken, group], count + len(group)
    if not taken and len(own) > spare:
        taken = [min(own, key=len)]
    return taken


def _label_of(group: list[Picture]) -> int:
    """Near duplicates may bear different labels: the most frequent, then the lowest one counts."""
    counts = Counter(p.label for p in group)
    return min(counts, key=lambda label: (-counts[label], label))


def _key(seed: int, group: list[Picture]) -> str:
    return hashlib.sha256(f"{seed} {min(p.sha256 for p in group)}".encode()).hexdigest()


def _check(pictures: Sequence[Picture], parts: dict[str, list[Picture]], tested: bool) -> None:
    for label in sorted({p.label for p in pictures}):
        own = [p for p in pictures if p.label == label]
        for part, use in (("train", "learn from"), *([("test", "test on")] if tested else [])):
            if not any(p.label == label for p in parts[part]):
                refuse(
                    f"the class of {own[0].name} has nothing to {use} (pictures: {len(own)}; near duplicates go"
                    " into one part together): add others, or remove the class"
                )


def main(source: str) -> None:
    dataset = gather(source)
    counts = Counter(p.label for p in dataset.pictures)
    for label, name in enumerate(dataset.labels):
        print(f"{counts[label]:6} {name}")
    print(f"{counts[None]:6} without a label")
    for name, why in dataset.left_out:
        print(f"left out {name}: {why}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "lfw")
