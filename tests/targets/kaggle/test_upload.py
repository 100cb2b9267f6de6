"""Uploads: whole, or on from where they were cut; never a file that changed on the way."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.config import Config
from launcher.errors import IntegrityError, LauncherError, RemoteError, Unreachable
from launcher.targets.kaggle.api import KaggleAPI, credentials
from launcher.targets.kaggle.wire import Patience
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.settings import Answer
from tests.targets.kaggle.scripted import Reply, Scripted, of

SIZE = 3_000_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Kaggle]:
    with Kaggle() as running:
        yield running


@pytest.fixture
def kaggle(shared: Kaggle) -> Kaggle:
    shared.faults.answers.clear()
    shared.asked.clear()
    return shared


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def api(kaggle: Kaggle, waits: list[float]) -> KaggleAPI:
    return KaggleAPI(kaggle.url, credentials(Config(kaggle.environment)), Patience(sleep=waits.append))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.bin"
    path.write_bytes(b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(SIZE // 32)))
    return path


def finish(upload: Generator[tuple[int, int], None, str]) -> tuple[str, list[tuple[int, int]]]:
    """The token, and what the progress was."""
    told = []
    while True:
        try:
            told.append(next(upload))
        except StopIteration as end:
            return end.value, told


def arrived(kaggle: Kaggle, token: str) -> bytes:
    return kaggle.blobs.use("alice", token).path.read_bytes()


def ranges(kaggle: Kaggle) -> list[Any]:
    """The Content-Range of each request to the storage."""
    return [body for call, body in kaggle.asked if call == "upload"]


def test_a_file_goes_up_in_one_request_and_says_how_far_it_is(
    kaggle: Kaggle, api: KaggleAPI, file: Path
) -> None:
    token, told = finish(api.upload(file, "checkpoint.bin"))
    assert arrived(kaggle, token) == file.read_bytes()
    assert ranges(kaggle) == [None]
    size = file.stat().st_size
    assert told[0] == (0, size)
    assert told[-1] == (size, size)


def test_an_empty_file_goes_up(kaggle: Kaggle, api: KaggleAPI, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    token, _ = finish(api.upload(tmp_path / "empty", "empty.bin"))
    assert arrived(kaggle, token) == b""


def test_an_upload_goes_on_where_each_cut_left_it(kaggle: Kaggle, api: KaggleAPI, file: Path) -> None:
    size = file.stat().st_size
    kaggle.faults.answers += [Answer("upload", after_bytes=1_000_000), Answer("upload", status=503)]
    kaggle.faults.answers += [Answer("upload", status=429, retry_after_s=9)]
    token, _ = finish(api.upload(file, "checkpoint.bin"))
    assert arrived(kaggle, token) == file.read_bytes()
    assert ranges(kaggle) == [
        None,
        f"bytes */{size}",
        f"bytes */{size}",
        f"bytes */{size}",
        f"bytes 1000000-{size - 1}/{size}",
    ]


def test_the_storages_wait_is_kept(kaggle: Kaggle, api: KaggleAPI, file: Path, waits: list[float]) -> None:
    kaggle.faults.answers += [Answer("upload", status=429, retry_after_s=9)]
    finish(api.upload(file, "checkpoint.bin"))
    assert waits == [9.0]


class Leaky(http.server.BaseHTTPRequestHandler):
    """A storage that closes each connection after so many bytes."""

    def do_PUT(self) -> None:
        kept: bytearray = self.server.kept  # type: ignore[attr-defined]
        span, _, total = self.headers.get("Content-Range", f"bytes 0-/{SIZE}").rpartition("/")
        if span != "bytes *":
            assert int(span.removeprefix("bytes ").partition("-")[0]) == len(kept)
            kept += self.rfile.read(min(200_000, int(self.headers["Content-Length"])))
        if len(kept) < int(total) and span != "bytes *":
            self.close_connection = True
            return
        self.send_response(200 if len(kept) == int(total) else 308)
        self.send_header("Range", f"bytes=0-{len(kept) - 1}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def test_many_cuts_do_not_end_an_upload_that_comes_on(file: Path) -> None:
    with Scripted() as server, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Leaky) as storage:
        storage.kept = bytearray()  # type: ignore[attr-defined]
        threading.Thread(target=storage.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{storage.server_port}/put"
        server.replies["StartBlobUpload"] = [of({"token": "t", "createUrl": address})]
        try:
            assert finish(server.api().upload(file, "a.bin"))[0] == "t"
            assert storage.kept == file.read_bytes()  # type: ignore[attr-defined]
        finally:
            storage.shutdown()
        assert len(server.waits) == SIZE // 200_000 - 1  # none but after a cut


def test_a_lost_answer_to_the_last_byte_is_asked_for(kaggle: Kaggle, api: KaggleAPI, file: Path) -> None:
    kaggle.faults.answers += [Answer("upload")]
    token, _ = finish(api.upload(file, "checkpoint.bin"))
    assert arrived(kaggle, token) == file.read_bytes()
    assert ranges(kaggle) == [None, f"bytes */{file.stat().st_size}"]


def test_an_upload_that_expired_starts_anew(kaggle: Kaggle, api: KaggleAPI, file: Path) -> None:
    kaggle.faults.answers += [Answer("upload", after_bytes=1_000_000)]
    upload = api.upload(file, "checkpoint.bin")
    assert next(upload)[0] == 0
    kaggle.blobs.expire()
    token, _ = finish(upload)
    assert arrived(kaggle, token) == file.read_bytes()
    assert [call for call, _ in kaggle.asked].count("StartBlobUpload") == 2


def test_a_storage_that_is_down_is_given_up(kaggle: Kaggle, api: KaggleAPI, file: Path) -> None:
    kaggle.faults.answers += [Answer("upload", status=503, times=99)]
    with pytest.raises(Unreachable, match="in trouble itself"):
        finish(api.upload(file, "checkpoint.bin"))


@pytest.mark.parametrize("now", [b"shorter", b"x" * (SIZE + 1)])
def test_a_file_that_changes_on_the_way_is_not_sent(
    api: KaggleAPI, kaggle: Kaggle, file: Path, now: bytes
) -> None:
    upload = api.upload(file, "checkpoint.bin")
    next(upload)
    file.write_bytes(now)
    with pytest.raises(IntegrityError, match="changed while it was sent"):
        finish(upload)


def test_a_file_that_is_gone_is_one_line(api: KaggleAPI, tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match=r"cannot read .*gone\.bin: No such file"):
        finish(api.upload(tmp_path / "gone.bin", "gone.bin"))


def test_an_upload_that_is_left_stops_sending(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with open(path, "wb") as sparse:
        sparse.truncate(1 << 40)
    with Scripted(put=[]) as server:
        server.replies["StartBlobUpload"] = [of({"token": "t", "createUrl": f"{server.url}/put"})]
        upload = server.api().upload(path, "large.bin")
        while next(upload)[0] == 0:
            pass
        upload.close()  # returns, though a terabyte is left
        deadline = time.monotonic() + 120
        while any("(_run)" in thread.name for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.02)


STARTS = {
    "no address": {"token": "t"},
    "a number": {"token": 7, "createUrl": "u"},
    "another scheme": {"token": "t", "createUrl": "file:///etc/passwd"},
    "plain http elsewhere": {"token": "t", "createUrl": "http://example.com/put"},
    "no host": {"token": "t", "createUrl": "http://[::1/put"},
}


@pytest.mark.parametrize("kind", STARTS)
def test_an_address_that_is_none_is_one_clear_line(kind: str, file: Path) -> None:
    with Scripted(StartBlobUpload=[of(STARTS[kind])]) as server:
        with pytest.raises(RemoteError) as caught:
            finish(server.api().upload(file, "a.bin"))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("said", ["bytes=0-99999999", "bytes=7-9", "nonsense", "bytes=0-" + "9" * 400])
def test_a_storage_that_says_nonsense_does_not_go_on_for_ever(said: str, file: Path) -> None:
    with Scripted(put=[Reply(b"", 308, {"Range": said, "Content-Length": "0"})]) as server:
        server.replies["StartBlobUpload"] = [of({"token": "t", "createUrl": f"{server.url}/put"})]
        with pytest.raises(Unreachable, match="cut again and again"):
            finish(server.api().upload(file, "a.bin"))
        assert len(server.asked) < 20


def test_a_storage_that_refuses_is_one_clear_line(file: Path) -> None:
    page = Reply(b"<html>denied</html>", 403, {"Content-Type": "text/html"})
    with Scripted(put=[page]) as server:
        server.replies["StartBlobUpload"] = [of({"token": "t", "createUrl": f"{server.url}/put?secret=x"})]
        with pytest.raises(RemoteError) as caught:
            finish(server.api().upload(file, "a.bin"))
    assert caught.value.message == "the upload to Kaggle failed with 403"
