"""Who learns, who chooses and who is tested: the pictures of a run and their split.csv."""

import argparse
import csv
import hashlib
import io
from collections import Counter
from dataclasses import dataclass, field, replace

import settings
from common import refuse
from pictures import Dataset, Picture, group_duplicates, read, split

HEADER = ["picture", "part", "label", "sha256", "group"]


@dataclass(frozen=True)
class Data:
    labels: list[str]
    parts: dict[str, list[Picture]]  # train, val, test
    group: dict[str, int]  # sha256 -> duplicates share one
    left_out: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)  # what a reader of the scores must know

    @property
    def all(self) -> list[Picture]:
        return [p for part in self.parts.values() for p in part]

    def counts(self, part: str) -> list[int]:
        count = Counter(p.label for p in self.parts[part])
        return [count[label] for label in range(len(self.labels))]

    @property
    def val_chooses(self) -> bool:
        return min(self.counts("val")) >= settings.ENOUGH

    def split_csv(self) -> str:
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        write(HEADER)
        for part, own in self.parts.items():
            for p in sorted(own, key=lambda p: (p.name, p.sha256)):
                write([p.name, part, self.labels[p.label], p.sha256, self.group[p.sha256]])
        return text.getvalue()

    def digest(self) -> str:
        return hashlib.sha256(self.split_csv().encode()).hexdigest()


def load(args: argparse.Namespace) -> Data:
    """Read, found duplicates, split. A test source of its own takes the place of --test-share."""
    dataset = read(args.data, threads=args.threads)
    settings.fill(args, min(Counter(p.label for p in dataset.pictures).values()))
    pictures, left_out = dataset.pictures, list(dataset.left_out)
    apart: list[Picture] = []
    if args.test:
        apart, more = _apart(args.test, dataset)
        left_out += more
        pictures, copies = _without(pictures, apart)
        left_out += copies
    groups = group_duplicates(pictures + apart)
    near = set(groups[len(pictures) :])
    if apart:  # a near duplicate of what is tested must not be learnt from
        kept = [i for i in range(len(pictures)) if groups[i] not in near]
        left_out += [(p.name, "nearly a test picture") for i, p in enumerate(pictures) if groups[i] in near]
        groups = [groups[i] for i in kept] + groups[len(pictures) :]
        pictures = [pictures[i] for i in kept]
    shares = (args.val_share, 0.0 if apart else args.test_share)
    parts = split(pictures, groups[: len(pictures)], shares, args.seed)
    ours = {"train": parts.train, "val": parts.val, "test": parts.test + apart}
    everyone = zip(pictures + apart, groups, strict=True)
    return _checked(Data(dataset.labels, ours, {p.sha256: g for p, g in everyone}, left_out, parts.notes))


def _apart(source: str, dataset: Dataset) -> tuple[list[Picture], list[tuple[str, str]]]:
    """Test pictures under the labels of the others; a label that was never learnt is left out and named."""
    tested = read(source)
    kept, left_out = [], [(f"test/{name}", why) for name, why in tested.left_out]
    for p in tested.pictures:
        label = tested.labels[p.label]
        if label in dataset.labels:
            kept.append(replace(p, name=f"test/{p.name}", label=dataset.labels.index(label), part="test"))
        else:
            left_out.append((f"test/{p.name}", f"its label {label!r} is in no training picture"))
    return kept, left_out


def _without(pictures: list[Picture], apart: list[Picture]) -> tuple[list[Picture], list[tuple[str, str]]]:
    tested = {p.sha256: p.name for p in apart}
    left_out = [(p.name, f"the same file as {tested[p.sha256]}") for p in pictures if p.sha256 in tested]
    return [p for p in pictures if p.sha256 not in tested], left_out


def _checked(data: Data) -> Data:
    for part, use in (("train", "learn from"), ("test", "test on")):
        if not data.parts[part]:
            refuse(f"there is no picture to {use}")
    for label, count in zip(data.labels, data.counts("train"), strict=True):
        if not count:
            refuse(f"the class {label!r} has no picture to learn from: add some, or leave its folder out")
    return data
