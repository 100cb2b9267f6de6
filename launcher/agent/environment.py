"""The variables a job sees, exactly those of its contract, and the files that its secrets lie in."""

import json
import os
import pwd
import shutil

from launcher.agent import proc, records

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GPU_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "LD_LIBRARY_PATH",  # on Colab and Kaggle the driver's libraries are found only by it
)


class MissingSecret(Exception):
    """A secret that the job names was not sent."""


def search_path(order, here):
    """The job's PATH: its own environment first. `here` are the agent's variables."""
    path = order["env"].get("PATH") or here.get("PATH") or DEFAULT_PATH
    return order["bin"] + os.pathsep + path if order.get("bin") else path


def variables(order, segment, here):
    """All variables of the job but its secrets and its deadline; `segment` is its folder."""
    user = _user(here)
    values = {"HOME": os.path.join(segment, records.HOME), "USER": user, "LOGNAME": user, "LANG": "C.UTF-8"}
    values["PYTHONUNBUFFERED"] = "1"
    values.update((name, here[name]) for name in GPU_VARIABLES if name in here)
    values.update(order["env"])
    values["PATH"] = search_path(order, here)
    ours = {
        "OUT": os.path.join(segment, records.OUT),
        "DATA": order.get("data_dir") or os.path.join(segment, records.DATA),
        "PARAMS": json.dumps(order["params"], ensure_ascii=False),
        "CHECKPOINT_EVERY": number(order["checkpoint_every_s"]),
        "RUN": order["run"],
        "SEGMENT": order["segment"],
        "NODES": order["nodes"],
        "NODE_RANK": order["node_rank"],
        "GPUS": order["gpus"],
        "MASTER_ADDR": order["master_addr"],
        "MASTER_PORT": order["master_port"],
    }
    if order.get("resume"):
        ours["RESUME"] = os.path.join(segment, order["resume"])
    values.update(("LAUNCHER_" + name, str(value)) for name, value in ours.items())
    return values


def number(seconds):
    """Seconds as text, whole where they are whole."""
    return "%d" % seconds if seconds == int(seconds) else repr(float(seconds))


def hand_over(order, secrets):
    """Put the job's secrets into files that only it can read: (variables for them, the folder or None)."""
    names = order["secrets"]
    missing = [name for name in names if name not in secrets or "/" in name]
    if missing:
        raise MissingSecret("no value came for the secret %s" % ", ".join(missing))
    if not names:
        return {}, None
    folder = _secret_folder(order.get("secrets_dir"))
    values = {name: secrets[name] for name in names}
    for name, value in values.items():
        fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(fd, "wb") as file:
            file.write(value.encode("utf-8", "surrogatepass"))
    values["LAUNCHER_SECRETS"] = folder
    return values, folder


def take_back(folder):
    """Remove what hand_over made; a mount point stays, empty."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _secret_folder(given):
    """A private folder in memory, never on a disk where there is a choice."""
    if given is not None:
        os.makedirs(given, 0o700, exist_ok=True)
        return given
    import tempfile  # a job without secrets starts sooner without it

    memory = "/dev/shm" if proc.LINUX and os.access("/dev/shm", os.W_OK) else None
    return tempfile.mkdtemp(prefix="launcher-", dir=memory)


def _user(here):
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return here.get("USER") or "job"
