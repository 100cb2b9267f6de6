"""Pictures as batches: their order, their augmentation and their mixing, all functions of (seed, epoch, picture).

No random state is kept anywhere, so neither the number of workers or processes nor the moment of a kill
changes what is learnt. What a batch holds is decided for all processes; each then takes its own rows.
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from networks import Look
from pictures import Picture

MEMORY = 1 << 30  # bytes of small pictures that are kept, so that none is decoded in each epoch
ROOM = 1.25  # sides of a kept picture, in sides of what the network sees: room for the window
Item = tuple[int | None, int]  # (epoch, index); epoch None: as it is


@dataclass(frozen=True)
class Augment:
    seed: int
    flip: bool = True
    scale: float = 0.8
    mixup: float = 0.0
    cutmix: float = 0.0


class Batches(Dataset):
    """Pixel values 0..255 (3, H, W) and targets (C,), which are soft where pictures are mixed."""

    def __init__(self, pictures: Sequence[Picture], classes: int, look: Look, augment: Augment) -> None:
        self.pictures, self.classes, self.look, self.augment = pictures, classes, look, augment
        self.kept: dict[tuple[int, int], np.ndarray] = {}
        side = round(look.size * ROOM)
        self.keeps = len(pictures) * 3 * (side**2 + look.size**2) < MEMORY

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: Item) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, index = item
        if epoch is None:
            return _tensor(self._small(index, self.look.size)), self._target(index)
        rng = random.Random(f"{self.augment.seed} {epoch} {index}")
        x, target = self._augmented(index, rng), self._target(index)
        if self.augment.mixup or self.augment.cutmix:
            partner = rng.randrange(len(self.pictures))
            x, share = _mix(x, self._augmented(partner, rng), self.augment, rng)
            target = share * target + (1 - share) * self._target(partner)
        return x, target

    def _target(self, index: int) -> torch.Tensor:
        target = torch.zeros(self.classes)
        target[self.pictures[index].label] = 1.0
        return target

    def _augmented(self, index: int, rng: random.Random) -> torch.Tensor:
        """Mirrored or not, and a window of its sides."""
        image = Image.fromarray(self._small(index, round(self.look.size * ROOM)))
        if rng.random() < 0.5 and self.augment.flip:
            image = ImageOps.mirror(image)
        w, h = (side * rng.uniform(self.augment.scale, 1.0) for side in image.size)
        left, top = rng.uniform(0, image.width - w), rng.uniform(0, image.height - h)
        box = (left, top, left + w, top + h)
        return _tensor(np.array(image.resize((self.look.size,) * 2, Image.Resampling.BILINEAR, box)))

    def _small(self, index: int, side: int) -> np.ndarray:
        """A picture as a square of this side, decoded once where memory allows."""
        if (index, side) in self.kept:
            return self.kept[index, side]
        image = self.pictures[index].open()
        box = self.look.box(*image.size)
        pixels = np.array(image.resize((side, side), Image.Resampling.BILINEAR, box))
        if self.keeps:
            self.kept[index, side] = pixels
        return pixels

    def warm(self, threads: int) -> None:
        """Decode before the workers start, which would each forget it at the end of an epoch."""
        if self.keeps:
            with ThreadPoolExecutor(max(threads, 1)) as pool:
                list(pool.map(lambda i: self._small(i, round(self.look.size * ROOM)), range(len(self))))

    def plain(self, B: int, workers: int, rows: slice = slice(None)) -> Iterator[tuple]:
        """All pictures, in order, as they are."""
        items: list[Item] = [(None, i) for i in range(len(self))][rows]
        return self.batches([items[i : i + B] for i in range(0, len(items), B)], workers)

    def batches(self, parts: list[list[Item]], workers: int) -> Iterator[tuple]:
        """(x, target) for each part. The generator is the loader's own: it takes nothing from torch's."""
        own = torch.Generator().manual_seed(0)
        kinds = {"num_workers": workers, "generator": own, "pin_memory": torch.cuda.is_available()}
        yield from DataLoader(self, batch_sampler=parts, **kinds)


def order(epoch: int, seed: int, odds: torch.Tensor | None, n: int) -> list[int]:
    """Every picture once, or as often as `odds` says (with replacement)."""
    shuffle = torch.Generator().manual_seed(seed * 100_003 + epoch)
    if odds is not None:
        return torch.multinomial(odds, n, replacement=True, generator=shuffle).tolist()
    return torch.randperm(n, generator=shuffle).tolist()


def parts_of_epoch(epoch: int, indices: list[int], B: int) -> list[list[Item]]:
    return [[(epoch, i) for i in indices[k : k + B]] for k in range(0, len(indices), B)]


def normalised(x: torch.Tensor, look: Look, device: torch.device) -> torch.Tensor:
    """Bytes travel, floats are made where they are needed."""
    x = x.to(device, non_blocking=True).float()
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (look.mean, look.std))
    return (x - mean) / std


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _mix(
    x: torch.Tensor, other: torch.Tensor, augment: Augment, rng: random.Random
) -> tuple[torch.Tensor, float]:
    """(mixed, share of x): a blend (mixup), or x with a window of the other (cutmix)."""
    cut = augment.cutmix and (not augment.mixup or rng.random() < 0.5)
    alpha = augment.cutmix if cut else augment.mixup
    share = rng.betavariate(alpha, alpha)
    if not cut:
        return share * x.float() + (1 - share) * other.float(), share
    side = x.shape[-1]
    length = round(side * (1 - share) ** 0.5)
    top, left = (rng.randint(0, side - length) for _ in range(2))
    x = x.clone().float()
    x[:, top : top + length, left : left + length] = other[
        :, top : top + length, left : left + length
    ].float()
    return x, 1 - length**2 / side**2
