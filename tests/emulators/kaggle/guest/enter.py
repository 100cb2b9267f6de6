"""The first process of a session: builds its root folder in its own mount namespace, and goes in.

`enter.py PLAN FD`: the plan is JSON {root, binds, network, argv, environment, cwd}; events go to FD.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys

READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
KEPT = 2 | 4 | 8 | 1024 | 2048  # nosuid, nodev, noexec, noatime, nodiratime: only who set them may unset them
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "sys")
libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    if not plan["network"]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    build(plan["root"], plan["binds"])
    os.chroot(plan["root"])
    os.chdir(plan["cwd"])
    events = int(sys.argv[2])
    argv = [*plan["argv"], str(events)]
    child = subprocess.Popen(
        argv, env=plan["environment"], pass_fds=[events], stdin=subprocess.DEVNULL, start_new_session=True
    )
    os.close(events)
    return reap(child.pid)


def build(root: str, binds: list[list[str]]) -> None:
    """The system's folders read-only, fresh /proc, and what the plan names; the rest of the disk is not there."""
    mount(None, "/", PRIVATE | RECURSIVE)
    mount(root, root, BIND)
    for name in SYSTEM:
        show("/" + name, root)
    for name in sorted(os.listdir("/opt")) if os.path.isdir("/opt") else []:
        if not os.path.lexists(f"{root}/opt/{name}"):
            show("/opt/" + name, root)
    for source, target in binds:
        bind(source, root + target)
    for name in ("dev", "proc"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    mount("/dev", root + "/dev", BIND | RECURSIVE)
    mount("proc", root + "/proc", 0, "proc")
    resolve = "/run/systemd/resolve"
    if os.path.isdir(resolve):  # where some systems' resolv.conf points to
        bind(resolve, root + resolve)


def show(path: str, root: str) -> None:
    if os.path.islink(path):
        os.symlink(os.readlink(path), root + path)
    elif os.path.isdir(path):
        bind(path, root + path)


def bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "w").close()
    mount(source, target, BIND | RECURSIVE)
    mount(None, target, BIND | REMOUNT | READ_ONLY | os.statvfs(target).f_flag & KEPT)


def mount(source: "str | None", target: str, flags: int, kind: "str | None" = None) -> None:
    encoded = [None if one is None else one.encode() for one in (source, target, kind)]
    if libc.mount(*encoded, ctypes.c_ulong(flags), None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} on {target}: {os.strerror(code)}")


def reap(main_pid: int) -> int:
    """As an init: take every child's end, until the main one's."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == main_pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
