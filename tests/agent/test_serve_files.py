"""The steward's files: nothing outside the root is touched, nothing half-written has a name."""

import hashlib
import os
import threading

import pytest

from launcher.errors import RemoteError


def sha(data):
    return hashlib.sha256(data).hexdigest()


def put(steward, data, path="up/file", **args):
    return steward.call("put", data, path=path, size=len(data), sha256=sha(data), **args)


def refused(steward, op, payload=b"", **args):
    with pytest.raises(RemoteError) as error:
        steward.call(op, payload, **args)
    return error.value.code


@pytest.fixture
def root(tmp_path, steward):
    return tmp_path / "root"


def test_a_file_arrives_whole_with_its_mode(steward, root):
    put(steward, b"hello", mode=0o640)
    assert (root / "up/file").read_bytes() == b"hello"
    assert (root / "up/file").stat().st_mode & 0o777 == 0o640
    assert list((root / "blobs").iterdir()) == []


def test_an_empty_file_arrives_too(steward, root):
    put(steward, b"")
    assert (root / "up/file").read_bytes() == b""


def test_what_has_another_hash_gets_no_name_and_leaves_nothing(steward, root):
    code = refused(steward, "put", b"hellO", path="up/file", size=5, sha256=sha(b"hello"))
    assert code == "bad"
    assert not (root / "up/file").exists()
    assert steward.call("partial", sha256=sha(b"hello")) == {"offset": 0}


def test_more_bytes_than_announced_are_refused(steward, root):
    assert refused(steward, "put", b"hello there", path="up/file", size=5, sha256=sha(b"hello")) == "bad"
    assert not (root / "up/file").exists()


def test_an_old_file_stays_when_the_new_one_is_bad(steward, root):
    put(steward, b"old")
    refused(steward, "put", b"bad", path="up/file", size=3, sha256=sha(b"new"))
    assert (root / "up/file").read_bytes() == b"old"
    put(steward, b"new")
    assert (root / "up/file").read_bytes() == b"new"


def test_an_upload_goes_on_where_it_stopped(steward, root):
    data = os.urandom(300_000)
    code = refused(steward, "put", data[:200_000], path="x", size=len(data), sha256=sha(data))
    assert code == "bad"
    assert steward.call("partial", sha256=sha(data)) == {"offset": 200_000}
    steward.call("put", data[200_000:], path="x", size=len(data), sha256=sha(data), offset=200_000)
    assert (root / "x").read_bytes() == data


def test_without_an_offset_it_goes_on_at_what_is_there(steward, root):
    data = os.urandom(1000)
    refused(steward, "put", data[:600], path="x", size=1000, sha256=sha(data))
    steward.call("put", data[600:], path="x", size=1000, sha256=sha(data))
    assert (root / "x").read_bytes() == data


def test_an_offset_beyond_what_is_there_is_refused(steward):
    assert refused(steward, "put", b"lo", path="x", size=5, sha256=sha(b"hello"), offset=3) == "bad"


def test_a_partial_file_that_was_harmed_is_found_out(steward, root):
    data = os.urandom(1000)
    refused(steward, "put", data[:600], path="x", size=1000, sha256=sha(data))
    part = root / "blobs" / f"{sha(data)}.part"
    part.write_bytes(bytes(600))
    assert refused(steward, "put", data[600:], path="x", size=1000, sha256=sha(data), offset=600) == "bad"
    put(steward, data, path="x", offset=0)
    assert (root / "x").read_bytes() == data


def test_partial_files_may_be_unwanted(steward):
    refused(steward, "put", b"he", path="x", size=5, sha256=sha(b"hello"), keep_partial=False)
    assert steward.call("partial", sha256=sha(b"hello")) == {"offset": 0}


def test_of_two_uploads_of_one_content_the_second_waits(steward, root):
    data = os.urandom(1000)
    go, seen = threading.Event(), threading.Event()

    def slowly():
        yield data[:500]
        seen.set()
        go.wait(10)
        yield data[500:]

    def upload(pieces, path):
        steward.call("put", pieces, path=path, size=1000, sha256=sha(data), offset=0)

    first = threading.Thread(target=upload, args=(slowly(), "x"))
    first.start()
    seen.wait(10)
    while steward.call("partial", sha256=sha(data))["offset"] < 500:
        pass
    second = threading.Thread(target=upload, args=(data, "y"))
    second.start()
    second.join(0.3)
    assert not (root / "y").exists()
    go.set()
    for each in (first, second):
        each.join(10)
    assert (root / "x").read_bytes() == (root / "y").read_bytes() == data
    assert list((root / "blobs").iterdir()) == []


@pytest.mark.parametrize("digest", ["", "x" * 64, "../../etc/passwd", "A" * 64, None, 7])
def test_only_a_sha256_names_a_partial_file(steward, digest):
    assert refused(steward, "put", b"x", path="x", size=1, sha256=digest) == "bad"


