"""A segment's folder on a Colab runtime: read by ranges over HTTP; a visible cell tells when its files grow."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.agent import records
from launcher.errors import RemoteError, TargetError, Unreachable
from launcher.target import Range
from launcher.targets.colab import cells, outcomes
from launcher.targets.colab.files import RuntimeFiles
from launcher.targets.colab.kernel import Cell, Kernel, Output
from launcher.targets.colab.runtime import Reclaimed, RuntimeLine

ROOT = "/content/launcher"  # there
SEGMENTS = f"{ROOT}/runs"
PAYLOADS = f"{ROOT}/payloads"
HEARTBEAT_S = 5.0
LOOK_S = 15.0  # even when the cell says nothing
SHOWN = "shown"  # in a segment's folder there: links to what has a hidden name
VISIT_S = 300.0  # how often Colab is told that somebody is there, as its own extensions do
TRIES = 3  # of a watching cell that fails at once


@dataclass(frozen=True)
class Spot:
    """Where a segment lies on its runtime, and the name of its kernel."""

    run_id: str
    number: int

    @property
    def folder(self) -> str:
        return f"{SEGMENTS}/{self.run_id}/{self.number}"

    @property
    def payload(self) -> str:
        return f"{PAYLOADS}/{self.run_id}/{self.number}"

    @property
    def kernel(self) -> str:
        return f"launcher-{self.run_id}-{self.number}"


class ColabFolder:
    """`launcher.target.Folder` over a runtime. One that Colab took back reads as empty."""

    def __init__(
        self, line: RuntimeLine | None, spot: Spot, visit: Callable[[], object], visit_s: float = VISIT_S
    ) -> None:
        self._line, self._spot = line, spot
        self._visit, self._visit_s = visit, visit_s
        self._files = RuntimeFiles(line) if line else None
        self._kernel: Kernel | None = None
        self._closed = False

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        if self._files is None:
            return
        with contextlib.suppress(Reclaimed):
            shown = self._shown([one.path for one in wanted])
            paths = [shown.get(one.path, one.path) for one in wanted]
            ranges = [
                Range(f"{self._spot.folder}/{path}", one.offset, one.length)
                for path, one in zip(paths, wanted, strict=True)
            ]
            yield from self._files.read(ranges)

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        if self._files is None:
            return []
        try:
            return self._files.find(f"{self._spot.folder}/{path}", patterns)
        except Reclaimed:
            return []

    def follow(self, offsets: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        tails = dict(offsets)
        yield "", b""
        with contextlib.suppress(Reclaimed):
            yield from self._news(tails)
            for output in self._beside_cell(tails):
                yield from output
            yield from self._news(tails)

    def put(self, path: str, data: bytes) -> None:
        """Reclaimed when there is nothing to write to."""
        if self._files is None:
            raise Reclaimed("Colab took the runtime back")
        whole = f"{self._spot.folder}/{path}"
        self._files.make_folder(whole.rpartition("/")[0])
        self._files.put(whole, data)

    def close(self) -> None:
        """A follower in another thread ends with Unreachable."""
        self._closed = True
        if self._kernel is not None:
            self._kernel.close()
        if self._line is not None:
            self._line.close()

    def _shown(self, paths: Sequence[str]) -> dict[str, str]:
        """Second names for what Jupyter hides, as a job's `.hidden/file`: links that a kernel beside the watching
        one makes."""
        hidden = [path for path in paths if any(part.startswith(".") for part in path.split("/"))]
        if not hidden or self._line is None:
            return {}
        names = {path: f"{SHOWN}/{hashlib.sha256(path.encode()).hexdigest()}" for path in hidden}
        with Kernel(self._line, f"{self._spot.kernel}-names") as kernel:
            ending = kernel.execute(cells.naming(self._spot.folder, names))
        if ending.status in ("died", "lost"):
            raise Unreachable("the Colab kernel died while it looked for hidden files")
        if wrong := outcomes.failed("a look for hidden files", ending):
            raise wrong
        return names

    def _beside_cell(self, tails: dict[str, int]) -> Iterator[Iterator[tuple[str, bytes]]]:
        """While the agent lives: what is new, each time the watching cell says so, and heartbeats."""
        if self._line is None:
            return
        looked = beaten = visited = time.monotonic()
        with Kernel(self._line, self._spot.kernel) as kernel:
            self._kernel = kernel
            for output in self._outputs(kernel, list(tails)):
                if self._closed:
                    raise Unreachable("the connection to Colab was closed here")
                now = time.monotonic()
                if output or now - looked > LOOK_S:
                    looked = beaten = now
                    yield self._news(tails, cells.sizes_in(output.text) if output else {})
                elif now - beaten > HEARTBEAT_S:
                    beaten = now
                    yield iter([("", b"")])
                if now - visited > self._visit_s:
                    visited = now
                    with contextlib.suppress(TargetError):  # the files tell what is wrong
                        self._visit()

    def _outputs(self, kernel: Kernel, names: Sequence[str]) -> Iterator[Output | None]:
        """Of the watching cell: the one that runs, else one begun here; again when its kernel has died."""
        code = cells.watching(self._spot.payload, self._spot.folder, names)
        failures = 0
        while failures < TRIES:
            yield from kernel.watch()
            begun = time.monotonic()
            ending = yield from kernel.run(Cell(code, silent=False))
            if ending.status == "ok":
                return
            quick = time.monotonic() - begun < HEARTBEAT_S
            failures = failures + 1 if quick and ending.status == "error" else 0
            yield None
        raise RemoteError(f"the cell that follows the run on Colab fails: {ending.name}: {ending.value}")

    def _news(
        self, tails: dict[str, int], sizes: Mapping[str, int] | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """From where each file was left; `sizes` leaves out those that have not grown."""
        grown = [path for path in tails if not sizes or sizes.get(path, 0) > tails[path]]
        if self._files is None or not grown:
            yield "", b""
            return
        ranges = [Range(f"{self._spot.folder}/{path}", tails[path]) for path in grown]
        for index, data in self._files.read(ranges):
            tails[grown[index]] += len(data)
            yield grown[index], data


def note(grace_s: float) -> bytes:
    """control/stop."""
    data: bytes = records.canonical({"v": records.VERSION, "grace_s": grace_s, "why": "cancel"})
    return data
