"""Turns a fresh mount namespace into a Colab machine, then starts its Jupyter server.

`python boot.py CONFIG.json`, as root, behind `unshare --mount --pid`: nothing of it is seen outside, and all of it is
gone with the last process. The host's folders are there read-only; /content, /root, /tmp and /dev/shm are the
machine's own.
"""

import json
import os
import subprocess
import sys

OWN = ("content", "root", "tmp", "run")  # on the machine's disk, writable
MADE_HERE = {*OWN, "dev", "proc", "sys", "env", "opt"}


def main(config_path):
    with open(config_path) as file:
        config = json.load(file)
    root = config["root"]
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", root)
    mirror("/", root, MADE_HERE)
    for name in OWN:
        bind(os.path.join(config["disk"], name), os.path.join(root, name))
    devices(root)
    own_programs(root, config)
    for path in config["keep"]:
        keep(path, root)
    os.chroot(root)
    os.chdir("/content")
    serve(config["argv"], config["environment"])


def serve(argv, environment):
    """This process is the machine's first: it takes in the orphans, and the machine ends with its server."""
    server = os.fork()
    if server == 0:
        os.setsid()
        os.execve(argv[0], argv, environment)
    while os.wait()[0] != server:
        pass


def mirror(source, target, without=()):
    """The source's entries in the target, read-only."""
    for entry in os.scandir(source):
        place = os.path.join(target, entry.name)
        if entry.name in without:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.is_dir():
            bind(entry.path, place, read_only=True)


def devices(root):
    for name in ("dev", "sys"):
        os.mkdir(os.path.join(root, name))
        mount("--rbind", "/" + name, os.path.join(root, name))
    os.mkdir(os.path.join(root, "proc"))
    mount("-t", "proc", "proc", os.path.join(root, "proc"))
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", os.path.join(root, "dev/shm"))


def own_programs(root, config):
    """/opt/bin is first on Colab's PATH; PYTHONPATH names /env/python, with a module that must not leak."""
    os.makedirs(os.path.join(root, "env/python"))
    with open(os.path.join(root, "env/python/leaked_from_colab.py"), "w") as file:
        file.write("# a module that only Colab's own PYTHONPATH knows\n")
    os.mkdir(os.path.join(root, "opt"))
    if os.path.isdir("/opt"):
        mirror("/opt", os.path.join(root, "opt"), {"bin"})
    os.makedirs(os.path.join(root, "opt/bin"))
    for name, text in config["programs"].items():
        path = os.path.join(root, "opt/bin", name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)


def keep(path, root):
    """A host's folder that an own one hides (an interpreter below /root, a checkout below /tmp)."""
    if not os.path.exists(root + path):
        bind(path, root + path, read_only=True)


def bind(source, target, read_only=False):
    os.makedirs(target, exist_ok=True)
    mount("--rbind", source, target)
    if read_only:
        mount("-o", "remount,bind,ro", target)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
