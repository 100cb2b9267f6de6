"""The steward: a small server on stdin and stdout through which a client does everything on this machine.

    {"id":7,"op":"stat","path":"runs"}\n                     request, perhaps with payload
    {"id":7,"n":5}\nhello                                     data, either way
    {"id":7,"end":true,"result":{…}}\n                       or "error":{"code","message"}
    {"id":7,"window":65536}\n  {"id":7,"cancel":true}\n      flow control; stop it

Every request runs in a thread of its own. The steward ends when its stdin does, or nothing came for a minute
(a client beats, {"id":0,"beat":true}, as the steward does); what `launch` started lives on.
"""

import contextlib
import importlib
import os
import select
import sys
import threading
import time

from launcher.agent import frames
from launcher.agent.operation import Cancelled, Failure, Operation

OPERATIONS = {
    "probe": "probe",
    "have": "steward_files",
    "put": "steward_put",
    "partial": "steward_put",
    "link": "steward_files",
    "mkdir": "steward_files",
    "remove": "steward_files",
    "list": "steward_files",
    "stat": "steward_files",
    "read": "steward_files",
    "follow": "follow",
    "look": "segment",
    "signal": "segment",
    "sweep": "segment",
    "launch": "steward_process",
    "run_script": "steward_process",
    "batch": "batch",
    "docker": "dockerapi",
    "launch_container": "dockerapi",
    "image_layers": "shiploads",
    "load_image": "shiploads",
    "data_have": "steward_data",
    "data_lacks": "steward_data",
    "data_put": "steward_data",
    "data_tree": "steward_data",
    "data_use": "steward_data",
    "data_kept": "steward_data",
    "data_evict": "steward_evict",
    "data_fetch": "steward_fetch",
}
GOODBYE_S = 3.0
F_SETPIPE_SZ = 1031


def main(argv):
    """`serve [--root DIR]`: serve until stdin ends."""
    root = argv[argv.index("--root") + 1] if "--root" in argv else ""
    Server(os.path.expanduser(root or "~/.launcher")).serve()


