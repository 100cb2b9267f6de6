"""Publish what the job finished: hash it, then append its line to manifest.jsonl; nothing else exists.

A checkpoint counts as complete when its name was renamed into place. Where that was not seen (it was copied
there, or lay there before the folder was watched), it must have held still for a while, and what was written
later waits for it: the numbers tell which one is the newest. At the end, all have.
"""

import contextlib
import errno
import hashlib
import os
import select
import threading
import time

from launcher.agent import hashing, inotify, proc, records

TEMPORARY = b".tmp"
QUIET_S = 2.0
SCAN_S = 0.5  # without inotify
LOOK_S = 5.0  # with it: in case it missed something
_IN_OUT = inotify.MOVED_TO | inotify.CREATE
_IN_CHECKPOINTS = _IN_OUT | inotify.CLOSE_WRITE


class Unwritable(Exception):
    """A line could not be made durable in the manifest; its cause is an OSError."""


class Manifest:
    """manifest.jsonl: a numbered line for each thing that is published or skipped."""

    def __init__(self, path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
        records.sync_folder(os.path.dirname(path))
        self._digest = hashlib.sha256()
        self._size = self._lines = 0

    def add(self, kind, name, **facts):
        """`facts` are folder, size, digest, files, why."""
        value = {
            "v": records.VERSION,
            "n": self._lines + 1,
            "kind": kind,
            "name": name,
            "time": records.utc(),
        }
        value.update({"folder": False, "size": 0, "digest": "", "files": [], "why": ""}, **facts)
        data = records.line(value)
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if kind == "checkpoint":
                self.sync()
        except OSError as error:
            self._file.truncate(self._size)
            raise Unwritable(records.MANIFEST) from error
        self._digest.update(data)
        self._size += len(data)
        self._lines += 1

    def sync(self):
        os.fsync(self._file.fileno())

    def digest(self):
        return {"size": self._size, "sha256": self._digest.hexdigest()}


class Publisher:
    """Watches out/checkpoints in a thread of its own; `say` takes launcher lines, from that thread."""

    def __init__(self, out, manifest, say, watch=None):
        self.out = out
        self.folder = os.path.join(out, records.CHECKPOINTS)
        self.published = 0
        self.published_at = None  # monotonic
        self.error = None  # what kept something from being published
        self._manifest = manifest
        self._say = say
        self._done = {}  # name -> signature of its newest publication
        self._seen = {}  # name -> (signature, since when it is so)
        self._renamed = set()  # names that were renamed into place since their last publication
        self._skipped = set()
        self._watch = watch  # inotify's, or None
        self._watches = {}
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self):
        self._thread.start()

    def finish(self):
        """The job is gone: publish the last checkpoints, then all other outputs."""
        os.close(self._stop_writer)
        if self._thread.ident is not None:  # else there was no job
            self._thread.join()
            self._guarded(self._last)

    def _run(self):
        self._guarded(self._watch_on)

    def _guarded(self, work):
        try:
            work()
        except Unwritable as error:
            self.error = self.error or error.__cause__
        except Exception as error:  # a thread's end must never go unseen
            self.error = self.error or error

    def _last(self):
        self._scan(final=True)
        self._outputs()
        self._manifest.sync()

    def _watch_on(self):
        self._listen()
        waiting = self._scan(final=False)
        while not self._wait(SCAN_S if waiting or self._watch is None else LOOK_S):
            waiting = self._scan(final=False)

    def _wait(self, timeout_s):
        """Whether to stop; returns as soon as there may be something new."""
        watched = [] if self._watch is None else [self._watch.fd]
        until = time.monotonic() + timeout_s
        while True:
            left = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._stop_reader, *watched], [], [], left)
            if self._stop_reader in ready:
                return True
            if not ready or self._hear():
                return False

    def _hear(self):
        """Whether what happened concerns a checkpoint."""
        news = False
        for number, mask, name in self._watch.read():
            folder = self._watches.get(number)
            if mask & inotify.IGNORED:
                self._watches.pop(number, None)
            elif folder == self.out and name == os.fsencode(records.CHECKPOINTS):
                self._listen()
                news = True
            elif folder == self.folder and not name.endswith(TEMPORARY):
                news = True
                if mask & inotify.MOVED_TO:
                    self._renamed.add(name)
            news = news or bool(mask & inotify.OVERFLOW)
        return news

    def _listen(self):
        """Watch out/ for the folder of checkpoints, and that folder as soon as there is one."""
        if self._watch is not None:
            for folder, mask in ((self.out, _IN_OUT), (self.folder, _IN_CHECKPOINTS)):
                number = self._watch.add(folder, mask)
                if number is not None:
                    known = number in self._watches
                    self._watches[number] = folder
                    if folder == self.folder and not known:
                        self._note_the_first()

    def _note_the_first(self):
        """A job makes the folder and renames its first checkpoint into it before we can watch."""
        for name in self._names():
            path = os.path.join(self.folder, os.fsdecode(name))
            with contextlib.suppress(OSError):
                if hashing.look(path)[0] == "file" and not proc.written_by_someone(path):
                    self._renamed.add(name)

    def _scan(self, final):
        """Publish what is complete; whether something waits until it has held still."""
        waiting = False
        for name in self._names():
            try:
                kind, signature = hashing.look(os.path.join(self.folder, os.fsdecode(name)))
                if hashing.same_or_less(self._done.get(name), signature):
                    continue  # a folder that only lost files is being deleted: no new version
                if kind not in ("file", "folder"):
                    self._skip("checkpoints/" + _shown(name), kind)
                elif final or (self._complete(name, signature) and not waiting):
                    self._publish(name, kind, signature)
                else:
                    waiting = True
            except (hashing.Changed, FileNotFoundError, NotADirectoryError):
                self._renamed.discard(name)  # written on after its rename: it must hold still first
                waiting = True
            except OSError as error:
                self._skip("checkpoints/" + _shown(name), "cannot be read: %s" % error.strerror)
        return waiting

    def _names(self):
        """Complete names in the folder of checkpoints, in bytes, in the order of their last writing."""
        try:
            if hashing.kind_of(os.lstat(self.folder).st_mode) != "folder":
                self._skip(records.CHECKPOINTS, "not a folder")
                return []
            found = []
            with os.scandir(os.fsencode(self.folder)) as entries:
                for entry in entries:
                    if not entry.name.endswith(TEMPORARY):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
        except FileNotFoundError:
            return []
        for _, name in found:
            if not _is_text(name):
                self._skip("checkpoints/" + _shown(name), "its name is not UTF-8")
        return [name for _, name in sorted(found) if _is_text(name)]

    def _complete(self, name, signature):
        if name in self._renamed or self._watch is None:
            return True
        now = time.monotonic()
        if self._seen.get(name, (None, 0))[0] != signature:
            self._seen[name] = (signature, now)
        return now - self._seen[name][1] >= QUIET_S

    def _publish(self, name, kind, signature):
        text = name.decode("utf-8")
        inside = [""] if kind == "file" else self._inside(text)
        files = []
        for inner in inside:
            path = os.path.join(self.folder, text, inner) if inner else os.path.join(self.folder, text)
            size, sha256 = hashing.hash_file(path)
            files.append((inner, size, sha256))
        if hashing.look(os.path.join(self.folder, text)) != (kind, signature):
            raise hashing.Changed(text)
        self._manifest.add(
            "checkpoint",
            text,
            folder=kind == "folder",
            size=sum(size for _, size, _ in files),
            digest=records.tree_digest(files) if kind == "folder" else files[0][2],
            files=[
                _file("/".join(filter(None, ("checkpoints", text, inner))), size, sha)
                for inner, size, sha in files
            ],
        )
        self._done[name] = signature
        self._renamed.discard(name)
        self._seen.pop(name, None)
        self.published += 1
        self.published_at = time.monotonic()

    def _inside(self, name):
        """The regular files of a folder; the rest is skipped and said."""
        regular = []
        for inner, kind in hashing.walk(os.path.join(self.folder, name)):
            shown = "checkpoints/%s/%s" % (name, _shown(os.fsencode(inner)))
            if kind != "file":
                self._skip(shown, kind)
            elif not _is_text(os.fsencode(inner)):
                self._skip(shown, "its name is not UTF-8")
            else:
                regular.append(inner)
        return regular

    def _outputs(self):
        """Everything else below out/, each file by itself."""
        for inner, kind in hashing.walk(self.out):
            if inner.split(os.sep, 1)[0] == records.CHECKPOINTS:
                continue
            shown = _shown(os.fsencode(inner))
            if kind != "file" or not _is_text(os.fsencode(inner)):
                self._skip(shown, kind if kind != "file" else "its name is not UTF-8")
                continue
            try:
                size, sha256 = hashing.hash_file(os.path.join(self.out, inner))
            except (hashing.Changed, OSError) as error:
                self._skip(shown, "cannot be read: %s" % (getattr(error, "strerror", None) or "it changes"))
            else:
                self._manifest.add(
                    "output", inner, size=size, digest=sha256, files=[_file(inner, size, sha256)]
                )

    def _skip(self, name, why):
        if name not in self._skipped:
            self._skipped.add(name)
            self._manifest.add("skipped", name, why=why)
            self._say("skipped %s: %s (only regular files and folders travel)" % (name, why))


def _file(path, size, sha256):
    return {"path": path, "size": size, "sha256": sha256}


def _is_text(name):
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _shown(name):
    return name.decode("utf-8", "backslashreplace")
