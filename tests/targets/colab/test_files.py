"""Files of a Colab runtime: every byte arrives once, whatever breaks on the way, and lies are noticed."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import LauncherError, RemoteError, Unreachable
from launcher.target import Range
from launcher.targets.colab.files import RuntimeFiles
from launcher.targets.colab.kernel import Kernel
from launcher.targets.colab.runtime import Reclaimed, RuntimeLine
from launcher.targets.colab.upload import CHUNK, model
from tests.emulators.colab.emulator import Colab
from tests.targets.colab.hostile import Hostile, Reply

MIB = 1 << 20


@pytest.fixture
def disk(account: Colab, line: RuntimeLine) -> Iterator[Path]:
    """The runtime's own folder for one test, as the emulator's machine sees it: /content/test."""
    folder = account.disk(line.runtime.endpoint) / "content" / "test"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of three chunks, the last one short."""
    path = tmp_path / "payload"
    path.write_bytes(os.urandom(2 * CHUNK + 5 * MIB))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole(files: RuntimeFiles, *wanted: Range) -> list[bytes]:
    parts = [bytearray() for _ in wanted]
    for index, data in files.read(wanted):
        parts[index] += data
    return [bytes(part) for part in parts]


def test_an_upload_arrives_in_chunks_and_says_how_far_it_is(
    files: RuntimeFiles, disk: Path, source: Path
) -> None:
    size = source.stat().st_size
    assert list(files.upload("content/test/payload", source)) == [0, CHUNK, 2 * CHUNK, size]
    assert digest(disk / "payload") == digest(source)


def test_an_empty_file_and_a_small_one_arrive_at_once(
    files: RuntimeFiles, disk: Path, tmp_path: Path
) -> None:
    for content in (b"", b"small"):
        (tmp_path / "file").write_bytes(content)
        assert list(files.upload("/content/test/file", tmp_path / "file")) == [0, len(content)]
        assert (disk / "file").read_bytes() == content


def test_an_upload_replaces_what_was_there(files: RuntimeFiles, disk: Path, source: Path) -> None:
    (disk / "payload").write_bytes(b"old" * CHUNK)
    list(files.upload("content/test/payload", source))
    assert digest(disk / "payload") == digest(source)


def test_an_upload_goes_on_where_an_earlier_one_stopped(
    files: RuntimeFiles, disk: Path, source: Path
) -> None:
    started = files.upload("content/test/payload", source)
    assert [next(started), next(started)] == [0, CHUNK]
    started.close()
    rest = list(files.upload("content/test/payload", source, resume=True))
    assert rest == [CHUNK, 2 * CHUNK, source.stat().st_size]
    assert digest(disk / "payload") == digest(source)


def test_a_token_that_expires_in_the_middle_of_an_upload_costs_no_byte(
    account: Colab, files: RuntimeFiles, disk: Path, source: Path
) -> None:
    account.faults.expire_after_bytes = CHUNK + 6 * MIB
    list(files.upload("content/test/payload", source))
    assert account.faults.expire_after_bytes is None
    assert digest(disk / "payload") == digest(source)


def test_an_upload_over_short_connections_takes_smaller_chunks(
    account: Colab, files: RuntimeFiles, disk: Path, source: Path
) -> None:
    account.faults.cut_after_bytes = 4 * MIB
    list(files.upload("content/test/payload", source))
    assert digest(disk / "payload") == digest(source)


def test_a_chunk_whose_answer_was_lost_is_not_sent_twice(
    account: Colab, files: RuntimeFiles, line: RuntimeLine, disk: Path, source: Path
) -> None:
    begun = len(account.proxied(line.runtime.endpoint))
    for there in files.upload("content/test/payload", source):
        # from the end of the first chunk to that of the second: everything passes but the answer
        account.faults.cut_after_bytes = len(model(b"x" * CHUNK, 2)) + 1 if there == CHUNK else None
    sent = [one for one in account.proxied(line.runtime.endpoint)[begun:] if one.startswith("PUT")]
    assert len(sent) == 3
    assert digest(disk / "payload") == digest(source)


