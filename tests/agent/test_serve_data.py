"""The steward's data: contents by their hash, trees of links to them, and every damage found and mended."""

import hashlib
import os
import stat
import subprocess
import threading

import pytest

from launcher.agent import datastore, records
from launcher.errors import RemoteError
from launcher.hosts.local import LocalHost


def sha(data):
    return hashlib.sha256(data).hexdigest()


def listed(contents):
    return sorted([path, len(data), sha(data)] for path, data in contents.items())


def put(steward, *contents):
    files = [[sha(data), len(data)] for data in contents]
    return steward.call("data_put", b"".join(contents), files=files)


def tree(steward, contents):
    files = listed(contents)
    digest = records.tree_digest(files)
    return digest, steward.call("data_tree", datastore.encode(files), digest=digest)["lacks"]


def bring(steward, contents):
    put(steward, *contents.values())
    digest, lacks = tree(steward, contents)
    assert lacks == []
    return digest


def whole(steward, *digests):
    return steward.call("data_have", digests=list(digests))["whole"]


@pytest.fixture
def root(tmp_path, steward):
    return tmp_path / "root"


PICTURES = {"a b/1.png": b"one", "a b/2\n.png": b"two", "ü": b"one", "empty": b""}


def test_a_tree_is_complete_read_only_and_shares_its_contents(steward, root):
    digest = bring(steward, PICTURES)

    base = root / "data/trees" / digest
    assert {str(p.relative_to(base)): p.read_bytes() for p in base.rglob("*") if p.is_file()} == PICTURES
    assert stat.S_IMODE((base / "a b").stat().st_mode) == 0o555
    assert (base / "ü").stat().st_mode & 0o777 == 0o444
    assert (base / "ü").stat().st_ino == (base / "a b/1.png").stat().st_ino
    assert (base / "ü").stat().st_mtime_ns == datastore.WRITTEN_NS
    assert len(os.listdir(root / "data/blobs")) == 3
    assert whole(steward, digest) == [True]


def test_a_single_file_is_a_file(steward, root):
    digest = bring(steward, {"": b"words"})
    assert (root / "data/trees" / digest).read_bytes() == b"words"
    assert whole(steward, digest) == [True]


def test_contents_that_are_not_what_was_said_get_no_name(steward, root):
    files = [[sha(b"good"), 4], [sha(b"lie!"), 4]]
    assert steward.call("data_put", b"goodgood", files=files) == {"wrong": [1]}
    assert os.listdir(root / "data/blobs") == [sha(b"good")]


def test_an_upload_that_ends_early_keeps_what_is_whole(steward, root):
    with pytest.raises(RemoteError) as error:
        steward.call("data_put", b"goodba", files=[[sha(b"good"), 4], [sha(b"bad!"), 4]])
    assert error.value.code == "bad"
    assert os.listdir(root / "data/blobs") == [sha(b"good")]


def test_a_tree_says_what_it_lacks_and_has_no_name_until_it_is_complete(steward, root):
    put(steward, b"one")
    digest, lacks = tree(steward, PICTURES)
    assert [listed(PICTURES)[place][0] for place in lacks] == ["a b/2\n.png", "empty"]
    assert not (root / "data/trees" / digest).exists()
    assert whole(steward, digest) == [False]


def test_a_manifest_of_another_digest_is_refused(steward, root):
    with pytest.raises(RemoteError, match="not the one"):
        steward.call("data_tree", datastore.encode(listed(PICTURES)), digest=sha(b"x"))


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a//b", "a/./b", "", "a\0b"])
def test_a_path_that_leads_out_of_the_source_is_refused(steward, root, path):
    put(steward, b"one")
    files = sorted([["fine", 3, sha(b"one")], [path, 3, sha(b"one")]])
    with pytest.raises(RemoteError) as error:
        steward.call("data_tree", datastore.encode(files), digest=records.tree_digest(files))
    assert error.value.code == "bad"
    assert not (root / "data/up").exists()


def test_a_write_through_a_tree_is_seen_and_mended_in_every_tree(steward, root):
    first, second = bring(steward, PICTURES), bring(steward, {"x": b"one", "y": b"other"})
    with open(root / "data/trees" / first / "ü", "r+b") as file:
        file.write(b"ONE")

    assert whole(steward, first, second) == [False, False]
    assert steward.call("data_lacks", files=[[sha(b"one"), 3], [sha(b"two"), 3]])["lacks"] == [0]
    put(steward, b"one")
    assert (tree(steward, PICTURES)[1], tree(steward, {"x": b"one", "y": b"other"})[1]) == ([], [])

    assert whole(steward, first, second) == [True, True]
    assert (root / "data/trees" / second / "x").read_bytes() == b"one"


