"""Pictures that are nearly the same, and groups of them.

Near are two whose perceptual hashes (imagehash's phash, 64 bits of light and dark) differ in 4 bits at most, or
whose thumbnails correlate by 0.98: the hash alone is noise where a picture is smooth, the thumbnail where it is
all noise. Both survive another size, another format, a little compression. So a group is a reason to keep
pictures in one part of a split and to look at them, never a reason to delete one.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import imagehash
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pictures import Picture

DISTANCE = 4  # of 64 bits
ALIKE = 0.98  # correlation of thumbnails
SMALL = 12  # pixels of a thumbnail's side
ROWS = 256  # pictures compared with all others at once: 256 x 100,000 take 200 MB


def phash(image: Image.Image) -> int:
    bits = imagehash.phash(image).hash.flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def small(image: Image.Image) -> bytes:
    """A thumbnail of 12 x 12 in colour."""
    return image.resize((SMALL, SMALL), Image.Resampling.BOX).tobytes()


def near_duplicates(hashes: Sequence[int], distance: int = DISTANCE) -> list[list[int]]:
    """By hashes alone, groups of two and more positions; who is near to one of a group belongs to it."""
    return _groups(_joined(len(hashes), near_hashes(hashes, distance)))


def near_groups(pictures: "Sequence[Picture]") -> list[list[int]]:
    """By hashes and thumbnails, groups of two and more positions."""
    return _groups(_joined(len(pictures), near_pairs(pictures)))


def group_duplicates(pictures: "Sequence[Picture]") -> list[int]:
    """The number of each picture's group, counted from 0; a picture like no other has one of its own."""
    seen: dict[int, int] = {}
    return [seen.setdefault(first, len(seen)) for first in _joined(len(pictures), near_pairs(pictures))]


def near_pairs(pictures: "Sequence[Picture]") -> Iterator[tuple[int, int]]:
    """(i, j) with i < j; a pair may come twice."""
    traits = [(p.facts.phash, p.facts.small) if p.facts else _traits(p.open()) for p in pictures]
    yield from near_hashes([code for code, _ in traits])
    yield from _near_thumbnails([thumbnail for _, thumbnail in traits])


def near_hashes(hashes: Sequence[int], distance: int = DISTANCE) -> Iterator[tuple[int, int]]:
    codes = np.array(hashes, dtype=np.uint64)
    for start in range(0, len(codes), ROWS):
        apart = np.bitwise_count(codes[start : start + ROWS, None] ^ codes[None, start:])
        yield from _above_the_diagonal(apart <= distance, start)


def _near_thumbnails(thumbnails: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    every = np.frombuffer(b"".join(thumbnails), np.uint8)
    pixels = every.reshape(len(thumbnails), SMALL * SMALL * 3).astype(np.float32)
    pixels -= pixels.mean(1, keepdims=True)
    length = np.linalg.norm(pixels, axis=1, keepdims=True)
    pixels /= np.where(length < SMALL, np.inf, length)  # one flat colour is like nothing
    for start in range(0, len(pixels), ROWS):
        yield from _above_the_diagonal(pixels[start : start + ROWS] @ pixels[start:].T > ALIKE, start)


def _above_the_diagonal(near: np.ndarray, start: int) -> Iterator[tuple[int, int]]:
    yield from ((start + i, start + j) for i, j in np.argwhere(near).tolist() if i < j)


def _traits(image: Image.Image) -> tuple[int, bytes]:
    return phash(image), small(image)


def _groups(firsts: list[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for position, first in enumerate(firsts):
        groups.setdefault(first, []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def _joined(n: int, pairs: Iterator[tuple[int, int]]) -> list[int]:
    """For each of `n` the first one of its group."""
    first = list(range(n))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, j in pairs:
        a, b = sorted((root(i), root(j)))
        first[b] = a
    return [root(i) for i in range(n)]
