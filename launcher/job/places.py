"""The values of a job.yaml that name something elsewhere: data, stores, targets, indexes, images, paths."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import SplitResult, urlsplit

from launcher.errors import SpecError
from launcher.job.kinds import parsed, word
from launcher.job.units import shown

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_SHA256 = r"[0-9a-fA-F]{64}"
_NAME = r"[a-z0-9][a-z0-9-]{0,40}"  # as in targets.yaml
_IMAGE_NAME = r"[a-z0-9]+([._/:-]+[a-z0-9_]+)*"
_NOT_BLANK = r"(?=.*\S)[^\x00-\x1f]+"
S3 = rf"s3://{_BUCKET}(/[^\s?#]*)?"
SSH = r"ssh://([A-Za-z0-9_][A-Za-z0-9_.-]*@)?([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?"
DATA_KEY = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"


def data_key(text: str) -> str:
    if not re.fullmatch(DATA_KEY, text):
        hint = "write letters, digits, _, - and .: it becomes the folder or file $LAUNCHER_DATA/<key>"
        raise SpecError(f"{shown(text)} is not a name for data", hint)
    return text


def data_source(text: str) -> str:
    """A path relative to job.yaml (or absolute), `s3://bucket/prefix`, or `https://…#sha256=HEX`."""
    scheme, sep, _ = text.partition("://")
    if not sep:
        if not re.fullmatch(_NOT_BLANK, text):
            raise SpecError(f"{shown(text)} is not a path", "write a file or folder, relative to job.yaml")
        return text
    if scheme == "s3":
        return s3(text)
    if scheme in ("https", "http"):
        return _download(text)
    hint = "write a path, s3://bucket/prefix or https://…#sha256=HEX"
    raise SpecError(f"data from {scheme[:20]}:// is not supported", hint)


def _download(text: str) -> str:
    url = _url(text)
    found = re.fullmatch(rf"sha256=({_SHA256})", url.fragment)
    if not found:
        hint = "append #sha256= and the 64 hex digits that `sha256sum FILE` prints"
        raise SpecError(f"the download {shown(text)} has no SHA-256", hint)
    return text[: -len(found[0])] + found[0].lower()


def s3(text: str) -> str:
    if not re.fullmatch(S3, text):
        raise SpecError(f"{shown(text)} is not a bucket", "write s3://bucket or s3://bucket/prefix")
    return text.rstrip("/")


def index(text: str) -> str:
    """An extra package index; a password in it would travel with every bundle."""
    if _url(text).fragment:
        raise SpecError(f"{shown(text)} is not an index", "write https://host/simple")
    return text


def target(text: str) -> str:
    """`local`, `verda`, `kaggle`, `colab`, `ssh://user@host:port`, or a name from targets.yaml."""
    if text.startswith("ssh://"):
        port = re.search(r":([0-9]+)/?$", text)
        if not re.fullmatch(SSH, text) or (port and not 0 < int(port[1]) < 65536):
            raise SpecError(
                f"{shown(text)} is not an SSH target", "write ssh://user@host or ssh://user@host:port"
            )
        return text.rstrip("/")
    if not re.fullmatch(_NAME, text):
        hint = "write local, ssh://user@host:port, verda, kaggle, colab, or a name from `launcher target ls`"
        raise SpecError(f"{shown(text)} is not a target", hint)
    return text


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        host, password, _ = url.hostname or "", url.username or url.password, url.port
    except ValueError as e:
        raise SpecError(f"{shown(text)} is not a URL", "write https://host/path") from e
    if not host or not re.fullmatch(r"\S+", text) or url.scheme not in ("https", "http"):
        raise SpecError(f"{shown(text)} is not a URL", "write https://host/path")
    if url.scheme == "http" and host not in ("localhost", "::1") and not host.startswith("127."):
        raise SpecError(
            f"{shown(text)} is not encrypted", "write https://; plain http is only for this machine"
        )
    if password:
        raise SpecError(
            "a URL must hold no user name or password", "job.yaml is recorded with every run: remove it"
        )
    return url


def inside(text: str) -> str:
    """A path below the job's folder."""
    if re.search(r"(^|/)\.\.(/|$)|^/|^~|\\|^[A-Za-z]:", text) or not re.fullmatch(_NOT_BLANK, text):
        hint = "write it with forward slashes, relative to the folder of job.yaml"
        raise SpecError(f"{shown(text)} is not a path inside the job's folder", hint)
    return text


