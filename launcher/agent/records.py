"""Every wire format, once: the files of a segment's folder and how their lines look.

order.json      what to run (client -> agent)
log.jsonl       every event of the job's streams, numbered
state.json      the heartbeat, replaced whole
manifest.jsonl  one line a published checkpoint, later one an output; size and SHA-256 of each file
fingerprint.json  what the environment really was
exit.json       written last, durably: the only proof of an end
agent.lock      held (flock) while the agent lives
control/stop    {"v":1,"grace_s":60,"why":"cancel"}: please save and stop
"""

import contextlib
import json
import os
import time
from json.encoder import encode_basestring as _quote  # the C one where there is one

VERSION = 1

ORDER = "order.json"
LOG = "log.jsonl"
STATE = "state.json"
MANIFEST = "manifest.jsonl"
FINGERPRINT = "fingerprint.json"
EXIT = "exit.json"
LOCK = "agent.lock"
STOP = os.path.join("control", "stop")
AGENT_ERRORS = "agent.err"
SAID = "place.log"  # no file: what a notebook says of its own work before the agent runs
WORK, OUT, HOME, RESUME = "work", "out", "home", "resume"
DATA, SOURCES = "data", "sources"  # the job's data, and the manifest of each source: sources/<key>.json
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
BUNDLE = "bundle.tar"

MAX_TEXT_BYTES = 64 * 1024
SILENCE_S = 0.5
HEARTBEAT_S = 5.0

RESUME_ME = 75  # EX_TEMPFAIL: the job saved and wants to be resumed


def utc(seconds=None):
    """ISO 8601 in UTC with milliseconds, of `seconds` since the epoch (default: now)."""
    seconds = time.time() if seconds is None else seconds
    whole = int(seconds // 1)
    return "%s.%03dZ" % (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)),
        int((seconds - whole) * 1000),
    )


def canonical(value):
    """The one JSON text of a value that is hashed: sorted keys, no spaces, UTF-8, ends without a newline."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8")


def line(value):
    """One JSON value as one line of a .jsonl file, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8") + b"\n"


def log_line(seq, when, segment, rank, stream, text, b64=None):
    """One event of log.jsonl; `when` is already ISO 8601. `text` must be valid Unicode (no lone surrogates)."""
    tail = ',"b64":"%s"}\n' % b64 if b64 is not None else "}\n"
    return (
        '{"v":1,"seq":%d,"time":"%s","segment":%d,"rank":%d,"stream":"%s","text":%s%s'
        % (seq, when, segment, rank, stream, _quote(text), tail)
    ).encode("utf-8")


def tree_digest(files):
    """SHA-256 (hex) over the sorted (path, size, sha256) of `files`: the digest of a folder."""
    import hashlib

    digest = hashlib.sha256()
    for path, size, sha256 in sorted(files):
        digest.update(canonical([path, size, sha256]) + b"\n")
    return digest.hexdigest()


def write_durably(path, data, mode=0o600):
    """Replace `path` so that after a power cut it holds the old bytes or the new: fsync, rename, fsync the folder."""
    temporary = "%s.%d.tmp" % (path, os.getpid())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(os.path.dirname(path) or ".")


def sync_folder(path):
    """fsync a folder, so that the names in it survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
