"""Labelled pictures, their split, their order, their augmentation: all functions of what they are given.

Who is tested depends on (seed, content), the order on (seed, epoch), the augmentation of a picture on (seed,
epoch, picture). No random state is kept, so neither the number of workers nor the moment of a kill changes
what is learnt.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from weights import MEAN, STD

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class Picture:
    name: str
    label: int
    sha256: str  # of the file, or of the pixels where there is no file
    source: Path | np.ndarray

    def open(self) -> Image.Image:
        image = Image.open(self.source) if isinstance(self.source, Path) else Image.fromarray(self.source)
        return ImageOps.exif_transpose(image).convert("RGB")


def load(where: str) -> tuple[list[Picture], list[str]]:
    """The pictures and the names of their classes; of exact duplicates one."""
    pictures, labels = load_lfw() if where == "lfw" else load_folders(Path(where))
    kept: dict[str, Picture] = {}
    for picture in pictures:
        first = kept.setdefault(picture.sha256, picture)
        if first.label != picture.label:
            raise SystemExit(f"{first.name} and {picture.name} are one picture with two labels: remove one")
    if len(kept) < len(pictures):
        print(f"left out {len(pictures) - len(kept)} exact duplicates")
    return list(kept.values()), labels


def load_lfw() -> tuple[list[Picture], list[str]]:
    """100 faces and 100 other patches, 25 x 25, grey, out of scikit-image's wheel; the faces come first."""
    from skimage.data import lfw_subset

    patches = (lfw_subset() * 255).round().astype(np.uint8)
    pictures = [Picture(f"{i:03d}", int(i >= 100), digest(p.tobytes()), p) for i, p in enumerate(patches)]
    return pictures, ["face", "other"]


def load_folders(root: Path) -> tuple[list[Picture], list[str]]:
    """`root`/<class>/**/<picture>. One bad file must not end the run hours later: each is opened once."""
    files = [f for f in sorted(root.glob("*/**/*")) if f.suffix.lower() in SUFFIXES and f.is_file()]
    labels = sorted({f.relative_to(root).parts[0] for f in files})
    if len(labels) < 2:
        raise SystemExit(f"{root} needs two folders of pictures or more, one for each class; found {labels}")
    pictures = []
    for file in files:
        name = file.relative_to(root)
        picture = Picture(name.as_posix(), labels.index(name.parts[0]), digest(file.read_bytes()), file)
        try:
            picture.open()
        except Exception as error:  # Pillow's decoders raise anything
            print(f"left out {name}: {error}")
            continue
        pictures.append(picture)
    return pictures, labels


def split(pictures: list[Picture], test_share: float, seed: int) -> tuple[list[Picture], list[Picture]]:
    """To learn from, and to test on: `test_share` of each class, one picture at least in both."""
    train, test = [], []
    for label in sorted({p.label for p in pictures}):
        own = [p for p in pictures if p.label == label]
        if len(own) < 2:
            raise SystemExit(
                f"{own[0].name} is alone in its class: one to learn from and one to test on are needed"
            )
        own.sort(key=lambda p: digest(f"{seed} {p.sha256}".encode()))
        cut = min(max(round(len(own) * test_share), 1), len(own) - 1)
        train, test = train + own[cut:], test + own[:cut]
    return train, test


class Batches(Dataset):
    """Pictures as tensors. An item is (epoch, index): the epoch seeds its augmentation; None means none."""

    def __init__(self, pictures: list[Picture], size: int, seed: int, device: torch.device) -> None:
        self.pictures, self.size, self.seed, self.device = pictures, size, seed, device

    def __getitem__(self, item: tuple[int | None, int]) -> tuple[torch.Tensor, int]:
        epoch, index = item
        image = self.pictures[index].open()
        box = (0.0, 0.0, *image.size)
        if epoch is not None:
            image, box = augment(image, random.Random(f"{self.seed} {epoch} {index}"))
        pixels = np.array(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box))
        return (torch.from_numpy(pixels).permute(2, 0, 1).float() - MEAN) / STD, self.pictures[index].label

    def plain(self, B: int, workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All pictures, in order, as they are: (B, 3, H, W) and (B,)."""
        return self.batches([(None, i) for i in range(len(self.pictures))], B, workers)

    def shuffled(
        self, epoch: int, skip: int, B: int, workers: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """An epoch without its first `skip` batches; of those nothing is even opened."""
        shuffle = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        order = torch.randperm(len(self.pictures), generator=shuffle).tolist()
        return self.batches([(epoch, i) for i in order[skip * B :]], B, workers)

    def batches(self, items: list, B: int, workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        parts = [items[i : i + B] for i in range(0, len(items), B)]
        for x, y in DataLoader(self, batch_sampler=parts, num_workers=workers):
            yield x.to(self.device), y.to(self.device)


def augment(image: Image.Image, rng: random.Random) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Mirrored or not, and a window of 80 to 100 % of its sides."""
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    w, h = (side * rng.uniform(0.8, 1.0) for side in image.size)
    left, top = rng.uniform(0, image.width - w), rng.uniform(0, image.height - h)
    return image, (left, top, left + w, top + h)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
