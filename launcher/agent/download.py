"""One file by https, resumed where it stopped, and kept only if its SHA-256 is the one that was asked for."""

import hashlib
import http.client
import os
import re
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

BLOCK = 1 << 20
TIMEOUT_S = 30.0
TRIES = 5  # in a row that brought nothing
LOOPBACK = ("localhost", "::1")


class NoWay(Exception):
    """The server cannot be reached from here; from elsewhere perhaps."""


class BadDownload(Exception):
    """The server answers, and not with what was asked for: one line."""


def download(url, sha256, fd, progress):
    """Write what the url gives into the open file `fd`, which may hold the first part of it; its size.

    `progress(done, total or None)` is called on the way; it may raise to stop.
    """
    address = url.partition("#")[0]
    hashed = _hash(fd)
    resumed, tries = hashed[1] > 0, 0
    while True:
        before = hashed[1]
        try:
            complete = _receive(address, fd, hashed, progress)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                raise BadDownload("%s answers %d %s" % (_host(address), error.code, error.reason)) from error
            if not _of_network(error):
                raise
            tries = tries + 1 if hashed[1] == before else 1
            if tries >= TRIES or hashed[1] == 0:
                raise NoWay("%s cannot be reached: %s" % (_host(address), _reason(error))) from error
            continue
        if complete and hashed[0].hexdigest() == sha256:
            return hashed[1]
        if complete:
            found = hashed[0].hexdigest()
            hashed[:] = _emptied(fd)
            if not resumed:
                raise BadDownload("%s has the SHA-256 %s, and not %s" % (address, found, sha256))
            resumed = False  # what lay here was perhaps the start of something else


def _receive(address, fd, hashed, progress):
    """The rest of the file; False when the server ended too early."""
    request = urllib.request.Request(
        address, headers={"User-Agent": "launcher", "Accept-Encoding": "identity"}
    )
    if hashed[1]:
        request.add_header("Range", "bytes=%d-" % hashed[1])
    opener = urllib.request.build_opener(_OnlyEncrypted())
    try:
        answer = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and hashed[1]:  # nothing behind what we have
            return True
        raise
    with answer:
        total = _total(answer, fd, hashed)
        progress(hashed[1], total)
        while True:
            data = answer.read(BLOCK)
            if not data:
                break
            _write(fd, data)
            hashed[0].update(data)
            hashed[1] += len(data)
            progress(hashed[1], total)
    if total is not None and hashed[1] < total:
        raise http.client.IncompleteRead(b"")
    return True


def _total(answer, fd, hashed):
    """The size of the whole file, if the server says it; what lies here is forgotten if it sends all again."""
    found = re.match(r"bytes (\d+)-\d*/(\d+|\*)", answer.headers.get("Content-Range") or "")
    if answer.status == 206 and found and int(found.group(1)) == hashed[1]:
        return None if found.group(2) == "*" else int(found.group(2))
    if hashed[1]:
        hashed[:] = _emptied(fd)
        if answer.status == 206:
            raise http.client.IncompleteRead(b"")
    length = answer.headers.get("Content-Length") or ""
    return int(length) if length.isdigit() else None


class _OnlyEncrypted(urllib.request.HTTPRedirectHandler):
    """Redirects lead only to https, or stay on this machine."""

    def redirect_request(self, request, answer, code, reason, headers, url):
        to, source = urlsplit(url), urlsplit(request.full_url)
        if to.scheme != "https" and not (to.scheme == "http" and _here(to) and _here(source)):
            raise BadDownload("%s leads to %s, which is not encrypted" % (_host(request.full_url), url[:100]))
        return super().redirect_request(request, answer, code, reason, headers, url)


def _here(url):
    host = url.hostname or ""
    return host in LOOPBACK or host.startswith("127.")


def _hash(fd):
    """[hash of what lies in the file, its size]; the next write goes behind it."""
    digest, size = hashlib.sha256(), 0
    os.lseek(fd, 0, os.SEEK_SET)
    while True:
        data = os.read(fd, BLOCK)
        if not data:
            return [digest, size]
        digest.update(data)
        size += len(data)


def _emptied(fd):
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    return [hashlib.sha256(), 0]


def _write(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _of_network(error):
    kinds = (urllib.error.URLError, http.client.HTTPException, socket.timeout, ConnectionError)
    return isinstance(error, kinds)


def _reason(error):
    return " ".join(str(getattr(error, "reason", "") or error or type(error).__name__).split())[:200]


def _host(address):
    return urlsplit(address).netloc
