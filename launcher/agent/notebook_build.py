"""The locked environment in a notebook: the same script as on every machine, with uv's own interpreter."""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import queue
import shutil
import subprocess
import threading
import time
import zipfile

from launcher.agent import download, notebook_payload, notebook_place, notebook_thaw
from launcher.agent.notebook_payload import NotebookError

TELL_S = 20.0
MOST_WORDS = 600
_NO_NETWORK = (
    "dns error",
    "error sending request",
    "Failed to fetch",
    "Could not connect",
    "cannot be reached",
)
_NO_INTERNET = {
    "kaggle": "this session has no internet (Settings > Turn on internet; it needs a verified phone number)",
    "colab": "this runtime has no internet",
}
_UV_IN_WHEEL = ".data/scripts/uv"
_OFFLINE = {"UV_OFFLINE": "1", "UV_NO_INDEX": "1"}


def build(payload, say):
    """The folder with the environment's programs; what is there already is left as it is."""
    facts = payload.facts
    told, root = facts["environment"], facts["root"]
    os.makedirs(os.path.join(root, "envs"), 0o755, exist_ok=True)
    with _held(os.path.join(root, "envs", told["key"] + ".lock")):
        if told["trivial"]:
            return _any_python(os.path.join(root, "envs", told["key"]))
        return _locked(payload, say)


def _any_python(env):
    """Nothing is locked: this Python, without any of its packages."""
    if not os.path.exists(os.path.join(env, ".ready")):
        import venv

        shutil.rmtree(env, ignore_errors=True)
        venv.EnvBuilder(symlinks=True).create(env)
        with open(os.path.join(env, ".ready"), "w") as file:
            file.write("{}\n")
    return os.path.join(env, "bin")


def _locked(payload, say):
    facts = payload.facts
    told, root = facts["environment"], facts["root"]
    env = os.path.join(root, "envs", told["key"])
    began = time.monotonic()
    wheels = _wheelhouse(facts)
    listing = _listing(wheels) if wheels else {}
    if not _ready(env):
        say("environment %s: building%s" % (told["key"], " from %s" % wheels if wheels else ""))
    if "frozen" in listing and not _ready(env):
        notebook_thaw.thaw(wheels, listing, root)
    elif not _ready(env):
        _build(payload, wheels, listing, say)
    _say_ready(_ready(env), env, time.monotonic() - began, say)
    return os.path.join(env, "bin")


def _build(payload, wheels, listing, say):
    """By the script, with uv; from the wheels where there are any."""
    facts = payload.facts
    told, root = facts["environment"], facts["root"]
    script = payload.data(notebook_payload.ENVIRONMENT).decode("utf-8")
    variables = notebook_place.build_variables(os.environ, root)
    variables["UV_CACHE_DIR"] = os.path.join(root, "cache")
    if wheels:
        links = _named(wheels, listing["wheels"], os.path.join(root, "wheels"))
        variables.update(_OFFLINE, UV_FIND_LINKS=links)
        script = _with_interpreter(script, told, wheels, links)
    elif not notebook_place.has_way_out(variables):
        raise NotebookError("the environment cannot be built: " + _NO_INTERNET[facts["platform"]])
    _uv(told, os.path.join(root, "tools"), wheels, say)
    code, said = _run(script, variables, say)
    if code != 0:
        raise NotebookError(_failure(said, facts["platform"], wheels))


def _ready(env):
    """What the environment says of itself when it is complete; else None."""
    try:
        with open(os.path.join(env, ".ready"), "rb") as file:
            return (
                json.loads(file.read().decode("utf-8"))
                if os.access(os.path.join(env, "bin/python"), os.X_OK)
                else None
            )
    except (OSError, ValueError):
        return None


def _say_ready(ready, env, seconds, say):
    kind = "uv's own build" if ready.get("interpreter") == "managed" else "found on this machine"
    say("environment %s: ready in %s" % (ready.get("key"), _span(seconds)))
    say("interpreter: CPython %s, %s, %s/bin/python" % (ready.get("python"), kind, env))


