"""What TensorBoard shows of one run: event files from home and from where it lives, or its metrics as scalars."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from launcher.agent import records
from launcher.target import Folder
from launcher.tensorboard import scalars
from launcher.tensorboard.mirror import Look, Mirror
from launcher.vault.disk import HIDDEN
from launcher.vault.metrics import join, raw_files

SCALARS = "events.out.tfevents.metrics"


class Shown:
    """A folder of the log directory, named after the run. Its threads may call at once."""

    def __init__(self, run_id: str, home: Path, scratch: Path) -> None:
        self.folder = scratch / "shown" / run_id
        self._raw = scratch / "raw" / run_id
        self._home = home
        self._mirrors: dict[int, Mirror] = {}
        self._lock = threading.Lock()
        self._lines: list[bytes] = []  # that are in the event file
        self._sources: object = None
        self._number = 0
        self._last_step = -1
        for folder in (self.folder, self._raw):
            folder.mkdir(parents=True, mode=0o700)

    @property
    def empty(self) -> bool:
        return not any(files for _, _, files in os.walk(self.folder))

    def look(self, segment: int, source: Folder) -> Look:
        """One look at a segment where it lives."""
        with self._lock:
            mirror = self._mirrors.setdefault(segment, Mirror(self.folder, self._raw / f"{segment}.jsonl"))
        look = mirror.look(source)
        if look.changed:
            self.refresh()
        return look

    def link_home(self) -> None:
        """The event files that are home, each as a link."""
        for where, folders, files in os.walk(self._home):
            folders[:] = [name for name in folders if name != HIDDEN]
            below = self.folder / os.path.relpath(where, self._home)
            for name in files:
                if "tfevents" in name and not os.path.lexists(below / name):
                    below.mkdir(parents=True, exist_ok=True, mode=0o700)
                    os.symlink(os.path.join(where, name), below / name)
        self.refresh()

    def refresh(self) -> None:
        """Metrics as scalars, for a run that writes no event files itself."""
        with self._lock:
            if self._has_event_files():
                self._file.unlink(missing_ok=True)
                self._lines, self._sources = [], None
                return
            paths = self._metrics()
            sources = [(path, _fact(path)) for path in paths]
            if sources != self._sources:
                self._sources = sources
                self._write(join(_lines(path) for path in paths), _fact(paths[0])[1])

    def _metrics(self) -> list[Path]:
        """metrics.jsonl of home; where a segment is followed, those of all segments in their order."""
        live = {number: found for number, one in self._mirrors.items() if (found := one.metrics_now())}
        files = {**raw_files(self._home), **live}
        return [files[number] for number in sorted(files)] if live else [self._home / records.METRICS]

    def _write(self, lines: list[bytes], home_time: float) -> None:
        """Goes on in the event file, or begins another where lines were replaced."""
        now = time.time() if self._mirrors else home_time
        if lines[: len(self._lines)] != self._lines:
            self._file.unlink(missing_ok=True)
            self._number, self._lines = self._number + 1, []
        begins = not self._file.exists()
        if not self._lines:
            self._last_step = -1
        data, self._last_step = scalars.events(lines[len(self._lines) :], self._last_step, now)
        self._lines = lines
        if data:
            with open(self._file, "ab") as file:
                file.write(scalars.file_header(now) + data if begins else data)

    @property
    def _file(self) -> Path:
        return self.folder / f"{SCALARS}.{self._number}"

    def _has_event_files(self) -> bool:
        return any(not name.startswith(SCALARS) for _, _, files in os.walk(self.folder) for name in files)


def _fact(path: Path) -> tuple[int, float]:
    """Size and time of a file; zeros for none."""
    try:
        info = path.stat()
    except OSError:
        return 0, 0.0
    return info.st_size, info.st_mtime


def _lines(path: Path) -> list[bytes]:
    """Its complete lines."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return [line + b"\n" for line in data.split(b"\n")[:-1]]