class Server:
    """Reads requests, starts a thread for each, and writes whole frames one at a time."""

    def __init__(self, root, patience_s=frames.PATIENCE_S):
        self.root = os.path.abspath(root)
        self._patience_s = patience_s
        # Nobody else may write between frames: a stray print() of anything goes to stderr.
        self._source = os.dup(0)
        self._sink = os.dup(1)
        _point(0, os.open(os.devnull, os.O_RDONLY))
        _point(1, os.dup(2))
        self._writing = threading.Lock()
        self._underway = {}
        self._threads = []
        self._lingering = []
        os.makedirs(self.root, mode=0o700, exist_ok=True)

    def serve(self):
        _widen(self._sink)
        try:
            self.write(frames.encode({"id": 0, "hello": hello(self.root)}))
            threading.Thread(target=self._beat, daemon=True).start()
            self._dispatch_all()
        except (OSError, EOFError, frames.BadFrame) as error:
            sys.stderr.write("steward: %s\n" % error)
        finally:
            self._leave()

    def write(self, buffers):
        with self._writing:
            _write_all(self._sink, buffers)

    def write_file(self, buffers, part):
        with self._writing:
            _write_all(self._sink, buffers)
            return _copy_file(self._sink, part)

    def linger(self, work):
        thread = threading.Thread(target=work, daemon=True)
        self._lingering.append(thread)
        thread.start()

    def _dispatch_all(self):
        reader = frames.Reader(self._read)
        while True:
            frame = reader.next()
            if frame is None:
                return
            self._dispatch(*frame)

    def _read(self, size, least):
        """That a laptop has left its network the system here would not know for a quarter of an hour."""
        if not select.select([self._source], [], [], self._patience_s)[0]:
            raise EOFError("the client has been silent for %d s" % self._patience_s)
        return os.read(self._source, size)

    def _dispatch(self, header, payload):
        number = header.pop("id")
        if "op" in header:
            return self._begin(number, header, payload)
        operation = self._underway.get(number)
        if operation is None:
            return None  # already ended
        if header.get("cancel"):
            return operation.cancel()
        if "window" in header:
            return operation.granted(int(header["window"]))
        return operation.received(payload, bool(header.get("end")))

    def _begin(self, number, header, payload):
        name = header.pop("op")
        header.pop("n", None)
        operation = Operation(self, number, header)
        operation.received(payload, False)
        self._underway[number] = operation
        thread = threading.Thread(target=self._run, args=(name, operation), daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _run(self, name, operation):
        answer = {"id": operation.id, "end": True}
        try:
            answer["result"] = find(name)(operation) or {}
        except Exception as error:
            answer["error"] = explain(error)
        self._underway.pop(operation.id, None)
        with contextlib.suppress(OSError):  # the client is gone; the reading side ends the server
            self.write(frames.encode(answer))

    def _beat(self):
        find("run_script")  # the first command most often; loaded while the hello travels
        try:
            while True:
                time.sleep(frames.BEAT_S)
                self.write([b'{"id":0,"beat":true}\n'])
        except OSError:
            os._exit(0)

    def _leave(self):
        """Let requests under way put things in order, but wait for nobody long."""
        for operation in list(self._underway.values()):
            operation.cancel()
        end = time.monotonic() + GOODBYE_S
        for thread in self._threads + self._lingering:
            thread.join(max(0.0, end - time.monotonic()))
        os._exit(0)


def find(name):
    """The function of a request; its module is loaded on first use, so that the first answer comes soon."""
    if name not in OPERATIONS:
        raise Failure("bad", "no such request: %.40r" % (name,))
    return getattr(importlib.import_module("launcher.agent." + OPERATIONS[name]), name)


def explain(error):
    """What the client is told of an exception."""
    if isinstance(error, Failure):
        return {"code": error.code, "message": _one_line(error)}
    if isinstance(error, Cancelled):
        return {"code": "cancelled", "message": "cancelled"}
    if isinstance(error, OSError) and error.errno is not None:
        return {"code": _code(error.errno), "message": _one_line(error)}
    if isinstance(error, (KeyError, TypeError, ValueError)):
        return {"code": "bad", "message": _one_line("%s: %s" % (type(error).__name__, error))}
    return {"code": "failed", "message": _one_line("%s: %s" % (type(error).__name__, error))}


def hello(root):
    """What the client wants to know of every machine."""
    import pwd

    uid, machine = os.getuid(), os.uname()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return {
        "v": 1,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "executable": sys.executable,
        "home": os.path.expanduser("~"),
        "root": root,
        "uid": uid,
        "gid": os.getgid(),
        "user": user,
        "arch": machine.machine,
        "system": machine.sysname,
        "cpus": _cpus(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "time": time.time(),
    }


def _cpus():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _code(number):
    import errno

    return {
        errno.ENOENT: "missing",
        errno.ENOTDIR: "missing",
        errno.EEXIST: "exists",
        errno.EACCES: "denied",
        errno.EPERM: "denied",
        errno.EROFS: "denied",
        errno.ENOSPC: "full",
        errno.EDQUOT: "full",
    }.get(number, "failed")


def _one_line(text):
    return " ".join(str(text).split())[:2000]


def _write_all(fd, buffers):
    views = [memoryview(buffer) for buffer in buffers if len(buffer)]
    while views:
        written = os.writev(fd, views[:512])
        while written:
            if written >= len(views[0]):
                written -= len(views.pop(0))
            else:
                views[0] = views[0][written:]
                written = 0


def _copy_file(sink, part):
    """Exactly `size` bytes of a file into the sink; False when zeros had to stand in for missing ones."""
    fd, offset, left = part
    end = offset + left
    while offset < end:
        sent = _copy_some(sink, fd, offset, end - offset)
        if not sent:
            _write_all(sink, [b"\0" * (end - offset)])
            return False
        offset += sent
    return True


def _copy_some(sink, fd, offset, size):
    try:
        return os.sendfile(sink, fd, offset, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
    # Not everywhere can a file be sent to a pipe (macOS: only to a socket).
    data = os.pread(fd, size, offset)
    _write_all(sink, [data])
    return len(data)


def _point(number, fd):
    os.dup2(fd, number)
    os.close(fd)


def _widen(fd):
    """A pipe of 1 MiB instead of 64 KiB: fewer turns between the two processes."""
    try:
        import fcntl

        fcntl.fcntl(fd, F_SETPIPE_SZ, 1 << 20)
    except (ImportError, OSError):
        pass


if __name__ == "__main__":
    main(sys.argv[1:])
