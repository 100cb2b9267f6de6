"""Which file of an index is the wheel of a locked package for Linux on x86_64, as an installer there chooses it."""

from __future__ import annotations

import html.parser
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote, urldefrag, urljoin

from packaging import tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from launcher import tools
from launcher.errors import Refused
from launcher.lock import Lock, Pin

TORCH = "https://download.pytorch.org/whl/"
SIMPLE = f"{tools.SIMPLE_JSON}, text/html;q=0.5"
GLIBC = 35  # 2.35: Ubuntu 22.04, which both platforms run
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Wheel:
    """A file to fetch; `filename` is the wheel's own name ("": none), `stored` what it is called in a flat folder."""

    filename: str
    stored: str
    url: str
    sha256: str


def indexes(lock: Lock, torch: str) -> tuple[str, ...]:
    """Where the lock's packages may be, in the order in which they are asked."""
    first, more = tools.INDEX, []
    for line in lock.options:
        option, _, value = line.replace("=", " ", 1).partition(" ")
        if option in ("--index-url", "-i"):
            first = value.strip()
        elif option == "--extra-index-url":
            more.append(value.strip())
    backend = [TORCH + torch] if torch != "auto" else []
    return (*backend, *more, first)


def choose(pin: Pin, python: str, places: Sequence[str]) -> Wheel:
    """The best wheel of a pin whose hash is locked; Refused when there is none."""
    files = _of_url(pin) if pin.url else (file for place in places for file in _listed(place, pin.name))
    ranked = sorted(
        ((rank, url) for url in files if (rank := _rank(pin, url, python)) is not None),
        key=lambda one: one[0],
    )
    if not ranked:
        raise Refused(
            f"{pin.name} {pin.version} has no wheel for Python {python} on linux x86_64",
            "with internet on, the notebook builds it from source",
        )
    address, fragment = urldefrag(ranked[0][1])
    filename = unquote(address.rsplit("/", 1)[-1])
    stored = filename.replace("+", "_").replace("!", "_") + ".bin"
    return Wheel(filename, stored, address, fragment.removeprefix("sha256="))


def _of_url(pin: Pin) -> Iterator[str]:
    for known in pin.hashes:
        if known.startswith("sha256:"):
            yield f"{urldefrag(pin.url)[0]}#sha256={known.removeprefix('sha256:')}"


def _rank(pin: Pin, url: str, python: str) -> int | None:
    """How far down an installer's list of tags it is; None for what does not fit or is not locked."""
    address, fragment = urldefrag(url)
    filename = unquote(address.rsplit("/", 1)[-1])
    if f"sha256:{fragment.removeprefix('sha256=')}" not in pin.hashes:
        return None
    try:
        _, _, _, found = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    ranks = [rank for tag in found if (rank := _tags(python).get(tag)) is not None]
    return min(ranks) if ranks else None


@cache
def _tags(python: str) -> dict[tags.Tag, int]:
    version = tuple(int(part) for part in python.split(".")[:2])
    platforms = []
    for minor in range(GLIBC, 4, -1):
        platforms.append(f"manylinux_2_{minor}_x86_64")
        if minor in OLD_NAMES:
            platforms.append(f"{OLD_NAMES[minor]}_x86_64")
    platforms.append("linux_x86_64")
    interpreter = "cp" + "".join(map(str, version))
    every = [
        *tags.cpython_tags(version, platforms=platforms),
        *tags.compatible_tags(version, interpreter, platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(every)))}


def _listed(index: str, name: str) -> list[str]:
    """The addresses of a project's files, each with its hash behind #; none where the index does not know it."""
    page = f"{index.rstrip('/')}/{name}/"
    data = tools.page(page, SIMPLE)
    if data is None:
        return []
    if data.lstrip().startswith(b"{"):
        files = json.loads(data)["files"]
        return [
            f"{urljoin(page, file['url'])}#sha256={file['hashes']['sha256']}"
            for file in files
            if "sha256" in file.get("hashes", {})
        ]
    links = _Links()
    links.feed(data.decode("utf-8", "replace"))
    return [urljoin(page, link) for link in links.found]


class _Links(html.parser.HTMLParser):
    """The addresses in an index's page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]