def test_a_file_that_somebody_else_made_longer_is_sent_again(
    files: RuntimeFiles, disk: Path, source: Path
) -> None:
    seen = []
    for there in files.upload("content/test/payload", source):
        seen.append(there)
        if seen == [0, CHUNK]:
            with (disk / "payload").open("ab") as file:
                file.write(b"from elsewhere")
    assert seen.count(0) == 2
    assert digest(disk / "payload") == digest(source)


def test_ranges_come_in_order_and_what_is_not_there_is_nothing(files: RuntimeFiles, disk: Path) -> None:
    (disk / "log").write_bytes(b"0123456789")
    (disk / "empty").write_bytes(b"")
    wanted = [
        Range("content/test/log", 4, 3),
        Range("content/test/none"),
        Range("/content/test/log", 8),
        Range("content/test/log", 10),
        Range("content/test/log", 5, 100),
        Range("content/test/empty"),
        Range("content/test/log", 0, 4),
        Range("content/test/log", 2, 0),
        Range("content/test"),
        Range("content/test/.hidden"),
    ]
    assert whole(files, *wanted) == [b"456", b"", b"89", b"", b"56789", b"", b"0123", b"", b"", b""]


def test_a_file_that_grows_is_read_on_from_where_it_was(files: RuntimeFiles, disk: Path) -> None:
    with (disk / "log").open("wb", buffering=0) as log:
        log.write(b"one\n")
        assert whole(files, Range("content/test/log")) == [b"one\n"]
        assert whole(files, Range("content/test/log", 4)) == [b""]
        log.write(b"two\n")
        assert whole(files, Range("content/test/log", 4)) == [b"two\n"]


@pytest.mark.parametrize("cut_after_bytes", [3 * MIB, 90_000])
def test_a_download_goes_on_over_cut_connections(
    account: Colab, files: RuntimeFiles, disk: Path, cut_after_bytes: int
) -> None:
    content = os.urandom(40 * cut_after_bytes if cut_after_bytes < MIB else 10 * MIB)
    (disk / "checkpoint").write_bytes(content)
    account.faults.cut_after_bytes = cut_after_bytes
    assert whole(files, Range("content/test/checkpoint", 1000)) == [content[1000:]]


def test_a_token_that_expires_in_the_middle_of_a_download_costs_no_byte(
    account: Colab, files: RuntimeFiles, line: RuntimeLine, disk: Path
) -> None:
    content = os.urandom(8 * MIB)
    (disk / "checkpoint").write_bytes(content)
    account.faults.cut_after_bytes = 3 * MIB
    begun = len(account.proxied(line.runtime.endpoint))
    got = b""
    for _, data in files.read([Range("content/test/checkpoint")]):
        if not got:
            account.expire_tokens()
        got += data
    assert got == content
    assert "GET /files/content/test/checkpoint 401" in account.proxied(line.runtime.endpoint)[begun:]


def test_a_runtime_taken_back_is_told_from_a_missing_file(
    account: Colab, files: RuntimeFiles, disk: Path, source: Path
) -> None:
    account.faults.gone_status = 404  # as a missing file's
    assert whole(files, Range("content/test/none")) == [b""]
    started = files.upload("content/test/payload", source)
    assert [next(started), next(started)] == [0, CHUNK]
    (disk / "large").write_bytes(bytes(40 * MIB))
    reading = files.read([Range("content/test/large")])
    next(reading)
    account.reclaim()
    with pytest.raises(Reclaimed):
        list(reading)
    with pytest.raises(Reclaimed) as caught:
        next(started)
    assert caught.value.code == "missing"
    with pytest.raises(Reclaimed):
        whole(files, Range("content/test/none"))
    with pytest.raises(Reclaimed):
        files.put("content/file", b"")
    with pytest.raises(Reclaimed):
        files.listing("content")


def test_a_full_disk_there_is_one_clear_line(
    files: RuntimeFiles, line: RuntimeLine, disk: Path, source: Path
) -> None:
    with Kernel(line, "fills") as kernel:
        kernel.execute("import os; os.makedirs('/content/test/small')")
        mounted = "import os; print(os.system('mount -t tmpfs -o size=1m tmpfs /content/test/small'))"
        said: list[str] = []
        kernel.execute(mounted, lambda output: said.append(output.text))
        assert "".join(said) == "0\n"
        try:
            for act in (
                lambda: list(files.upload("content/test/small/payload", source)),
                lambda: files.put("content/test/small/file", bytes(2 * MIB)),
            ):
                with pytest.raises(RemoteError, match="disk of Colab's runtime is full") as caught:
                    act()
                assert caught.value.code == "full"
        finally:
            kernel.execute("import os; os.system('umount /content/test/small')")


