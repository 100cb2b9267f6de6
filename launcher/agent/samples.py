"""The heartbeat: what the job uses, into state.json; in threads, so that nothing stuck delays the log."""

import os
import shutil
import subprocess
import threading
import time

from launcher.agent import proc, records

BUSY_PERCENT = 5
_SMI_TIMEOUT_S = 10.0
_GPU_FIELDS = ("index", "name", "utilization.gpu", "memory.used", "memory.total")


def parse_gpus(text):
    """The lines of `nvidia-smi --query-gpu` for _GPU_FIELDS; what the driver does not know is None."""
    gpus = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(_GPU_FIELDS) and fields[0].isdigit():
            util, used, total = (int(field) if field.isdigit() else None for field in fields[2:])
            gpus.append(
                {
                    "index": int(fields[0]),
                    "name": fields[1],
                    "util": util,
                    "mem_used": used,
                    "mem_total": total,
                }
            )
    return gpus


class Heartbeat:
    """Writes state.json; `live` gives what changes by itself: last_seq, log_bytes, checkpoints."""

    def __init__(self, folder, fixed, live):
        self.gpus = []
        self.busy_at = None  # monotonic seconds at which a GPU was last seen at work
        self._path = os.path.join(folder, records.STATE)
        self._folder = folder
        self._state = dict(fixed)
        self._live = live
        self._keeper = None
        self._used = (time.monotonic(), 0.0)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self):
        for work in (self._beat, self._watch_gpus):
            threading.Thread(target=work, daemon=True).start()

    def stop(self):
        self._stop.set()

    def set(self, **changes):
        """A new phase, or whatever else is known now; written at once."""
        with self._lock:
            self._state.update(changes)
        self.write()

    def watch(self, keeper):
        """From now on measure what runs below this process."""
        self._keeper = keeper

    def write(self):
        with self._lock:
            self._state.update(self._live())
            self._state.update(heartbeat_at=records.utc(), gpu=self.gpus)
            temporary = self._path + ".tmp"
            try:
                with open(temporary, "wb", opener=_private) as file:
                    file.write(records.line(self._state))
                os.replace(temporary, self._path)
            except OSError:
                pass  # a full disk: whoever misses the heartbeat sees the log stop for the same reason

    def _beat(self):
        while not self._stop.wait(records.HEARTBEAT_S):
            measured = self._measure()
            with self._lock:
                self._state.update(measured)
            self.write()

    def _measure(self):
        now = time.monotonic()
        seconds, resident = proc.usage(proc.descendants(self._keeper)) if self._keeper else (0.0, 0)
        before, used = self._used
        self._used = (now, seconds)
        percent = max(0.0, 100.0 * (seconds - used) / max(now - before, 0.001))
        return {
            "cpu_pct": round(percent, 1),
            "rss_bytes": resident,
            "disk_free_bytes": free_bytes(self._folder),
        }

    def _watch_gpus(self):
        smi = shutil.which("nvidia-smi")
        process = None
        while smi is not None and not self._stop.is_set():
            if process is None or process.poll() is not None:  # never a second one beside one that hangs
                text, process = _ask(smi)
                self.gpus = parse_gpus(text)
            if any((gpu["util"] or 0) >= BUSY_PERCENT for gpu in self.gpus):
                self.busy_at = time.monotonic()
            self._stop.wait(records.HEARTBEAT_S)


def free_bytes(folder):
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _ask(smi):
    """(its answer, its process): when the driver hangs, it cannot even be killed, so it is not waited for."""
    query = ["--query-gpu=" + ",".join(_GPU_FIELDS), "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen(
            [smi, *query], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return process.communicate(timeout=_SMI_TIMEOUT_S)[0].decode("utf-8", "replace"), process
    except OSError:
        return "", None
    except subprocess.TimeoutExpired:
        process.kill()
        return "", process


def _private(path, flags):
    return os.open(path, flags, 0o600)
