"""What comes home, under which name, and what stays."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from launcher.errors import IntegrityError
from launcher.vault import Home, digest_of
from tests.vault.helpers import checkpoint, folder, giving, lines, output, sha


@pytest.fixture
def home(tmp_path: Path):
    home = Home(tmp_path / "runs" / "a-abcdefgh")
    with home.writer():
        yield home


def visible(home: Home) -> list[str]:
    paths = (p.relative_to(home.path) for p in home.path.rglob("*") if not p.is_dir())
    return sorted(str(p) for p in paths if p.parts[0] not in (".launcher", "log.jsonl"))


def test_a_checkpoint_stands_under_its_name(home: Home) -> None:
    path = home.publish(checkpoint("epoch-1.pt", b"abc" * 1000), giving(b"abc" * 1000), 0)
    assert path == home.path / "checkpoints/epoch-1.pt"
    assert path.read_bytes() == b"abc" * 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    newest = home.newest_checkpoint()
    assert newest
    assert (newest.name, newest.digest, newest.path, newest.order) == (
        "epoch-1.pt",
        digest_of(path),
        path,
        (0, 1),
    )


def test_a_folder_stands_whole(home: Home) -> None:
    contents = {"model.safetensors": b"w" * 100, "deep/er/state": b"", "copy": b"w" * 100}
    remote = {f"checkpoints/step-2/{path}": data for path, data in contents.items()}
    path = home.publish(folder("step-2", contents), giving(remote), 0)
    assert {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()} == contents
    assert digest_of(path) == folder("step-2", contents).digest
    assert {p.stat().st_nlink for p in path.rglob("*") if p.is_file()} == {1}
    assert [c.name for c in Home(home.path).checkpoints()] == ["step-2"]


def test_an_empty_folder_and_an_empty_file_are_something(home: Home) -> None:
    home.publish(folder("empty", {}), giving(b""), 0)
    home.publish(output("empty.txt", b"", 2), giving(b""), 0)
    assert (home.path / "checkpoints/empty").is_dir()
    assert (home.path / "empty.txt").read_bytes() == b""
    assert home.missing(0, [folder("empty", {}), output("empty.txt", b"", 2)]) == []


@pytest.mark.parametrize("first", ["file", "folder"])
@pytest.mark.parametrize("second", ["file", "folder"])
def test_a_new_version_takes_the_name(home: Home, first: str, second: str) -> None:
    for number, kind in enumerate((first, second), 1):
        data = f"version {number}".encode()
        if kind == "file":
            path = home.publish(checkpoint("last", data, number), giving(data), 0)
        else:
            path = home.publish(folder("last", {"a": data}, number), giving(data), 0)
    found = path if second == "file" else path / "a"
    assert found.read_bytes() == b"version 2"
    assert visible(home) == [str(found.relative_to(home.path))]
    assert os.listdir(home.path / ".launcher/staging") == os.listdir(home.path / ".launcher/partial") == []


def test_an_older_version_does_not_come_back(home: Home) -> None:
    home.publish(checkpoint("last", b"new", 5), giving(b"new"), 0)
    home.publish(checkpoint("last", b"old", 4), giving(b"old"), 0)
    assert (home.path / "checkpoints/last").read_bytes() == b"new"
    assert home.missing(0, [checkpoint("last", b"old", 4)]) == []


def test_the_newest_is_by_publication_never_by_name_or_time_and_never_best(home: Home) -> None:
    for number, name in enumerate(["epoch-9", "epoch-1", "best.pt", "best"], 1):
        home.publish(checkpoint(name, name.encode(), number), giving(name.encode()), 0)
    os.utime(home.path / "checkpoints/epoch-9")
    newest, best = home.newest_checkpoint(), home.best_checkpoint()
    assert newest
    assert best
    assert (newest.name, best.name) == ("epoch-1", "best")
    home.close_segments(1)
    home.publish(checkpoint("a", b"a", 1), giving(b"a"), 1)
    assert [c.name for c in home.checkpoints()] == ["epoch-9", "epoch-1", "best.pt", "best", "a"]


def test_content_that_is_home_is_not_fetched_again(home: Home) -> None:
    def nothing(path: str, offset: int) -> list[bytes]:
        raise AssertionError(f"asked for {path}")

    home.publish(checkpoint("epoch-1", b"w" * 5000, 1), giving(b"w" * 5000), 0)
    path = home.publish(checkpoint("best", b"w" * 5000, 2), nothing, 0)
    home.publish(folder("f", {"x": b"w" * 5000}, 3), nothing, 0)
    assert path.read_bytes() == b"w" * 5000
    assert path.stat().st_nlink == 1


def test_the_same_bytes_published_anew_are_the_newest_without_a_transfer(home: Home) -> None:
    for number, name in enumerate(["a", "b"], 1):
        home.publish(checkpoint(name, name.encode(), number), giving(name.encode()), 0)
    again = checkpoint("a", b"a", 3)
    assert home.missing(0, [again, checkpoint("b", b"b", 2)]) == [again]
    home.publish(again, giving({}), 0)
    newest = home.newest_checkpoint()
    assert newest
    assert newest.name == "a"


def test_only_the_newest_stay_and_every_best(tmp_path: Path) -> None:
    home = Home(tmp_path / "r", keep=2)
    names = ["e1", "best.pt", "e2", "e3", "e1", "best"]
    published = [checkpoint(name, f"{name}{n}".encode(), n) for n, name in enumerate(names)]
    with home.writer():
        for artifact, n in zip(published, range(9), strict=False):
            home.publish(artifact, giving(f"{artifact.name}{n}".encode()), 0)
        assert [c.name for c in home.checkpoints()] == ["best.pt", "e3", "e1", "best"]
        assert sorted(os.listdir(home.path / "checkpoints")) == ["best", "best.pt", "e1", "e3"]
        assert home.missing(0, published) == []


def test_what_would_not_stay_is_not_fetched(tmp_path: Path) -> None:
    home = Home(tmp_path / "r", keep=1)
    published = [checkpoint(f"e{n}", b"%d" % n, n) for n in range(5)] + [checkpoint("best", b"b", 9)]
    assert [a.name for a in home.missing(0, published)] == ["e4", "best"]
    assert [a.name for a in Home(tmp_path / "r").missing(0, published)] == [
        "e0",
        "e1",
        "e2",
        "e3",
        "e4",
        "best",
    ]


def test_a_file_changed_at_home_is_missing_and_one_that_was_copied_is_not(home: Home) -> None:
    artifact = checkpoint("a", b"abc")
    path = home.publish(artifact, giving(b"abc"), 0)
    os.utime(path, ns=(1, 1))
    assert Home(home.path).missing(0, [artifact]) == []
    path.write_bytes(b"abd")
    assert Home(home.path).missing(0, [artifact]) == [artifact]
    assert Home(home.path).checkpoints() == []
    home.publish(artifact, giving(b"abc"), 0)
    assert path.read_bytes() == b"abc"


def test_outputs_lie_under_their_own_names(home: Home) -> None:
    data = {"a.txt": b"a", "plots/loss.png": b"b", "plots/deep/x": b"c"}
    for number, (name, content) in enumerate(data.items(), 1):
        home.publish(output(name, content, number), giving(data), 0)
    assert {name: found.path.read_bytes() for name, found in home.outputs().items()} == data
    assert visible(home) == sorted(data)


def test_a_later_segments_file_wins_even_over_a_folder(home: Home) -> None:
    home.publish(output("plots/a", b"a"), giving(b"a"), 0)
    home.publish(output("table", b"t", 2), giving(b"t"), 0)
    home.close_segments(1)
    home.publish(output("plots", b"p", 1), giving(b"p"), 1)
    home.publish(output("table/x", b"x", 2), giving(b"x"), 1)
    assert visible(home) == ["plots", "table/x"]


def test_many_outputs_come_with_one_question(home: Home) -> None:
    data = {f"d{n % 7}/f{n}": b"%d" % (n % 50) for n in range(400)}
    asked: list[int] = []

    def reader(wanted):  # type: ignore[no-untyped-def]
        asked.append(len(wanted))
        for index, (path, offset) in enumerate(wanted):
            yield index, data[path][offset:]

    outputs = [output(name, content, number) for number, (name, content) in enumerate(data.items())]
    paths = home.publish_all(outputs, reader, 0)
    assert [path.read_bytes() for path in paths] == list(data.values())
    assert asked == [50]
    assert home.missing(0, outputs) == []


def test_of_many_the_right_ones_come_home_though_one_is_wrong(home: Home) -> None:
    data = {"a": b"a", "b": b"B", "c": b"c"}

    def reader(wanted):  # type: ignore[no-untyped-def]
        for index, (path, _) in enumerate(wanted):
            yield index, data[path]

    with pytest.raises(IntegrityError, match="b is not the announced"):
        home.publish_all([output(n, n.encode(), i) for i, n in enumerate("abc")], reader, 0)
    assert visible(home) == ["a", "c"]


def test_a_cut_transfer_goes_on_where_it_was(home: Home) -> None:
    data = os.urandom(300_000)
    artifact = checkpoint("big", data)
    offsets = []

    def cut(path: str, offset: int):  # type: ignore[no-untyped-def]
        offsets.append(offset)
        yield data[offset : offset + 100_000]
        raise ConnectionError("cut")

    for _ in range(2):
        with pytest.raises(ConnectionError):
            home.publish(artifact, cut, 0)
    assert home.partial_size(artifact.files[0]) == 200_000
    home.unlock()
    with home.writer():
        home.publish(artifact, giving(data), 0)
        assert (home.path / "checkpoints/big").read_bytes() == data
        assert offsets == [0, 100_000]
        home.try_lock()


def test_a_damaged_partial_file_is_fetched_anew_once(home: Home) -> None:
    data = os.urandom(3000)
    artifact = checkpoint("big", data)
    (home.path / ".launcher/partial" / artifact.digest).write_bytes(b"x" * 1000)
    home.publish(artifact, giving(data), 0)
    assert (home.path / "checkpoints/big").read_bytes() == data


def test_a_closed_segment_publishes_nothing_more(home: Home) -> None:
    home.close_segments(1)
    assert home.missing(0, [checkpoint("a", b"a")]) == []
    with pytest.raises(IntegrityError, match="segment 0 is over"):
        home.publish(checkpoint("a", b"a"), giving(b"a"), 0)
    assert Home(home.path).missing(0, [checkpoint("a", b"a")]) == []


def test_reserved_names_get_job_behind(home: Home) -> None:
    names = ["log.jsonl", "late.3.jsonl", "log.1.jsonl", "capsule.json", "sub/log.jsonl", "checkpoints"]
    paths = [home.publish(output(n, n.encode(), i), giving(n.encode()), 0) for i, n in enumerate(names)]
    expected = ["log.jsonl.job", "late.3.jsonl.job", "log.1.jsonl.job", "capsule.json.job"]
    assert [str(p.relative_to(home.path)) for p in paths] == [*expected, "sub/log.jsonl", "checkpoints.job"]
    assert home.names()["capsule.json.job"] == "capsule.json"
    also = home.publish(output("capsule.json.job", b"x", 9), giving(b"x"), 0)
    assert also.read_bytes() == b"x"
    assert (home.path / "capsule.json.job").read_bytes() == b"capsule.json"


def test_names_that_differ_by_case_or_accents_alone_are_encoded(home: Home) -> None:
    names = ["a.txt", "A.txt", "d/x", "D/x", "caf\u00e9", "cafe\u0301", "LOG.jsonl", ".Launcher/lock"]
    paths = [home.publish(output(n, n.encode(), i), giving(n.encode()), 0) for i, n in enumerate(names)]
    assert [path.read_bytes().decode() for path in paths] == names
    found = [str(path.relative_to(home.path)) for path in paths]
    assert len({name.casefold() for name in found}) == len(names)
    assert found[:2] == ["a.txt", "%41.%74%78%74"]
    assert home.names()["%44/x"] == "D/x"
    again = Home(home.path).outputs()
    assert {again[name].path.read_bytes().decode() for name in names} == set(names)


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        'it\'s "quoted"',
        "line\nfeed",
        "tab\t",
        "\u65e5\u672c\u8a9e",
        "-rf",
        "$(x)",
        "a\\b",
        "\x1b[31m",
        "😀",
        "~",
        "#",
        " ",
    ],
)
def test_odd_names_come_home_as_they_are(home: Home, name: str) -> None:
    path = home.publish(output(f"sub/{name}", b"x"), giving(b"x"), 0)
    assert path == home.path / "sub" / name
    assert Home(home.path).outputs()[f"sub/{name}"].path.read_bytes() == b"x"
    home.publish(checkpoint(name, b"y", 2), giving(b"y"), 0)
    assert home.newest_checkpoint().path.name == name  # type: ignore[union-attr]


def test_a_name_that_the_disk_cannot_hold_gets_another(home: Home) -> None:
    name = "ü" * 300
    path = home.publish(output(name, b"x"), giving(b"x"), 0)
    assert path.read_bytes() == b"x"
    assert home.names() == {path.name: name}


def test_the_capsule_is_replaced_whole_and_tells_other_names(home: Home) -> None:
    home.publish(output("capsule.json", b"x"), giving(b"x"), 0)
    home.write_capsule({"id": "a", "names": "?"})
    Home(home.path).write_capsule({"id": "b"})
    assert home.capsule() == {"id": "b", "names": {"capsule.json.job": "capsule.json"}}
    assert json.loads((home.path / "capsule.json").read_text())["id"] == "b"
    assert Home(home.path / "none").capsule() is None


def test_reading_makes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "none")
    assert (home.checkpoints(), home.outputs(), home.names(), home.last_seq, home.tail(0)) == (
        [],
        {},
        {},
        0,
        (0, b""),
    )
    assert home.missing(0, []) == []
    assert not home.path.exists()
    with pytest.raises(RuntimeError):
        home.append_log(lines(1, 1), 0)


def test_one_writes_at_a_time(home: Home) -> None:
    other = Home(home.path)
    assert not other.try_lock()
    other.unlock()
    assert home.try_lock()
    home.unlock()
    assert not other.try_lock()
    home.unlock()
    assert other.try_lock()
    other.unlock()


def test_the_digest_of_what_is_home_is_the_published_one(home: Home) -> None:
    path = home.publish(checkpoint("a", b"a"), giving(b"a"), 0)
    assert digest_of(path) == sha(b"a")