def test_folders_are_made_listed_searched_and_deleted(files: RuntimeFiles, disk: Path) -> None:
    for _ in range(2):
        files.make_folder("/content/test/a/b c/d")
    (disk / "a/one.json").write_text("{}")
    (disk / "a/b c/two ä.json").write_text("[1]")
    (disk / "a/b c/d/three.txt").write_text("3")
    (disk / "a/.hidden.json").write_text("{}")
    (disk / "a/b c/d/circle").symlink_to("..")
    assert {(entry.name, entry.is_folder, entry.size_bytes) for entry in files.listing("content/test/a")} == {
        ("b c", True, 0),
        ("one.json", False, 2),
    }
    found = files.find("content/test/a", ["*.json"])
    assert sorted(path for path, _, _ in found) == ["b c/two ä.json", "one.json"]
    for path, size, changed in found:
        assert size == (disk / "a" / path).stat().st_size
        assert abs(changed - (disk / "a" / path).stat().st_mtime) < 0.01
    assert whole(files, Range("content/test/a/b c/two ä.json")) == [b"[1]"]
    assert (files.size("content/test/a/one.json"), files.size("content/test/a"), files.size("nowhere")) == (
        2,
        None,
        None,
    )
    assert files.listing("content/test/nowhere") == files.find("content/test/nowhere", ["*"]) == []


def test_a_folder_goes_with_its_files_but_nothing_deeper_does(files: RuntimeFiles, disk: Path) -> None:
    (disk / "folder/deeper").mkdir(parents=True)
    for name in ("folder/one", "folder/two", "folder/deeper/kept"):
        (disk / name).write_text("x")
    (disk / "folder/link").symlink_to("deeper")
    with pytest.raises(RemoteError, match="deleting /content/test/folder"):
        files.delete("content/test/folder")
    assert (disk / "folder/deeper/kept").read_text() == "x"
    (disk / "folder/link").unlink()
    for path in ("folder/deeper", "folder", "folder"):
        files.delete(f"content/test/{path}")
    assert not (disk / "folder").exists()


@pytest.mark.parametrize("path", ["content/../etc/passwd", "content//x", "", "content/./x", "content/\0"])
def test_a_path_that_leads_elsewhere_is_refused(hostile: Hostile, path: str) -> None:
    files = RuntimeFiles(hostile.line())
    for act in (lambda: whole(files, Range(path)), lambda: files.put(path, b""), lambda: files.listing(path)):
        with pytest.raises(RemoteError, match="is not a path"):
            act()
    assert hostile.seen == []


def test_a_hidden_name_is_refused_there_in_one_line(files: RuntimeFiles, disk: Path) -> None:
    with pytest.raises(RemoteError, match=r"writing /content/test/\.hidden") as caught:
        files.put("content/test/.hidden", b"")
    assert "\n" not in caught.value.message


