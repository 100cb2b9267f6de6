"""An environment that comes as finished files: unpacked side by side, proven, and given this place's name."""

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from launcher.agent.notebook_payload import NotebookError
from launcher.agent.notebook_tree import discard

CHUNK = 1 << 20


def thaw(wheels, listing, root):
    """Put what is in the folder `wheels` below `root`; `listing` is wheelhouse.json."""
    frozen, files = listing["frozen"], listing["files"]
    temporary = os.path.join(root, "thaw.tmp")
    discard(temporary)
    os.makedirs(temporary, 0o755)
    try:
        with ThreadPoolExecutor(len(frozen["parts"])) as pool:
            for done in [
                pool.submit(_unpack, wheels, name, files[name][1], temporary) for name in frozen["parts"]
            ]:
                done.result()
        _rename(temporary, frozen, root)
        for top in ("python", "envs"):
            os.makedirs(os.path.join(root, top), 0o755, exist_ok=True)
            for name in os.listdir(os.path.join(temporary, top)):
                place = os.path.join(root, top, name)
                if not os.path.isdir(place) or top == "envs":
                    shutil.rmtree(place, ignore_errors=True)
                    os.replace(os.path.join(temporary, top, name), place)
    finally:
        discard(temporary)


def _unpack(wheels, name, sha256, folder):
    digest = hashlib.sha256()
    command = ["tar", "-x", "--no-same-owner", "-f", "-", "-C", folder]
    with open(os.path.join(wheels, os.path.basename(name)), "rb", buffering=0) as source:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            for data in iter(lambda: source.read(CHUNK), b""):
                digest.update(data)
                process.stdin.write(data)
        except BrokenPipeError:
            pass  # tar says why
        said = process.communicate()[1].decode("utf-8", "replace").strip()
    if process.returncode != 0:
        raise NotebookError("%s cannot be unpacked: %s" % (name, said[-300:]))
    if digest.hexdigest() != sha256:
        raise NotebookError("%s was changed; delete the dataset, and it is made anew" % name)


def _rename(folder, frozen, root):
    """Where the place in which it was made is named, write this one."""
    old, new = frozen["root"], root
    for name in frozen["texts"]:
        path = _inside(folder, name)
        with open(path, "rb") as file:
            data = file.read()
        with open(path, "wb") as file:
            file.write(data.replace(old.encode("utf-8"), new.encode("utf-8")))
    for name in frozen["links"]:
        path = _inside(folder, name)
        target = os.readlink(path).replace(old, new)
        os.unlink(path)
        os.symlink(target, path)


def _inside(folder, name):
    if os.path.isabs(name) or ".." in name.split("/"):
        raise NotebookError("wheelhouse.json names %r" % name)
    return os.path.join(folder, name)
