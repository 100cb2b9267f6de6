"""Pictures that are nearly the same, and groups of them.

Near are two whose perceptual hashes (imagehash's phash, 64 bits of light and dark) differ in 4 bits at most, or
whose thumbnails have the same pattern (correlation 0.98), and whose thumbnails differ little in colour: the hash
alone is noise where a picture is smooth or a simple figure, the pattern where it is all noise. Both survive another
size, another format, a little compression. So a group is a reason to keep pictures in one part of a split and to
look at them, never a reason to delete one.
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
APART = 32.0  # mean difference of their pixels, of 255, from which on they are no longer near
SMALL = 12  # pixels of a thumbnail's side
ROWS = 256  # pictures compared with all others at once: 256 x 100,000 take 200 MB
PAIRS = 20_000  # compared at once, pixel by pixel: 35 MB


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
    every = np.frombuffer(b"".join(thumbnail for _, thumbnail in traits), np.uint8)
    thumbnails = every.reshape(len(traits), SMALL * SMALL, 3).astype(np.float32)
    yield from _of_like_colour(_near_hashes([code for code, _ in traits]), thumbnails)
    yield from _of_like_colour(_of_like_pattern(thumbnails), thumbnails)


def near_hashes(hashes: Sequence[int], distance: int = DISTANCE) -> Iterator[tuple[int, int]]:
    for pairs in _near_hashes(hashes, distance):
        yield from map(tuple, pairs.tolist())


def _near_hashes(hashes: Sequence[int], distance: int = DISTANCE) -> Iterator[np.ndarray]:
    codes = np.array(hashes, dtype=np.uint64)
    for start in range(0, len(codes), ROWS):
        apart = np.bitwise_count(codes[start : start + ROWS, None] ^ codes[None, start:])
        yield _above_the_diagonal(apart <= distance, start)


def _of_like_pattern(thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    pixels = (thumbnails - thumbnails.mean(1, keepdims=True)).reshape(len(thumbnails), SMALL * SMALL * 3)
    length = np.linalg.norm(pixels, axis=1, keepdims=True)
    pixels /= np.where(length < SMALL, np.inf, length)  # one flat colour has no pattern
    for start in range(0, len(pixels), ROWS):
        yield _above_the_diagonal(pixels[start : start + ROWS] @ pixels[start:].T > ALIKE, start)


def _of_like_colour(found: Iterator[np.ndarray], thumbnails: np.ndarray) -> Iterator[tuple[int, int]]:
    for pairs in found:
        for start in range(0, len(pairs), PAIRS):
            some = pairs[start : start + PAIRS]
            apart = np.abs(thumbnails[some[:, 0]] - thumbnails[some[:, 1]]).mean((1, 2))
            yield from map(tuple, some[apart < APART].tolist())


def _above_the_diagonal(near: np.ndarray, start: int) -> np.ndarray:
    """(K, 2): the places that are true, i < j."""
    pairs = np.argwhere(np.triu(near, 1))
    return pairs + start


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