LIES = {
    "another range": Reply(206, b"xxxx", {"Content-Range": "bytes 0-3/100"}),
    "an earlier range": Reply(206, b"xxxx", {"Content-Range": "bytes 8-13/100"}),
    "no range": Reply(206, b"xxxx"),
    "a range without sense": Reply(206, b"xxxx", {"Content-Range": "bytes x-y/z"}),
    "a longer range": Reply(206, b"x" * 100, {"Content-Range": "bytes 10-109/200"}),
    "the whole file": Reply(200, b"x" * 100, {"Accept-Ranges": "bytes"}),
    "more bytes than said": Reply(206, (b"x" * 1000 for _ in range(1)), {"Content-Range": "bytes 10-13/20"}),
    "a compressed answer": Reply(
        206, b"\x1f\x8bxx", {"Content-Range": "bytes 10-13/20", "Content-Encoding": "gzip"}
    ),
    "a way elsewhere": Reply(302, b"", {"Location": "https://example.com/"}),
    "an error": Reply(500, b"<html>" + b"x" * 100_000),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_other_bytes_than_asked_for_are_never_handed_on(hostile: Hostile, lie: Reply) -> None:
    hostile.answers = [lie]
    got = []
    with pytest.raises(RemoteError) as caught:
        got += [data for _, data in RuntimeFiles(hostile.line()).read([Range("content/file", 10, 4)])]
    assert got == []
    assert_clear(caught.value)


def test_a_sign_in_page_is_no_file(hostile: Hostile) -> None:
    page = b"<!doctype html><title>Sign in to the hotel</title>"
    hostile.answers = [Reply(200, page, {"Content-Type": "text/html"})]
    files = RuntimeFiles(hostile.line())
    for act in (
        lambda: whole(files, Range("content/file")),
        lambda: files.listing("content"),
        lambda: files.size("content/file"),
    ):
        with pytest.raises(RemoteError) as caught:
            act()
        assert_clear(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b"null", b"\xff\xfe", b"", b'{"content": 5}'[:-1]],
    ids=["nested", "null", "bytes", "empty", "half"],
)
def test_a_listing_that_is_not_one_is_one_clear_line(hostile: Hostile, body: bytes) -> None:
    hostile.answers = [Reply(200, body)]
    with pytest.raises(RemoteError, match="instead of JSON") as caught:
        RuntimeFiles(hostile.line()).listing("content")
    assert_clear(caught.value)


def test_a_listing_without_end_is_left_before_it_fills_the_memory(hostile: Hostile) -> None:
    hostile.answers = [Reply(200, itertools.repeat(b" " * MIB))]
    with pytest.raises(RemoteError, match="more than 32 MB"):
        RuntimeFiles(hostile.line()).listing("content")
    assert hostile.sent_bytes < 64 * MIB


def test_names_that_lead_elsewhere_and_folders_without_end_are_left_out(hostile: Hostile) -> None:
    names = ["../evil", "a/b", "", ".hidden", "nul\\u0000", 5, None, "good"]
    listed = ",".join(
        f'{{"name": {name if not isinstance(name, str) else chr(34) + name + chr(34)}, "type": "file"}}'.replace(
            "None", "null"
        )
        for name in names
    )
    hostile.answers = [Reply(200, f'{{"content": [5, {listed}]}}'.encode())]
    assert RuntimeFiles(hostile.line()).find("content", ["*"]) == [("good", 0, 0.0)]
    deeper = '{"content": [{"name": "%d", "type": "directory"}]}'
    hostile.answers = lambda seen: Reply(200, (deeper % len(hostile.seen)).encode())
    with pytest.raises(RemoteError, match="too many files or folders"):
        RuntimeFiles(hostile.line()).find("content", ["*"])


def test_a_runtime_that_takes_no_token_is_asked_a_few_times_only(hostile: Hostile) -> None:
    hostile.answers = [Reply(401)]
    with pytest.raises(LauncherError, match="does not accept the token"):
        RuntimeFiles(hostile.line()).size("content/file")
    assert len(hostile.seen) < 5


def test_the_proxy_token_travels_in_a_header_and_shows_nowhere(hostile: Hostile) -> None:
    hostile.answers = [Reply(500, b'{"message": "no"}')]
    line = hostile.line()
    with pytest.raises(RemoteError) as caught:
        RuntimeFiles(line).size("content/file")
    (seen,) = hostile.seen
    assert seen.headers["x-colab-runtime-proxy-token"] == "proxy-token"
    assert "proxy-token" not in seen.path + caught.value.message + caught.value.hint + repr(line.runtime)


def test_a_runtime_that_nobody_can_reach_is_unreachable_and_not_gone(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.targets.colab.ranged.DELAYS_S", (0.01, 0.01))
    line = hostile.line()
    hostile.stop()
    with pytest.raises(Unreachable) as caught:
        whole(RuntimeFiles(line), Range("content/file"))
    assert_clear(caught.value)


def assert_clear(error: LauncherError) -> None:
    """One line that a person can read, and none of the other side's megabytes."""
    assert "\n" not in error.message
    assert error.message.isprintable()
    assert len(error.message) < 300
