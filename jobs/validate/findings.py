"""What is wrong with a set of labelled pictures, as lists: nothing here changes or deletes a picture."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pictures import Dataset, Picture, near_groups, near_pairs


@dataclass(frozen=True)
class Limits:
    """What is too small to show anything."""

    tiny: int  # pixels of the shorter side
    blank: float  # grey levels of standard deviation


@dataclass(frozen=True)
class Item:
    """One or several pictures that belong together, and what to say of them."""

    pictures: tuple[Picture, ...] = ()
    name: str = ""  # where there is no picture to show
    note: str = ""


@dataclass(frozen=True)
class Finding:
    key: str
    title: str
    next: str  # what to do about it
    items: list[Item] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        return len({p.name for item in self.items for p in item.pictures}) or len(self.items)


def findings(data: Dataset, limits: Limits) -> list[Finding]:
    """All of them, in the order in which to mend them; those with nothing to show as well."""
    blank = [p for p in data.pictures if p.facts.spread < limits.blank]
    return [
        *_unreadable(data.left_out),
        _copies(data),
        _leaks(data, limits),
        _equal(data),
        _near(data, limits),
        Finding(
            "blank",
            "Blank: one flat colour",
            "Remove them, or find out what drew nothing: they teach a class to be empty.",
            [Item((p,), note=_label(data, p)) for p in blank],
        ),
        Finding(
            "tiny",
            f"Tiny: a side under {limits.tiny} pixels",
            "Look for the originals: enlarging adds nothing to learn from.",
            [Item((p,), note=_size(p)) for p in data.pictures if min(_sides(p)) < limits.tiny],
        ),
        Finding(
            "unlabelled",
            "Without a label",
            "Label those of 'What to label next' first, or move them out of the training pictures.",
            [Item((p,)) for p in data.pictures if p.label is None],
        ),
    ]


def counts(data: Dataset) -> dict[str, int]:
    found = Counter(p.label for p in data.pictures)
    return {name: found[i] for i, name in enumerate(data.labels)}


def modes(data: Dataset) -> dict[str, int]:
    return dict(Counter(p.facts.mode for p in data.pictures).most_common())


def sizes(data: Dataset) -> dict[str, list[int]]:
    """Least, middle and greatest of width, height."""
    sides = {
        "width": [p.facts.width for p in data.pictures],
        "height": [p.facts.height for p in data.pictures],
    }
    return {
        name: [min(values), int(statistics.median(values)), max(values)]
        for name, values in sides.items()
        if values
    }


def unique(pictures: Iterable[Picture]) -> list[Picture]:
    """The first of each set of equal files."""
    return list({p.sha256: p for p in reversed(list(pictures))}.values())[::-1]


def _unreadable(left_out: list[tuple[str, str]]) -> list[Finding]:
    kinds: dict[str, list[Item]] = {
        "bombs": [],
        "no pictures": [],
        "empty": [],
        "disagree": [],
        "unreadable": [],
    }
    for name, why in left_out:
        signs = {"decompression bomb": "bombs", "not a picture (": "no pictures", "an empty class": "empty"}
        signs |= {"annotations disagree": "disagree", "several labels": "disagree"}
        kind = next((kind for sign, kind in signs.items() if sign in why), "unreadable")
        kinds[kind].append(Item(name=name, note=why))
    told = {
        "unreadable": (
            "Cannot be read",
            "Copy them again from where they came; training leaves them out.",
        ),
        "bombs": (
            "Decompression bombs",
            "Make them smaller elsewhere: a small file that unpacks to so many pixels can exhaust the memory.",
        ),
        "empty": ("Empty classes", "Add pictures, or remove the folder: an empty class cannot be learnt."),
        "disagree": ("Annotations disagree", "Decide in Label Studio, and export again."),
        "no pictures": ("Other files", "Nothing, if they are meant to be there: training passes over them."),
    }
    return [Finding(f"{key.replace(' ', '_')}", *told[key], kinds[key]) for key in told]


def _copies(data: Dataset) -> Finding:
    sets = [own for own in _sets(data.pictures) if len({p.label for p in own if p.label is not None}) > 1]
    return Finding(
        "conflicts",
        "The same file under several labels",
        "Decide for one label and remove the others: fine-tuning refuses to start with these.",
        [Item(tuple(own), note=_labels(data, own)) for own in sets],
    )


def _equal(data: Dataset) -> Finding:
    return Finding(
        "copies",
        "The same file several times",
        "Nothing has to be done: one of each is used. Where a class is mostly copies, it has fewer pictures than"
        " it seems.",
        [Item(tuple(own), note=_labels(data, own)) for own in _sets(data.pictures)],
    )


def _leaks(data: Dataset, limits: Limits) -> Finding:
    """What is learnt from and tested on at once makes the test result too good."""
    parted = [p for p in data.pictures if p.part]
    same = [own for own in _sets(parted) if len({p.part for p in own}) > 1]
    near = [own for own in _groups(parted, limits) if len({p.part for p in own}) > 1]
    items = [Item(tuple(own), note=f"equal files in {_parts(own)}") for own in same]
    items += [Item(tuple(own), note=f"nearly equal, in {_parts(own)}") for own in near]
    return Finding(
        "leaks",
        "The same picture in several parts of the split",
        "Move each group into one part: a test on what was learnt from says nothing.",
        items,
    )


def _near(data: Dataset, limits: Limits) -> Finding:
    """Only among pictures that show something: all blank ones are alike."""
    groups = _groups(data.pictures, limits)
    mixed = [own for own in groups if len({p.label for p in own}) > 1]
    items = [Item(tuple(own), note=f"several classes: {_labels(data, own)}") for own in mixed]
    items += [Item(tuple(own), note=_labels(data, own)) for own in groups if own not in mixed]
    return Finding(
        "near",
        "Nearly the same picture",
        "Look at those of several classes: one of the labels may be wrong. The split keeps each group in one part,"
        " so nothing has to be removed.",
        items,
    )


def near_across(data: Dataset, limits: Limits) -> int:
    """Pairs of nearly equal pictures of different classes."""
    shown = _showing(data.pictures, limits)
    return sum(shown[i].label != shown[j].label for i, j in set(near_pairs(shown)))


def _groups(pictures: Sequence[Picture], limits: Limits) -> list[list[Picture]]:
    shown = _showing(pictures, limits)
    return [[shown[i] for i in group] for group in near_groups(shown)]


def _showing(pictures: Sequence[Picture], limits: Limits) -> list[Picture]:
    return [p for p in unique(pictures) if p.facts.spread >= limits.blank]


def _sets(pictures: Sequence[Picture]) -> list[list[Picture]]:
    sets: dict[str, list[Picture]] = {}
    for p in pictures:
        sets.setdefault(p.sha256, []).append(p)
    return [own for own in sets.values() if len(own) > 1]


def _label(data: Dataset, picture: Picture) -> str:
    return "no label" if picture.label is None else data.labels[picture.label]


def _labels(data: Dataset, pictures: Sequence[Picture]) -> str:
    return ", ".join(sorted({_label(data, p) for p in pictures}))


def _parts(pictures: Sequence[Picture]) -> str:
    return " and ".join(sorted({p.part for p in pictures}))


def _sides(picture: Picture) -> tuple[int, int]:
    return picture.facts.width, picture.facts.height


def _size(picture: Picture) -> str:
    return "{} x {}".format(*_sides(picture))
