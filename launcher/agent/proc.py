"""What /proc knows about processes, and two prctl calls that Python lacks; elsewhere these do nothing."""

import ctypes
import os
import signal
import sys

LINUX = sys.platform.startswith("linux")
SHELLS = frozenset(("sh", "dash", "bash", "ash", "busybox", "zsh", "ksh", "mksh", "fish"))

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
# Loaded here and not on use: a child between fork and exec must not import or open anything.
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def adopt_orphans():
    """Become the parent of every orphan below us: no descendant can slip away by setsid or double fork."""
    if _libc is not None:
        _libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent_pid):
    """SIGKILL for this process as soon as its parent is gone; call between fork and exec."""
    if _libc is not None:
        _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the call
            os._exit(127)


def is_shell(pid):
    """Whether `pid` now runs a shell (`sh -c` gives its process to its last command)."""
    try:
        return os.path.basename(os.readlink("/proc/%d/exe" % pid)) in SHELLS
    except OSError:
        return False


def children(pid):
    """Pids of the direct children of `pid`."""
    return [child for child, stat in _stats() if stat[1] == pid]


def descendants(pid):
    """Pids of all processes below `pid`, nearest first."""
    below = {}
    for child, stat in _stats():
        below.setdefault(stat[1], []).append(child)
    found = []
    layer = [pid]
    while layer:
        layer = [child for parent in layer for child in below.get(parent, ())]
        found += layer
    return found


def usage(pids):
    """(CPU seconds used so far, resident bytes) of these processes together."""
    wanted = set(pids)
    seconds = resident = 0
    for pid, stat in _stats():
        if pid in wanted:
            seconds += stat[11] + stat[12]
            resident += stat[21]
    return seconds / float(_TICKS), resident * _PAGE


def written_by_someone(path):
    """Whether a process that we can see has this file open for writing; True where that cannot be known."""
    wanted = os.stat(path, follow_symlinks=False)
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    for pid in pids:
        try:
            for number in os.listdir("/proc/%s/fd" % pid):
                if _writes("/proc/%s" % pid, number, wanted):
                    return True
        except OSError:
            continue  # ended meanwhile, or another user's, who cannot write here
    return not pids


def _writes(process, number, wanted):
    try:
        found = os.stat("%s/fd/%s" % (process, number))
        if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
            return False
        with open("%s/fdinfo/%s" % (process, number)) as file:
            flags = next(line.split()[1] for line in file if line.startswith("flags:"))
    except OSError:
        return False  # closed meanwhile
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def oom_kills():
    """(processes killed for memory in our control group so far, on the whole machine); 0 where unknown."""
    group = 0
    for path in _memory_records():
        found = counter(path, "oom_kill")
        if found is not None:
            group = found
            break
    return group, counter("/proc/vmstat", "oom_kill") or 0


def _memory_records():
    """Where the count may lie: control groups of version 2, then 1; each seen from outside, then inside."""
    groups = {}
    try:
        with open("/proc/self/cgroup") as file:
            for line in file:
                _, kinds, path = line.rstrip("\n").split(":", 2)
                groups.update((kind, path) for kind in kinds.split(","))
    except OSError:
        return
    for kind, root, name in (
        ("", "/sys/fs/cgroup", "memory.events"),
        ("memory", "/sys/fs/cgroup/memory", "memory.oom_control"),
    ):
        for path in (groups.get(kind, "/"), "/"):
            yield os.path.join(root + path, name)


def counter(path, name):
    try:
        with open(path) as file:
            values = dict(line.split()[:2] for line in file if len(line.split()) > 1)
    except OSError:
        return None
    return int(values[name]) if name in values else None


def _stats():
    """(pid, [None, ppid, …]) of every process: the numbers of /proc/PID/stat from its third field on."""
    if _libc is None:
        return
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                text = file.read()
        except OSError:
            continue  # ended meanwhile
        fields = text[text.rindex(b")") + 2 :].split()
        yield int(name), [None] + [int(field) for field in fields[1:]]