def test_what_was_added_or_removed_in_a_tree_is_mended(steward, root):
    digest = bring(steward, PICTURES)
    base = root / "data/trees" / digest
    for folder in (base, base / "a b"):
        folder.chmod(0o755)
    (base / "new").write_text("x")
    (base / "ü").unlink()
    (base / "a b/1.png").unlink()
    (base / "a b/2\n.png").unlink()
    (base / "a b").rmdir()
    assert whole(steward, digest) == [False]

    assert tree(steward, PICTURES)[1] == []

    assert whole(steward, digest) == [True]
    assert not (base / "new").exists()
    assert stat.S_IMODE(base.stat().st_mode) == 0o555


def test_a_mere_touch_is_taken_back_without_sending_anything(steward, root):
    digest = bring(steward, PICTURES)
    os.utime(root / "data/trees" / digest / "ü")
    assert whole(steward, digest) == [True]
    tree(steward, PICTURES)
    assert (root / "data/trees" / digest / "ü").stat().st_mtime_ns == datastore.WRITTEN_NS


def test_a_folder_where_a_file_was_is_replaced(steward, root):
    digest = bring(steward, PICTURES)
    base = root / "data/trees" / digest
    base.chmod(0o755)
    (base / "ü").unlink()
    (base / "ü").mkdir()
    assert tree(steward, PICTURES)[1] == []
    assert whole(steward, digest) == [True]


def test_a_damaged_manifest_is_found_and_written_again(steward, root):
    digest = bring(steward, PICTURES)
    path = root / "data/manifests" / f"{digest}.json"
    path.chmod(0o600)
    path.write_text("[]")
    assert whole(steward, digest) == [False]
    tree(steward, PICTURES)
    assert whole(steward, digest) == [True]


def test_a_large_blob_arrives_by_the_common_way_and_looks_like_the_others(steward, root):
    data = os.urandom(3 << 20)
    args = {"path": f"data/blobs/{sha(data)}", "size": len(data), "sha256": sha(data), "offset": 0}
    for _ in range(2):  # the second time it is there already
        steward.call("put", data, mode=0o444, mtime_ns=datastore.WRITTEN_NS, **args)
    assert bring(steward, {"large": data, "small": b"x"})
    assert os.listdir(root / "blobs") == []


def test_two_clients_bring_the_same_at_once(steward, tmp_path):
    contents = {f"{n:04}": b"%d" % (n % 150) for n in range(300)}
    hosts = [LocalHost(tmp_path / "root") for _ in range(3)]
    failures = []

    def work(host):
        try:
            bring(host.steward(), contents)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for host in hosts:
        host.close()

    assert failures == []
    digest = records.tree_digest(listed(contents))
    assert whole(steward, digest) == [True]
    assert os.listdir(tmp_path / "root/data/trees") == [digest]
    assert len(os.listdir(tmp_path / "root/data/blobs")) == 150


def test_a_segment_is_given_its_sources(steward, root):
    digest = bring(steward, PICTURES)
    steward.call("mkdir", path="runs/r/0")
    for _ in range(2):
        steward.call("data_use", folder="runs/r/0", sources={"train": digest}, links=True)
    segment = root / "runs/r/0"
    assert (segment / "data/train/ü").read_bytes() == b"one"
    assert datastore.load(segment / "sources/train.json", digest) == listed(PICTURES)
    assert os.listdir(segment / "data") == ["train"]
    steward.call("remove", path="runs/r")
    assert whole(steward, digest) == [True]


def test_the_cache_says_what_it_holds(steward, root):
    assert steward.call("data_kept") == {"sources": 0, "blobs": 0, "size_bytes": 0}
    bring(steward, PICTURES)
    assert steward.call("data_kept") == {"sources": 1, "blobs": 3, "size_bytes": 6}


@pytest.fixture
def small_disk(root):
    """The machine's data on a disk of 4 MiB."""
    disk = root / "data"
    disk.mkdir(parents=True)
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", "size=4m,mode=1777", "none", str(disk)], check=True)
    yield disk
    subprocess.run([*sudo, "umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_up_on_the_way_keeps_what_is_whole_and_nothing_else(steward, small_disk):
    contents = [bytes([i]) * (900 << 10) for i in range(8)]
    with pytest.raises(RemoteError) as raised:
        put(steward, *contents)
    assert raised.value.code == "full"
    kept = os.listdir(small_disk / "blobs")
    assert 1 <= len(kept) < 8
    assert set(kept) < {sha(data) for data in contents}
    assert all(sha((small_disk / "blobs" / name).read_bytes()) == name for name in kept)

    for name in kept[1:]:
        (small_disk / "blobs" / name).unlink()
    assert put(steward, contents[-1]) == {"wrong": []}
    assert sha(contents[-1]) in os.listdir(small_disk / "blobs")