def pattern(text: str) -> str:
    """A line of a .gitignore: `/` at its start means the job's folder."""
    if not re.fullmatch(_PATTERN, text):
        raise SpecError(
            f"{shown(text)} is not a pattern inside the job's folder", "write it as in .gitignore, without .."
        )
    return text


def relative(text: str) -> str:
    """A path relative to job.yaml; it may lie above (a lock shared by several jobs)."""
    if re.search(r"^/|^~|\\|^[A-Za-z]:", text) or not re.fullmatch(_NOT_BLANK, text):
        hint = "write it with forward slashes, relative to the folder of job.yaml"
        raise SpecError(f"{shown(text)} is not a relative path", hint)
    return text


def above(text: str) -> str:
    """A path relative to job.yaml that leaves its folder."""
    relative(text)
    if posixpath.normpath(text).split("/")[0] != "..":
        raise SpecError(f"{shown(text)} lies inside the job's folder", INSIDE_HINT)
    return text


INSIDE_HINT = "remove it: what is inside travels anyway, and files.include chooses from it"
_INSIDE = r"(?![/~])(?!(.*/)?\.\.(/|$))(?![A-Za-z]:)[^\x00-\x1f\\]*[^\s\\][^\x00-\x1f\\]*"
_RELATIVE = r"(?![/~])(?![A-Za-z]:)[^\x00-\x1f\\]*[^\s\\][^\x00-\x1f\\]*"
_PATTERN = rf"(?!(.*/)?\.\.(/|$))(?![~#]){_NOT_BLANK}"
_HTTP = r"(https://|http://(localhost|127\.[0-9.]+|\[::1\])[:/])[^\s@#]+"

DATA = parsed(
    data_source,
    rf"(?![^:]*://){_NOT_BLANK}|{S3}|{_HTTP}#sha256={_SHA256}",
    "path, s3://bucket/prefix, or https://…#sha256=HEX",
)
STORE = parsed(s3, S3, "s3://bucket/prefix")
INDEX = parsed(index, r"(https://|http://(localhost|127\.[0-9.]+|\[::1\])[:/]?)[^\s@#]+", "https URL")
TARGET = parsed(target, rf"{SSH}|{_NAME}", "local, ssh://user@host:port, verda, kaggle, colab, or a name")
PATH = parsed(relative, _RELATIVE, "path relative to job.yaml")
OUTSIDE = parsed(
    above, rf"(?=(.*/)?\.\.(/|$)){_RELATIVE}", "path outside the job's folder, relative to job.yaml"
)
DOCKERFILE = parsed(inside, _INSIDE, "path inside the job's folder")
PATTERN = parsed(pattern, _PATTERN, "pattern as in .gitignore")
IMAGE = word(
    rf"{_IMAGE_NAME}@sha256:[0-9a-f]{{64}}",
    "an image with its digest",
    "write name@sha256:…; `docker buildx imagetools inspect NAME:TAG` shows the digest",
)
BASE = word(rf"{_IMAGE_NAME}(@sha256:[0-9a-f]{{64}})?", "an image name", "write it like ubuntu:22.04")
APT = word(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?", "a Debian package", "write names only, like libgl1")
TORCH = word(
    "auto|cpu|cu[0-9]{3}",
    "a torch build",
    "write auto, cpu, cu126, cu128 or cu130 (what `uv --torch-backend` takes)",
)
