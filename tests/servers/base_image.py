"""Makes the image that stands for `ubuntu:22.04` in the tests, from packages: no registry needed."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from tests.servers.programs import CACHE_FOLDER, ProgramFailed, docker, need, output

TAG = "launcher-test/base:1"
STAND_IN_FOR = "ubuntu:22.04"
PACKAGES = "python3,python3-venv,ca-certificates"
RECIPE_LABEL = "launcher-test.recipe"
CA_PATH = "/etc/ssl/certs/of-the-test-machine.crt"


@dataclass(frozen=True)
class Mirror:
    """Where this machine takes its packages from."""

    address: str
    suite: str
    components: str


def ensure() -> str:
    """The tag of the base image; made when missing (a minute, 2 s from the cache)."""
    if _label(TAG) != recipe():
        _import(_archive())
    return TAG


def recipe() -> str:
    """A short digest of all that goes into the image: another CA file makes another image."""
    digest = hashlib.sha256(f"{mirror()} {PACKAGES}".encode())
    if certificates():
        with open(os.environ["SSL_CERT_FILE"], "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:12]


def exists(tag: str) -> bool:
    """Whether this machine's engine has an image of that name."""
    return bool(docker("images", "--quiet", tag))


@contextlib.contextmanager
def named_like_the_default() -> Iterator[str]:
    """The base image under the name that a spec has by default; a real image of that name is left alone."""
    ensure()
    if exists(STAND_IN_FOR):
        yield STAND_IN_FOR
        return
    docker("tag", TAG, STAND_IN_FOR)
    try:
        yield STAND_IN_FOR
    finally:
        docker("rmi", "--no-prune", STAND_IN_FOR)


def certificates() -> dict[str, str]:
    """The variables that containers need where this machine's own CA file is in use; else nothing."""
    return dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), CA_PATH) if os.environ.get("SSL_CERT_FILE") else {}


def mirror() -> Mirror:
    """The first apt source of this machine's own release."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*"))]:
        if os.path.isfile(path):
            with open(path, errors="replace") as file:
                found = parse_sources(file.read(), suite)
            if found:
                return found
    raise ProgramFailed(f"no apt source for {suite} under /etc/apt")


def parse_sources(text: str, suite: str) -> Mirror | None:
    """The mirror that an apt sources file names for a suite, in either of apt's two formats."""
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^]]*]\s+)?(\S+)\s+(\S+)\s+(.+)", line)
        if match and match[2] == suite:
            return Mirror(match[1], suite, ",".join(match[3].split()))
    for block in re.split(r"\n\s*\n", text):
        field = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.+)$", block, re.MULTILINE))
        if suite in field.get("Suites", "").split() and "deb" in field.get("Types", "").split():
            return Mirror(field["URIs"].split()[0], suite, ",".join(field["Components"].split()))
    return None


def _label(tag: str) -> str:
    if not exists(tag):
        return ""
    return docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}', tag)


def _archive() -> str:
    source = mirror()
    path = os.path.join(CACHE_FOLDER, f"base-{recipe()}.tar")
    if os.path.exists(path):
        return path
    need(debootstrap="debootstrap")
    os.makedirs(CACHE_FOLDER, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="launcher-base-")
    try:
        _bootstrap(source, folder)
        output(["tar", "-C", folder, "--one-file-system", "-cf", path + ".tmp", "."])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    os.replace(path + ".tmp", path)
    return path


def _bootstrap(source: Mirror, folder: str) -> None:
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={PACKAGES}",
        f"--components={source.components}",
    ]
    output([*command, source.suite, folder, source.address])
    shutil.rmtree(os.path.join(folder, "var/cache/apt/archives"), ignore_errors=True)
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle:
        shutil.copy(bundle, folder + CA_PATH)
        os.chmod(folder + CA_PATH, 0o644)


def _import(archive: str) -> None:
    settings = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    settings += [f"{key}={value}" for key, value in certificates().items()]
    changes = ["--change", f"LABEL {RECIPE_LABEL}={recipe()}"]
    changes += [word for setting in settings for word in ("--change", f"ENV {setting}")]
    docker("import", *changes, archive, TAG)
