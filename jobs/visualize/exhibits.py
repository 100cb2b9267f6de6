"""What is shown to the network: the user's pictures, those it was tested on marked, or photographs that are here."""

import csv
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from PIL import Image

import pictures
from common import refuse
from mining import BATCH
from networks import Look, Model, to_tensor

PHOTOGRAPHS = (
    *(
        "astronaut.png",
        "brick.png",
        "camera.png",
        "cell.png",
        "chelsea.png",
        "clock_motion.png",
        "coffee.png",
    ),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png"),
    *("motorcycle_left.png", "retina.jpg", "rocket.jpg", "text.png"),
)
LARGEST = 640  # longer side of a photograph before it is cut into windows
WINDOW = 160  # pixels of it that are one picture, at most


@dataclass(frozen=True)
class Exhibit:
    name: str
    open: Callable[[], Image.Image]
    truth: int | None = None  # its class, by the model's numbers


@dataclass(frozen=True)
class Exhibition:
    pool: list[Exhibit]  # mined for what excites the channels
    judged: list[Exhibit]  # the network's answers to these are looked at
    left_out: list[tuple[str, str]] = field(default_factory=list)
    tested: str = ""  # which pictures are judged, in words


def exhibition(source: Path | None, model: Model, folder: Path | None, side: int) -> Exhibition:
    """`folder`: the model's, if it is the user's own; its split.csv says what it was tested on."""
    scenes = photographs()
    windows = [
        Exhibit(f"{s.name} {left},{top}", open)
        for s in scenes
        for left, top, open in tiles(s, min(side, WINDOW))
    ]
    if source is None and (folder is None or set(model.labels) != {"face", "other"}):
        return Exhibition(
            windows, scenes, tested="the photographs in scikit-image's wheel, whose classes nobody gave"
        )
    read = pictures.read("lfw" if source is None else source, unlabelled=True)
    if not read.pictures:
        why = "".join(f"; {name}: {reason}" for name, reason in read.left_out[:1])
        refuse(f"{source}: no picture that can be read{why}")
    known = model.labels if folder else None
    own = [Exhibit(p.name, p.open, _truth(p, read.labels, known, source)) for p in read.pictures]
    judged, tested = _judged(own, [p.sha256 for p in read.pictures], folder)
    return Exhibition(own if source else own + windows, judged, read.left_out, tested)


def photographs() -> list[Exhibit]:
    """Those that lie in scikit-image's wheel."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [
        Exhibit(name, partial(pictures.open_picture, folder / name))
        for name in PHOTOGRAPHS
        if (folder / name).is_file()
    ]


def tiles(scene: Exhibit, side: int) -> Iterator[tuple[int, int, Callable[[], Image.Image]]]:
    """Windows that do not overlap: one photograph is as good as many small ones, seen from near."""
    image = scene.open()
    image.thumbnail((LARGEST, LARGEST))
    for top in range(0, image.height - side + 1, side):
        for left in range(0, image.width - side + 1, side):
            yield left, top, partial(image.crop, (left, top, left + side, top + side))


def drawn(exhibits: list[Exhibit], most: int, seed: int) -> list[Exhibit]:
    """`most` of them by lot, in their order."""
    if len(exhibits) <= most:
        return exhibits
    return [exhibits[i] for i in sorted(random.Random(seed).sample(range(len(exhibits)), most))]


def tensors(exhibits: list[Exhibit], look: Look) -> Iterator[torch.Tensor]:
    """Batches (B, 3, H, W), one at a time."""
    for i in range(0, len(exhibits), BATCH):
        yield torch.stack([to_tensor(e.open(), look) for e in exhibits[i : i + BATCH]])


def _truth(
    picture: pictures.Picture, labels: list[str], known: list[str] | None, source: Path | None
) -> int | None:
    if picture.label is None or known is None:
        return None
    if labels[picture.label] not in known:
        few = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
        refuse(
            f"{source}: {picture.name} is of the class {labels[picture.label]!r}, which this model does not "
            f"know ({few}): give the pictures that it was trained for"
        )
    return known.index(labels[picture.label])


def _judged(own: list[Exhibit], digests: list[str], folder: Path | None) -> tuple[list[Exhibit], str]:
    """Those that the training kept for its test; without its split.csv all."""
    kept = _test_part(folder / "split.csv") if folder else set()
    tested = [e for e, digest in zip(own, digests, strict=True) if digest in kept]
    if tested:
        return tested, f"the {len(tested)} pictures that the training had kept for its test"
    if kept:
        return own, f"{len(own)} pictures, none of which the training had kept for its test"
    return own, f"{len(own)} pictures; which of them the training has seen is not known (no split.csv)"


def _test_part(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row["sha256"] for row in csv.DictReader(file) if row["part"] == "test"}
    except (KeyError, ValueError, csv.Error) as error:
        refuse(f"{path} cannot be read as a split (picture, part, label, sha256): {error}")