def _uv(told, tools, wheels, say):
    """The uv that the script names: of exactly the version and hash that launcher has."""
    uv = told["uv"]
    path = os.path.join(tools, "uv-" + uv["version"])
    if os.access(path, os.X_OK):
        return
    os.makedirs(tools, 0o755, exist_ok=True)
    here = os.path.join(wheels, "uv.bin") if wheels else shutil.which("uv")
    if here and _sha256(here) == uv["binary"]:
        with open(here, "rb") as source:
            _install(source, path)
    elif wheels:
        raise NotebookError("%s is not uv %s" % (here, uv["version"]))
    else:
        say("uv %s: downloading" % uv["version"])
        _download_uv(uv, path)


def _download_uv(uv, path):
    wheel = path + ".whl"
    fd = os.open(wheel, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        download.download(uv["url"], uv["sha256"], fd, lambda done, total: None)
    except (download.NoWay, download.BadDownload) as error:
        raise NotebookError("uv cannot be downloaded: %s" % error) from error
    finally:
        os.close(fd)
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(_UV_IN_WHEEL))
        with archive.open(name) as source:
            _install(source, path)
    os.unlink(wheel)


def _install(source, path):
    temporary = "%s.%d.tmp" % (path, os.getpid())
    with open(temporary, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    os.chmod(temporary, 0o755)
    os.replace(temporary, path)


def _wheelhouse(facts):
    """The folder with the wheels, if the payload names one and it is there."""
    folder = facts.get("wheelhouse") or ""
    if not folder:
        return ""
    inside, name = os.path.split(folder)
    for one in (folder, *sorted(glob.glob(os.path.join(inside, "*", "*", name)))):  # datasets/<user>/<name>
        if os.path.exists(os.path.join(one, "wheelhouse.json")):
            return one
    raise NotebookError("%s is not there, or has no wheelhouse.json: is the dataset attached?" % folder)


def _listing(wheels):
    with open(os.path.join(wheels, "wheelhouse.json"), "rb") as file:
        return json.loads(file.read().decode("utf-8"))


def _named(wheels, names, folder):
    """A folder with links to the wheels under their own names, which uv needs and the platform does not keep."""
    os.makedirs(folder, 0o755, exist_ok=True)
    for name, lies_in in names.items():
        link = os.path.join(folder, os.path.basename(name))
        if not os.path.lexists(link):
            os.symlink(os.path.join(wheels, os.path.basename(lies_in)), link)
    return folder


def _with_interpreter(script, told, wheels, folder):
    """The script with the interpreter's address in the wheelhouse; its hash stays in the script."""
    url = (told.get("interpreter") or {}).get("url")
    if not url:
        return script
    link = os.path.join(
        folder, "python-" + url.rpartition("/")[2].replace("%2B", "+")
    )  # uv looks at the ending
    if not os.path.lexists(link):
        os.symlink(os.path.join(wheels, "python.bin"), link)
    return script.replace(json.dumps(url), json.dumps("file://" + link))


def _run(script, variables, say):
    """(exit status, lines) of the script; its words are passed on as they come, and so is time without any."""
    process = subprocess.Popen(
        ["sh", "-s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        start_new_session=True,
    )
    lines, said = queue.Queue(), []
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(script.encode("utf-8"))
    began = time.monotonic()
    try:
        while True:
            try:
                line = lines.get(timeout=TELL_S)
            except queue.Empty:
                say("environment: %s so far" % _span(time.monotonic() - began))
                continue
            if line is None:
                return process.wait(), said
            said.append(line)
            if line and not line.startswith(("{", " +")):
                say("environment: " + line.replace("launcher: ", "", 1))
    except BaseException:  # the cell was interrupted: nothing may go on building
        os.killpg(process.pid, 9)
        process.wait()
        raise


def _span(seconds):
    return "%.1f min" % (seconds / 60) if seconds >= 60 else "%.1f s" % seconds


def _read(pipe, lines):
    for line in iter(pipe.readline, b""):
        lines.put(line.decode("utf-8", "replace").rstrip())
    lines.put(None)


def _failure(said, platform, wheels):
    text = " ".join(line.strip() for line in said if line.strip() and not line.startswith("{"))
    message = "the environment could not be built: %s" % text[-MOST_WORDS:]
    if not wheels and any(sign in text for sign in _NO_NETWORK):
        message += "; " + _NO_INTERNET[platform]
    return message


@contextlib.contextmanager
def _held(path):
    """One builder at a time, however many cells and kernels there are."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sha256(path):
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for data in iter(lambda: file.read(1 << 20), b""):
                digest.update(data)
    except OSError:
        return ""
    return digest.hexdigest()
