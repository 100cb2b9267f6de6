"""A segment as a container: the body of the Engine API's create call, as a value (pure).

The job runs as the machine's own user, without one capability, in an image that knows nothing of that user:
so a passwd and a group file are made for it (`account_files`) and mounted. Its log never depends on the
engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEGMENT_PATH = "/launcher/segment"
AGENT_PATH = "/launcher/agent.pyz"
DATA_PATH = "/launcher/data"
SECRETS_PATH = "/run/launcher-secrets"
HOME_PATH = f"{SEGMENT_PATH}/home"
PASSWD, GROUP = "container.passwd", "container.group"

MAX_PROCESSES = 32768  # a bound on fork bombs; data loaders need hundreds
STOP_MARGIN_S = 15
NOBODY = 65534


@dataclass(frozen=True)
class Place:
    """Where a segment's parts lie on the machine, absolute; `data` maps a name of the spec to its source."""

    segment: str
    agent: str
    data: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int | None = None  # resources.memory; None: all that the machine has
    python: str | None = None  # in the image; None: of the order's `bin`, else the image's python3


def container_name(run_id: str, number: int) -> str:
    """The name of a segment's container: it ends in the run's nonce and the segment's number."""
    return f"{run_id}-{number}"


def labels(run_id: str, number: int) -> dict[str, str]:
    """What marks a container as ours."""
    return {"launcher.run": run_id, "launcher.segment": str(number), "launcher.nonce": run_id[-8:]}


def container_config(
    image: str, order: Mapping[str, Any], place: Place, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of POST /containers/create. `facts` is what the machine's steward said: hello and probe."""
    python = place.python or (f"{order['bin']}/python" if order.get("bin") else "python3")
    return {
        "Image": image,
        "Entrypoint": [python, "-I", "-B", AGENT_PATH],
        "Cmd": ["run", SEGMENT_PATH],
        "Env": _environment(order, facts),
        "Labels": labels(order["run"], order["segment"]),
        "User": ":".join(map(str, user_ids(facts))),
        "WorkingDir": SEGMENT_PATH,
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": True,
        "StdinOnce": True,
        "StopTimeout": int(order.get("grace_s") or 0) + STOP_MARGIN_S,
        "HostConfig": _host_config(order, place, facts),
    }


def account_files(facts: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the files `PASSWD` and `GROUP` in the segment's folder."""
    uid, gid = user_ids(facts)
    user = user_name(facts)
    return {PASSWD: passwd_file(uid, gid, user), GROUP: group_file(gid, user)}


def passwd_file(uid: int, gid: int, user: str) -> str:
    """An /etc/passwd that knows root, nobody and the job's user."""
    lines = {0: "root:x:0:0:root:/root:/bin/sh", NOBODY: f"nobody:x:{NOBODY}:{NOBODY}:nobody:/:/bin/false"}
    lines[uid] = f"{user}:x:{uid}:{gid}:{user}:{HOME_PATH}:/bin/sh"
    return "".join(line + "\n" for _, line in sorted(lines.items()))


def group_file(gid: int, user: str) -> str:
    """An /etc/group that knows root, nogroup and the job's group."""
    names = {0: "root", NOBODY: "nogroup"}
    names[gid] = "root" if gid == 0 else user
    return "".join(f"{name}:x:{number}:\n" for number, name in sorted(names.items()))


def user_name(facts: Mapping[str, Any]) -> str:
    """The job's user: the machine's, without what a passwd file cannot hold."""
    name = "".join(c for c in str(facts["user"]) if c.isprintable() and c not in ":/ ")
    return name if name and not name.isdigit() else "user"


def user_ids(facts: Mapping[str, Any]) -> tuple[int, int]:
    """The job's uid and gid in the container; a rootless engine maps its 0 to the user who runs it."""
    if (facts.get("docker") or {}).get("rootless"):
        return 0, 0
    return int(facts["uid"]), int(facts["gid"])


def _environment(order: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    user = user_name(facts)
    settings = [f"HOME={HOME_PATH}", f"USER={user}", f"LOGNAME={user}"]
    # images made for GPUs ask for all of them, and an engine whose default runtime is NVIDIA's would obey
    return settings if order.get("gpus") else [*settings, "NVIDIA_VISIBLE_DEVICES=void"]


def _host_config(order: Mapping[str, Any], place: Place, facts: Mapping[str, Any]) -> dict[str, Any]:
    uid, gid = user_ids(facts)
    granted = place.memory_bytes or int(facts["memory_bytes"])
    config = {
        "Mounts": _mounts(place),
        "Tmpfs": {SECRETS_PATH: f"rw,noexec,nosuid,nodev,size=1m,mode=0700,uid={uid},gid={gid}"},
        "ShmSize": granted // 2,
        "Init": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": MAX_PROCESSES,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
    }
    if place.memory_bytes:
        config |= {"Memory": place.memory_bytes, "MemorySwap": place.memory_bytes}
    if order.get("gpus"):
        # without `compute` the toolkit's default may leave out libcuda
        wanted = {"Count": int(order["gpus"]), "Capabilities": [["gpu", "compute", "utility"]]}
        config["DeviceRequests"] = [wanted]
    return config


def _mounts(place: Place) -> list[dict[str, Any]]:
    read_only = {
        place.agent: AGENT_PATH,
        f"{place.segment}/{PASSWD}": "/etc/passwd",
        f"{place.segment}/{GROUP}": "/etc/group",
    }
    bound = [_bind(place.segment, SEGMENT_PATH, False)]
    bound += [_bind(source, target, True) for source, target in read_only.items()]
    return bound + [_bind(source, f"{DATA_PATH}/{name}", True) for name, source in sorted(place.data.items())]


def _bind(source: str, target: str, read_only: bool) -> dict[str, Any]:
    """A mount, not a "bind": the engine then refuses a missing source and makes no folder."""
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
