"""Data through the whole chain: cuts, damage, lies, downloads, and what is refused before anything happens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.data.source import Source, keep
from launcher.errors import RemoteError
from launcher.runner.sources import result
from launcher.targets.data import bring, places
from tests.laptop import Laptop
from tests.runner.test_disk_full import small_disk
from tests.servers.programs import need
from tests.servers.web import Web

JOB = """
import hashlib, json, os, pathlib
data = pathlib.Path(os.environ["LAUNCHER_DATA"])
sources = sorted(data.iterdir())
files = [p for s in sources for p in (sorted(s.rglob("*")) if s.is_dir() else [s]) if p.is_file()]
for path in files:
    print(path.relative_to(data), hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop")
    made.ok("target", "add", "here", "local", "--docker", "never")
    try:
        yield made
    finally:
        made.close()


def there(laptop: Laptop) -> Path:
    return laptop.folder / ".launcher" / "data"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def folder(laptop: Laptop, files: dict[str, bytes]) -> Path:
    made = laptop.work / "pictures"
    for name, data in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(data)
    return made


def run(laptop: Laptop, job: Path, *words: str) -> Any:
    return laptop.launcher("run", str(job), "--on", "here", *words)


def capsule(laptop: Laptop) -> Any:
    return json.loads((Path(laptop.status()["out"]) / "capsule.json").read_text())


def error(laptop: Laptop, job: Path, *words: str) -> tuple[int, str]:
    """Exit code and the one line; no run was made."""
    done = run(laptop, job, *words)
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.err
    assert laptop.ok("--json", "ps", "-a").json["runs"] == []
    return done.code, lines[0]


# what is refused


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("./gone", "gone does not exist"),
        ("./empty", "has no files"),
        ("https://example.com/words", "has no SHA-256"),
        ("https://example.com/words#sha256=xyz", "has no SHA-256"),
        ("http://example.com/words#sha256=" + "0" * 64, "is not encrypted"),
        ("ftp://example.com/words", "is not supported"),
        ("/dev/null", "is a device"),
    ],
)
def test_a_bad_source_is_one_line_with_its_place(laptop: Laptop, source: str, said: str) -> None:
    job = laptop.job("bad", JOB)
    (job / "empty").mkdir()
    (job / "job.yaml").write_text(f"name: bad\nrun: python train.py\ndata:\n  train: {source}\n")

    code, line = error(laptop, job)

    assert code == 2
    assert f"{job}/job.yaml:4: data.train: " in line
    assert said in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train", "'train' is not KEY=SOURCE"),
        ("train=", "is not KEY=SOURCE"),
        ("a/b=./x", "is not a name for data"),
        ("train=./gone", "does not exist"),
        ("train=https://example.com/x", "has no SHA-256"),
    ],
)
def test_a_bad_option_is_one_line(laptop: Laptop, words: str, said: str) -> None:
    code, line = error(laptop, laptop.job("bad", JOB), "--data", words)
    assert code == 2
    assert said in line
    assert "--data" in line


def test_buckets_are_for_later(laptop: Laptop) -> None:
    code, line = error(laptop, laptop.job("bad", JOB, data={"train": "s3://bucket/prefix"}))
    assert code == 126
    assert "s3:// is not in this version" in line


# the option


def test_the_option_names_data_from_where_one_stands(laptop: Laptop) -> None:
    folder(laptop, {"a": b"1"})
    (laptop.work / "other").write_bytes(b"2")
    job = laptop.job("opt", JOB, data={"train": "./gone"})

    done = run(laptop, job, "--data", "train=pictures", "--data", "more=./other")

    assert done.code == 0, done.err
    assert done.out.splitlines() == [f"more {sha(b'2')}", f"train/a {sha(b'1')}"]
    assert capsule(laptop)["spec"]["data"] == {
        "train": str(laptop.work / "pictures"),
        "more": str(laptop.work / "other"),
    }


def test_the_home_of_a_run_is_data_of_another(laptop: Laptop) -> None:
    first = laptop.job("first", "import os; open(os.environ['LAUNCHER_OUT'] + '/model.bin', 'w').write('m')")
    assert run(laptop, first).code == 0
    home = Path(laptop.status()["out"])

    done = run(laptop, laptop.job("second", JOB), "--data", f"model={home}")

    assert f"model/model.bin {sha(b'm')}" in done.out
    assert ".launcher" not in done.out


# what happens on the way


def test_a_client_killed_in_the_upload_loses_only_what_was_in_flight(laptop: Laptop) -> None:
    need(strace="strace")
    assert run(laptop, laptop.job("warm", "")).code == 0  # so that only the data has to travel
    large = os.urandom(24 << 20)
    folder(laptop, {"large": large, **{f"{n:04}": b"%d" % n for n in range(500)}})
    job = laptop.job("cut", JOB, data={"train": "../pictures"})
    part = laptop.folder / ".launcher" / "blobs" / f"{sha(large)}.part"
    trace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=write",
        "-e",
        "inject=write:delay_enter=60000",
        "-o",
        os.devnull,
    ]
    client = laptop.start("run", str(job), "--on", "here", under=trace)
    laptop.wait_for(lambda: size(part) > 3 << 20, "a part of the large file")
    os.killpg(client.pid, signal.SIGKILL)
    client.communicate()
    laptop.wait_for(lambda: not held(part), "the end of the steward")
    sent = part.stat().st_size
    assert 0 < sent < len(large)
    assert len(list((there(laptop) / "blobs").iterdir())) == 500

    done = laptop.ok("attach", "last")

    assert f"train/large {sha(large)}" in done.out
    assert len(done.out.splitlines()) == 501


