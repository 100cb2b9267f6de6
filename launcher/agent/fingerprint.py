"""What the job's environment really is: a portable part, equal behind every door, and a part only shown."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys

from launcher.agent import records

PROBE_TIMEOUT_S = 60.0
_NOT_COMPARED = (
    "INSTALLER",
    "REQUESTED",
    "RECORD",
    "direct_url.json",
    "uv_cache.json",
)  # differ by installer
_SCRIPTS = "../../../"
_MODULES = ("os", "platform", "sys")
_FACTS = (  # an expression: evaluated here, or by the job's interpreter when that is another one
    "{'implementation': sys.implementation.name, 'python': platform.python_version(),"
    " 'machine': platform.machine(), 'executable': sys.executable,"
    " 'prefix': sys.prefix, 'base_prefix': sys.base_prefix,"
    " 'stdlib': os.path.dirname(os.__file__),"
    " 'site': [p for p in sys.path if os.path.basename(p) in ('site-packages', 'dist-packages')]}"
)


class NoInterpreter(Exception):
    """The job's interpreter does not even start."""


def take(order, path):
    """Of the environment of a job whose PATH is `path`: {"v", "portable", "portable_sha256", "shown"}."""
    interpreter = _interpreter(path)
    portable = {
        "implementation": interpreter["implementation"],
        "python": interpreter["python"],
        "machine": interpreter["machine"],
        "torch_cuda": torch_cuda(interpreter["site"]),
        "lock_sha256": order.get("lock_sha256"),
        "packages": packages(interpreter["site"]),
    }
    shown = {
        "interpreter": interpreter["executable"],
        "prefix": interpreter["prefix"],
        "build": "managed" if _is_managed(interpreter) else "found",
        "glibc": _glibc(),
        "kernel": platform.release(),
        "driver": None,
        "gpus": [],
        "form": order.get("form"),
        "image": order.get("image"),
    }
    digest = hashlib.sha256(records.canonical(portable)).hexdigest()
    return {"v": records.VERSION, "portable": portable, "portable_sha256": digest, "shown": shown}


def headline(fingerprint):
    """The first line of every log."""
    portable = fingerprint["portable"]
    names = portable["packages"]
    parts = [
        "fingerprint sha256:" + fingerprint["portable_sha256"],
        "python %s %s" % (portable["python"], portable["machine"]),
        "%d package%s" % (len(names), "" if len(names) == 1 else "s"),
    ]
    torch = [name.split("==")[1] for name in names if name.startswith("torch==")]
    if torch:
        parts.append(
            "torch %s %s" % (torch[0], "cuda " + portable["torch_cuda"] if portable["torch_cuda"] else "cpu")
        )
    return " · ".join(parts)


def differences(order, fingerprint):
    """How the environment differs from what is locked: one line each. Nothing locked, nothing to compare."""
    locked, portable = order.get("locked"), fingerprint["portable"]
    if locked is None:
        return []
    found = dict(name.split("==", 1) for name in portable["packages"])
    lines = []
    if order.get("python") and _minor(order["python"]) != _minor(portable["python"]):
        lines.append("python is %s, locked is %s" % (portable["python"], order["python"]))
    for name in sorted(set(locked) | set(found)):
        if name not in found:
            lines.append("%s %s is locked but not installed" % (name, locked[name]))
        elif name not in locked:
            lines.append("%s %s is installed but not locked" % (name, found[name]))
        elif _comparable(found[name]) != _comparable(locked[name]):
            lines.append("%s is %s, locked is %s" % (name, found[name], locked[name]))
    return lines


def packages(site):
    """{"name==version": digest of its RECORD} of every distribution in these folders, without pip."""
    found = {}
    for folder in reversed(site):  # an earlier folder hides a later one
        for entry in sorted(_listing(folder)):
            if entry.endswith(".dist-info"):
                name, version = _name_and_version(os.path.join(folder, entry), entry)
                if name != "pip":
                    found = {known: digest for known, digest in found.items() if known.split("==")[0] != name}
                    found["%s==%s" % (name, version)] = record_digest(os.path.join(folder, entry, "RECORD"))
    return found


def record_digest(path):
    """SHA-256 over the sorted lines of a RECORD that carry a hash and do not depend on the installer."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""  # a system package: nothing is recorded
    info = os.path.basename(os.path.dirname(path)) + "/"
    beside = tuple(info + name for name in _NOT_COMPARED)
    kept = []
    for line in lines:
        name, _, rest = line.rpartition(",")[0].rpartition(",")
        if (
            rest
            and not name.startswith(_SCRIPTS)
            and not name.endswith(".pyc")
            and name.strip('"') not in beside
        ):
            kept.append(line)
    kept.sort()
    return hashlib.sha256(
        "".join(line + "\n" for line in kept).encode("utf-8", "surrogateescape")
    ).hexdigest()


def torch_cuda(site):
    """The CUDA that torch was built for, from its text: to import torch takes seconds and a GPU context."""
    for folder in site:
        try:
            with open(os.path.join(folder, "torch", "version.py"), encoding="utf-8") as file:
                found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", file.read(), re.MULTILINE)
        except OSError:
            continue
        return found.group(1) if found else None
    return None


def normalised(name):
    """A project's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _interpreter(path):
    """Facts about the interpreter that a job on this PATH gets as `python`."""
    found = [shutil.which(name, path=path) for name in ("python", "python3")]
    executable = next((name for name in found if name), sys.executable)
    if os.path.dirname(executable) == os.path.dirname(sys.executable or ""):
        return eval(_FACTS, {name: __import__(name) for name in _MODULES})
    asked = "import json,%s; print(json.dumps(%s))" % (",".join(_MODULES), _FACTS)
    try:
        # -I: neither the folder nor the variables of whoever started us
        done = subprocess.run(
            [executable, "-I", "-B", "-c", asked],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PROBE_TIMEOUT_S,
        )
        return json.loads(done.stdout.decode("utf-8"))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NoInterpreter("%s does not start: %s" % (executable, error)) from error


def _is_managed(interpreter):
    """Whether uv brought it (then its folder says so)."""
    try:
        with open(os.path.join(interpreter["stdlib"], "EXTERNALLY-MANAGED"), encoding="utf-8") as file:
            if "uv" in file.read():
                return True
    except OSError:
        pass
    return bool(re.match(r"(cpython|pypy|graalpy)-\d", os.path.basename(interpreter["base_prefix"])))


def _name_and_version(folder, entry):
    """As METADATA has them; else as the folder's name has them."""
    name, _, version = entry[: -len(".dist-info")].rpartition("-")
    try:
        with open(os.path.join(folder, "METADATA"), encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key == "Name":
                    name = value.strip()
                elif key == "Version":
                    version = value.strip()
                elif not line.strip():
                    break
    except OSError:
        pass
    return normalised(name), version


def _minor(version):
    return version.split(".")[:2]  # a place may have only another patch version; the fingerprint says which


def _comparable(version):
    """Versions that PEP 440 calls equal, as one text: 2023.07.22 = 2023.7.22, 1.0 = 1.0.0."""
    public, _, local = version.lower().lstrip("v").partition("+")
    public = re.sub(r"(?<![0-9])0+(?=[0-9])", "", public)
    public = re.sub(r"(\.0)+(?=$|[a-z]|\.?(dev|post))", "", public)
    return public + "+" + re.sub(r"[-_.]", ".", local)


def _listing(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _glibc():
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        return None  # musl, macOS
