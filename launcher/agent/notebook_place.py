"""What a notebook platform is like: its session's number and age, and its variables without what must not leak."""

import glob
import os
import re
import shutil
import socket
import time
from urllib.parse import urlsplit

from launcher.agent import environment, gpus

INDEX = "https://pypi.org/simple"
KAGGLE_NAME = "KAGGLE_CONTAINER_NAME"
ON_PLATFORM = (KAGGLE_NAME, "COLAB_RELEASE_TAG")
# what a download needs to get out of the place, and nothing else of it
_PASSED = re.compile(
    r"(?i)(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|UV_(DEFAULT_INDEX|INDEX_URL|HTTP_TIMEOUT|NATIVE_TLS"
    r"|SYSTEM_CERTS|PYTHON_INSTALL_MIRROR|PYTHON_DOWNLOADS_JSON_URL)|TMPDIR|LANG|NETRC"
)


def session_id(variables):
    """The number by which Kaggle's API cancels this session; "" elsewhere."""
    parts = variables.get(KAGGLE_NAME, "").rsplit("-", 2)
    return parts[1] if len(parts) == 3 and parts[1].isdigit() else ""


def session_age_s(variables):
    """Seconds since the session began: the age of the container's first process, on a platform; else our own."""
    pid = 1 if any(name in variables for name in ON_PLATFORM) else os.getpid()
    try:
        with open("/proc/%d/stat" % pid) as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / float(os.sysconf("SC_CLK_TCK")))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def margin_s(session_s, grace_s):
    """What must be left of a session when the job is asked to stop: its grace, and time to keep the results."""
    return min(grace_s + 60.0, session_s / 20.0)


def build_variables(variables, home):
    """For uv: none of the platform's settings, but its way out."""
    kept = {name: value for name, value in variables.items() if _PASSED.fullmatch(name)}
    return dict(kept, HOME=home, PATH=environment.DEFAULT_PATH, UV_NO_CONFIG="1")


def has_way_out(variables):
    """Whether the package index has an address here, or a proxy knows it: else uv would try in vain for long."""
    if any(name.lower().endswith("_proxy") for name in variables):
        return True
    index = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL") or INDEX
    for wait_s in (0.5, 1.5, None):
        try:
            socket.getaddrinfo(urlsplit(index).hostname or "localhost", 443)
            return True
        except OSError:
            if wait_s is not None:
                time.sleep(wait_s)
    return False


def job_variables(variables):
    """For the agent: its PATH leads to the system and the driver, never to the platform's Python."""
    kept = {name: variables[name] for name in environment.GPU_VARIABLES if name in variables}
    folders = [one for one in kept.pop("LD_LIBRARY_PATH", "").split(os.pathsep) if _of_the_driver(one)]
    if folders:
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(folders)
    return dict(kept, PATH=_search_path(variables), HOME=variables.get("HOME", "/root"), LANG="C.UTF-8")


def _of_the_driver(folder):
    """The platform's own CUDA lies on the same path, and must not be found before the locked one."""
    return "nvidia" in folder or bool(folder and glob.glob(os.path.join(glob.escape(folder), "libcuda.so*")))


def _search_path(variables):
    program = shutil.which("nvidia-smi", path=variables.get("PATH"))
    folder = os.path.dirname(program) if program else None
    known = environment.DEFAULT_PATH.split(os.pathsep)
    return os.pathsep.join([*known, folder] if folder and folder not in known else known)


def look_at_gpus():
    """What nvidia-smi shows here: a list of {name, memory_mb, …}."""
    from launcher.agent import probe

    found = {"gpus": []}
    probe._gpus(found)
    return found["gpus"]


def named(found):
    """`2 x Tesla T4`; "none"."""
    names = [gpu["name"] for gpu in found]
    return ", ".join("%d x %s" % (names.count(kind), kind) for kind in sorted(set(names))) or "none"


def gpus_do(need, found):
    """Whether these are what a job needs: platforms give another kind without a word."""
    good = [
        gpu
        for gpu in found
        if gpus.fits(need["models"], need["memory_bytes"], gpu["name"], (gpu["memory_mb"] or 0) << 20)
    ]
    return len(good) >= need["count"]