@pytest.mark.parametrize(
    "path", ["../out", "/tmp/out-of-root", "a/../../out", ".", "", "a/..", "link/out", "link"]
)
def test_nothing_is_written_or_removed_outside_the_root(steward, root, tmp_path, path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "out").write_text("theirs")
    (root / "link").symlink_to(outside)
    (root / "file").write_text("x")
    data = b"ours"
    if path != "link":
        assert refused(steward, "put", data, path=path, size=4, sha256=sha(data)) in ("denied", "bad")
        assert refused(steward, "link", **{"from": "file", "to": path}) in ("denied", "bad")
        assert refused(steward, "remove", path=path) in ("denied", "bad")
    else:
        steward.call("remove", path=path)
    assert (outside / "out").read_text() == "theirs"
    assert not os.path.exists("/tmp/out-of-root")


def test_a_link_is_the_same_file(steward, root):
    put(steward, b"hello", path="bundles/a")
    steward.call("link", **{"from": "bundles/a", "to": "runs/r/0/bundle.tar"})
    assert (root / "runs/r/0/bundle.tar").samefile(root / "bundles/a")
    steward.call("link", **{"from": "bundles/a", "to": "runs/r/0/bundle.tar"})
    assert [path.name for path in (root / "runs/r/0").iterdir()] == ["bundle.tar"]


def test_folders_go_with_all_that_is_in_them_but_not_what_links_lead_to(steward, root, tmp_path):
    (tmp_path / "theirs").write_text("stays")
    folder = root / "runs" / "r"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_text("x")
    (folder / "out").symlink_to(tmp_path)
    (folder / "deep" / "er").chmod(0o500)
    (folder / "deep").chmod(0o500)
    assert steward.call("remove", path="runs/r") == {"removed": True}
    assert steward.call("remove", path="runs/r") == {"removed": False}
    assert (tmp_path / "theirs").exists()


def test_have_means_regular_and_of_that_size(steward, root):
    (root / "file").write_text("hello")
    (root / "link").symlink_to("file")
    os.mkfifo(root / "fifo")
    files = [["file", 5], ["file", None], ["file", 4], ["link", 5], ["fifo", None], [".", None], ["no", None]]
    assert steward.call("have", files=files) == {"have": [True, True, False, False, False, False, False]}


def test_ranges_are_read_in_order_and_what_is_no_file_yields_nothing(steward, root):
    (root / "a").write_bytes(b"0123456789")
    (root / "link").symlink_to("a")
    os.mkfifo(root / "fifo")
    ranges = [
        ["a", 2, 3],
        ["no", 0, None],
        ["a", 8, 100],
        ["link", 0, None],
        ["fifo", 0, None],
        ["a", 50, None],
    ]
    stream = steward.stream("read", ranges=[*ranges, [".", 0, None], ["a", 0, 0]])
    found = []
    while True:
        try:
            header, data = next(stream)
            found.append((header["i"], data))
        except StopIteration as end:
            sizes = end.value["sizes"]
            break
    assert found == [(0, b"234"), (2, b"89")]
    assert sizes == [10, None, 10, None, None, 10, None, 10]


@pytest.mark.parametrize("size", [0, 1, 128 << 10, (128 << 10) + 1, 256 << 10, (1 << 20) + 1, 5_000_001])
def test_files_of_every_size_come_back_equal(steward, root, size):
    data = os.urandom(size)
    (root / "f").write_bytes(data)
    assert b"".join(piece for _, piece in steward.stream("read", ranges=[["f", 0, None]])) == data
    half = b"".join(piece for _, piece in steward.stream("read", ranges=[["f", size // 2, None]]))
    assert half == data[size // 2 :]


def test_a_file_that_shrinks_while_it_is_read_is_an_error(steward, root):
    path = root / "f"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    stream = steward.stream("read", ranges=[["f", 0, None]])
    next(stream)
    os.truncate(path, 1000)
    with pytest.raises(RemoteError, match="shorter"):
        for _ in stream:
            pass


def test_a_listing_goes_as_deep_as_asked_and_follows_no_links(steward, root):
    (root / "l" / "m" / "n").mkdir(parents=True)
    (root / "l" / "loop").symlink_to(root / "l")
    (root / "l" / "m" / "f").write_text("abc")
    listed = steward.call("list", path="l", depth=2)["entries"]
    assert [entry[:3:1] for entry in listed if entry[1] == "file"] == [["m/f", "file", 3]]
    assert {(entry[0], entry[1]) for entry in listed} == {
        ("loop", "link"),
        ("m", "folder"),
        ("m/f", "file"),
        ("m/n", "folder"),
    }
    assert len(steward.call("list", path="l", depth=1)["entries"]) == 2


def test_a_listing_of_names_that_match_looks_into_all_folders(steward, root):
    for name in ("a.tfevents.1", "b.txt", "deep/er/metrics.jsonl", "deep/A.TFEVENTS.2", "x*y/tfevents"):
        (root / "l" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "l" / name).write_text("abc")
    listed = steward.call("list", path="l", depth=9, match=["*tfevents*", "metrics.jsonl"])["entries"]
    assert [entry[0] for entry in listed] == ["a.tfevents.1", "deep/er/metrics.jsonl", "x*y/tfevents"]
    assert steward.call("list", path="l", match=[])["entries"] == []


def test_stat_tells_what_a_path_is(steward, root):
    (root / "f").write_text("abc")
    found = steward.call("stat", path="f")
    assert (found["kind"], found["size"]) == ("file", 3)
    assert steward.call("stat", path=".")["kind"] == "folder"
