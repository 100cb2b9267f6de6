"""A segment's folder at Kaggle: the log from the session's live output, everything from its outputs at the end."""

from __future__ import annotations

import fnmatch
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.agent import records
from launcher.errors import Refused, RemoteError
from launcher.target import Range
from launcher.targets.kaggle import ahead, live
from launcher.targets.kaggle.api import KaggleAPI, KernelStatus, OutputFile
from launcher.targets.kaggle.said import METRICS, Said
from launcher.targets.kaggle.status import over

LOOK_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between looks while the outputs are being saved
PUBLISHED_S = 20.0  # outputs may be listed a little after the end
STREAMED = (records.LOG, METRICS)


@dataclass(frozen=True)
class Place:
    """Where a segment lies: version `version` of the notebook `slug`, its folder in the outputs."""

    slug: str
    version: int | None
    folder: str
    first_seq: int = 1


class KaggleFolder:
    """`launcher.target.Folder` for one session. What the outputs say counts; the stream only comes earlier."""

    def __init__(self, api: KaggleAPI, place: Place) -> None:
        self._api, self.place = api, place
        self.said = Said(place.first_seq)
        self._status: KernelStatus | None = None
        self._outputs: dict[str, OutputFile] | None = None

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        if self.over():
            self.outputs()  # once, before several ask for it
            yield from ahead.in_order([functools.partial(self._stored, one) for one in wanted])
        elif any(one.path in STREAMED for one in wanted):
            yield from self._said_by_now(wanted)

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        found = []
        for name, file in self.outputs().items() if self.over() else ():
            inside = name.removeprefix(f"{path}/")
            if inside == name or not any(
                fnmatch.fnmatchcase(inside.rpartition("/")[2], one) for one in patterns
            ):
                continue
            size = file.size_bytes
            found.append((inside, sum(map(len, self._stored(Range(name)))) if size is None else size, 0.0))
        return found

    def follow(self, offsets: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        sent = dict(offsets)
        if not (self.over() and records.LOG in self.outputs()):
            yield from self._live(sent)
            yield from self._until_over()
        for path, offset in sent.items():
            for data in self._stored(Range(path, offset)):
                yield path, data

    def put(self, path: str, data: bytes) -> None:
        raise Refused("nothing can be written into a Kaggle session while it runs", "launcher cancel RUN")

    def status(self) -> KernelStatus | None:
        """Kaggle's word about the session; asked again until it is the last one."""
        if self._status is None or not over(self._status.state):
            self._status = self._api.kernel_status(self.place.slug, self.place.version)
        return self._status

    def over(self) -> bool:
        """Whether there will be no more than what the outputs hold. A notebook that is gone holds nothing."""
        status = self.status()
        return status is None or over(status.state)

    def outputs(self, anew: bool = False) -> dict[str, OutputFile]:
        """The files of the segment's folder, by their path in it."""
        if self._outputs is None or anew:
            if self.status() is None:
                return {}
            start = f"{self.place.folder}/"
            listed = self._api.outputs(self.place.slug, self.place.version)
            self._outputs = {
                one.name[len(start) :]: one for one in listed if one.name.startswith(start) and one.url
            }
        return self._outputs

    def _live(self, sent: dict[str, int]) -> Iterator[tuple[str, bytes]]:
        """What the session prints, beyond what was sent before; `sent` is kept."""
        position = dict.fromkeys(STREAMED, 0)
        self.said = Said(self.place.first_seq)
        for event in live.events(self._api, self.place.slug, self.place.version):
            if event is None:
                yield "", b""
                continue
            for path, data in self.said.take(event.stream, event.text):
                if path in position and path in sent:
                    new = data[max(0, sent[path] - position[path]) :]
                    position[path] += len(data)
                    sent[path] += len(new)
                    data = new
                elif path != records.SAID or position[records.LOG] < sent.get(records.LOG, 0):
                    continue  # what was said before the lines that are home was shown then
                if data:
                    yield path, data

    def _until_over(self) -> Iterator[tuple[str, bytes]]:
        """The log has ended; outputs are saved after it."""
        looks = 0
        while not self.over():
            yield "", b""
            time.sleep(LOOK_S[min(looks, len(LOOK_S) - 1)])
            looks += 1
        patient = time.monotonic() + PUBLISHED_S
        while self.said.ran and records.LOG not in self.outputs(anew=True) and time.monotonic() < patient:
            status = self.status()
            if status is None or status.failure:  # it says why there are none
                return
            yield "", b""
            time.sleep(1.0)

    def _stored(self, one: Range) -> Iterator[bytes]:
        """A range of an output; the URL is asked for anew when its time is over."""
        offset, left, tries = one.offset, one.length, 0
        while left != 0 and (file := self.outputs().get(one.path)) is not None:
            try:
                for data in self._api.read(file.url, offset, left):
                    offset += len(data)
                    left = None if left is None else left - len(data)
                    yield data
                return
            except RemoteError as error:
                tries += 1
                if error.code != "expired" or tries > 3:
                    raise
                self.outputs(anew=True)

    def _said_by_now(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        whole = {path: bytearray() for path in STREAMED}
        said = Said(self.place.first_seq)
        for event in live.by_now(self._api, self.place.slug, self.place.version):
            for path, data in said.take(event.stream, event.text):
                if path in whole:
                    whole[path] += data
        for index, one in enumerate(wanted):
            end = None if one.length is None else one.offset + one.length
            if data := bytes(whole.get(one.path, bytearray())[one.offset : end]):
                yield index, data