def size(path: Path) -> int:
    """0 when there is nothing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def held(path: Path) -> bool:
    """Whether some process has it open."""
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(fd) == str(path):
                return True
    return False


def test_what_a_stranger_did_to_the_cache_is_found_by_the_agent_and_mended_by_the_next_run(
    laptop: Laptop,
) -> None:
    folder(laptop, {"a": b"1" * 1000, "sub/b": b"2"})
    # the job itself is the stranger: after its agent has looked it writes through the links
    damage = JOB + "\nfor p in files: p.chmod(0o600); p.write_bytes(b'x')\n"
    assert run(laptop, laptop.job("vandal", damage, data={"train": "../pictures"})).code == 0
    detached = laptop.job("proper", JOB, data={"train": "../pictures"})

    done = run(laptop, detached)

    assert done.code == 0
    assert done.out.splitlines() == [f"train/a {sha(b'1' * 1000)}", f"train/sub/b {sha(b'2')}"]


def test_two_runs_share_one_copy_and_release_leaves_it(laptop: Laptop) -> None:
    folder(laptop, {"a": b"1"})
    for name in ("one", "two"):
        assert run(laptop, laptop.job(name, JOB, data={name: "../pictures"})).code == 0
    assert len(list((there(laptop) / "trees").iterdir())) == 1
    laptop.ok("release", "--all")
    assert [p.name for p in (there(laptop) / "blobs").iterdir()] == [sha(b"1")]


def test_no_room_is_said_with_figures_before_anything_is_sent(laptop: Laptop) -> None:
    with (folder(laptop, {"a": b"1"}) / "huge").open("wb") as file:
        file.truncate(400 << 20)
    job = laptop.job("full", JOB, data={"train": "../pictures"})
    with small_disk(laptop.folder / ".launcher", 300):
        done = run(laptop, job)

        assert done.code == 126, done.err
        assert "data train: 419.4MB would travel and " in done.err
        assert " are free on " in done.err
        assert not (there(laptop) / "blobs").exists()


def test_old_data_makes_room_for_new_and_a_line_says_so(laptop: Laptop) -> None:
    pictures = folder(laptop, {"old": os.urandom(1 << 20)})
    with (pictures / "old").open("r+b") as file:
        file.truncate(70 << 20)
    job = laptop.job("room", JOB, data={"train": "../pictures"})
    with small_disk(laptop.folder / ".launcher", 400):
        assert run(laptop, job).code == 0
        for used in (there(laptop) / "used").iterdir():
            os.utime(used, (1, 1))
        room = os.statvfs(there(laptop))
        free = room.f_bavail * room.f_frsize
        (pictures / "old").unlink()
        with (pictures / "new").open("wb") as file:
            file.truncate(free - (40 << 20))  # leaves less than the margin, unless the old goes

        done = run(laptop, job)

        assert done.code == 0, done.err
        assert "removed one source of data that no run needs now from local, to make room" in done.err
        assert len(list((there(laptop) / "trees").iterdir())) == 1


# downloads


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        server.files["/words.txt"] = b"words" * 1000
        yield server


def test_a_download_is_data_and_comes_once(laptop: Laptop, web: Web) -> None:
    wanted = sha(b"words" * 1000)
    url = f"{web.url('/words.txt')}#sha256={wanted}"
    job = laptop.job("web", JOB, data={"words": url})
    for _ in range(2):
        done = run(laptop, job)
        assert (done.code, done.out) == (0, f"words {wanted}\n")
    assert len(web.asked) == 1
    told = capsule(laptop)["data"]["words"]
    assert (told["source"], told["sha256"], told["size_bytes"], told["files"]) == (url, wanted, 5000, 1)
    assert len(told["digest"]) == 64


def test_a_download_of_another_hash_ends_with_one_line(laptop: Laptop, web: Web) -> None:
    url = f"{web.url('/words.txt')}#sha256={'0' * 64}"
    done = run(laptop, laptop.job("web", JOB, data={"words": url}))
    assert done.code == 125
    assert f"has the SHA-256 {sha(b'words' * 1000)}, and not {'0' * 64}" in done.err
    assert list((there(laptop) / "blobs").iterdir()) == []


# a server that lies


LIES: dict[str, Any] = {
    "places that there are not": [7],
    "places before the first": [-1],
    "a place twice": [0, 0],
    "text": ["0"],
    "true": [True],
    "no list": {"0": 0},
    "nothing": None,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_what_a_server_says_it_lacks_is_believed_only_of_what_it_was_asked(lie: Any) -> None:
    with pytest.raises(RemoteError, match="does not say which data it lacks"):
        places(lie, 2, "gpu1")


class Liar:
    """Answers everything with the same."""

    name = "gpu1"

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.hello = {"root": "/"}

    def call(self, *_: object, **__: object) -> dict[str, Any]:
        return self.answer


@pytest.mark.parametrize(
    "answer", [{}, {"whole": 7}, {"whole": [None], "lacks": [], "free_bytes": "all"}, {"blobs": 1}]
)
def test_nonsense_about_data_is_one_line(tmp_path: Path, answer: dict[str, Any]) -> None:
    (tmp_path / "file").write_text("x")
    files = [("", 1, sha(b"x"))]
    local = Source("train", str(tmp_path / "file"), tmp_path, keep(tmp_path, files), 1, 1)
    web = Source("words", "https://127.0.0.1:1/x#sha256=" + "0" * 64, tmp_path)
    with pytest.raises(RemoteError, match=r"gpu1 (does not say|answers about data as no agent does)"):
        result(bring(Liar(answer), [local, web]))
