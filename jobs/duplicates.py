"""Pictures that are nearly the same: a perceptual hash each, and groups of those whose hashes hardly differ.

The hash (imagehash's phash) knows light and dark at a coarse scale: it survives another size, another format,
a little noise, and it does not see colour. So a group is a reason to keep pictures in one part of a split
and to look at them, never a reason to delete one.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import imagehash
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pictures import Picture

DISTANCE = 4  # of 64 bits
ROWS = 256  # hashes compared with all others at once: 256 x 100,000 take 200 MB


def phash(image: Image.Image) -> int:
    bits = imagehash.phash(image).hash.flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_duplicates(hashes: Sequence[int], distance: int = DISTANCE) -> list[list[int]]:
    """Groups of two and more positions; who is near to one of a group belongs to it."""
    groups: dict[int, list[int]] = {}
    for position, number in enumerate(_numbers(hashes, distance)):
        groups.setdefault(number, []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(hashes: Sequence[int], distance: int = DISTANCE) -> Iterator[tuple[int, int, int]]:
    """(i, j, bits that differ) with i < j."""
    codes = np.array(hashes, dtype=np.uint64)
    for start in range(0, len(codes), ROWS):
        rows = codes[start : start + ROWS, None]
        apart = np.bitwise_count(rows ^ codes[None, start:])
        for i, j in np.argwhere(apart <= distance).tolist():
            if i < j:
                yield start + i, start + j, int(apart[i, j])


def group_duplicates(pictures: "Sequence[Picture]", distance: int = DISTANCE) -> list[int]:
    """The number of each picture's group, counted from 0; a picture like no other has one of its own."""
    hashes = [p.facts.phash if p.facts else phash(p.open()) for p in pictures]
    seen: dict[int, int] = {}
    return [seen.setdefault(number, len(seen)) for number in _numbers(hashes, distance)]


def _numbers(hashes: Sequence[int], distance: int) -> list[int]:
    """The first position of each one's group."""
    first = list(range(len(hashes)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, j, _ in near_pairs(hashes, distance):
        a, b = sorted((root(i), root(j)))
        first[b] = a
    return [root(i) for i in range(len(hashes))]
