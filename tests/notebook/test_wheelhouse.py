"""Collected environments: the wheels that an installer on Linux would choose, each with its locked hash."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import environment
from launcher.errors import IntegrityError, Refused, Unreachable
from launcher.job.spec import Environment
from launcher.lock import Lock, Pin, parse_lock
from launcher.notebook import frozen, wheelhouse, wheels

X86 = "manylinux_2_17_x86_64"
FILES = {
    "six-1.0-py2.py3-none-any.whl": b"pure",
    "fast-2.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": b"for 3.12 on Linux",
    "fast-2.0-cp312-cp312-manylinux_2_39_x86_64.whl": b"for a newer glibc",
    "fast-2.0-cp313-cp313-manylinux_2_17_x86_64.whl": b"for 3.13",
    "fast-2.0-cp312-cp312-macosx_11_0_arm64.whl": b"for a Mac",
    "fast-2.0-py3-none-any.whl": b"slow",
    "torch-3.0+cu128-cp310-abi3-manylinux_2_28_x86_64.whl": b"a build of its own",
    "source-1.0.tar.gz": b"no wheel",
}


def sha256(name: str) -> str:
    return hashlib.sha256(FILES[name]).hexdigest()


class Index(http.server.BaseHTTPRequestHandler):
    """The pages of a package index, as HTML or as JSON, and its files."""

    def __init__(self, as_json: bool, *args: object) -> None:
        self.as_json = as_json
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        data = FILES.get(parts[-1].replace("%2B", "+"), b"") if parts[0] == "files" else self.page(parts[-1])
        self.send_response(200 if data else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def page(self, project: str) -> bytes:
        names = [name for name in FILES if name.startswith(project + "-")]
        if not names:
            return b""
        if self.as_json:
            files = [{"filename": n, "url": f"/files/{n}", "hashes": {"sha256": sha256(n)}} for n in names]
            return json.dumps({"files": files}).encode()
        links = [f'<a href="/files/{n.replace("+", "%2B")}#sha256={sha256(n)}">{n}</a>' for n in names]
        return f"<html><body>{''.join(links)}</body></html>".encode()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["json", "html"])
def index(request: pytest.FixtureRequest) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Index, request.param))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()
    thread.join()


def pin(name: str, version: str, *without: str) -> Pin:
    known = [f"sha256:{sha256(one)}" for one in FILES if one.startswith(name + "-") and one not in without]
    return Pin(name, version, tuple(known))


def lock_of(index: str, *pins: Pin) -> Lock:
    lines = [f"--index-url {index}", *(one.text for one in pins)]
    return parse_lock(("# launcher-lock: 1\n# python: cpython 3.12.1\n" + "\n".join(lines) + "\n").encode())


def test_the_best_wheel_for_the_platforms_is_chosen(index: str) -> None:
    found = wheels.choose(pin("fast", "2.0"), "3.12.1", [index])
    assert found.filename == "fast-2.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    assert found.stored == found.filename + ".bin"
    assert found.sha256 == sha256(found.filename)


def test_a_wheel_that_is_not_locked_is_never_chosen(index: str) -> None:
    best = "fast-2.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    found = wheels.choose(pin("fast", "2.0", best), "3.12", [index])
    assert found.filename == "fast-2.0-py3-none-any.whl"


def test_a_build_of_its_own_keeps_its_name_beside_a_plain_one(index: str) -> None:
    found = wheels.choose(pin("torch", "3.0+cu128"), "3.12", [index])
    assert found.filename == "torch-3.0+cu128-cp310-abi3-manylinux_2_28_x86_64.whl"
    assert "+" not in found.stored


def test_a_package_without_a_wheel_is_refused(index: str) -> None:
    with pytest.raises(Refused, match=r"source 1\.0 has no wheel for Python 3\.12 on linux x86_64"):
        wheels.choose(pin("source", "1.0"), "3.12", [index])


def test_indexes_are_asked_in_the_locks_order(index: str) -> None:
    text = f"--index-url {index}\n--extra-index-url https://x.example/simple\n{pin('six', '1.0').text}\n"
    lock = parse_lock(text.encode())
    assert wheels.indexes(lock, "auto") == ("https://x.example/simple", index)
    assert wheels.indexes(lock, "cu128")[0] == "https://download.pytorch.org/whl/cu128"


def test_everything_is_fetched_once_and_listed_last(index: str, tmp_path: Path) -> None:
    lock = lock_of(index, pin("fast", "2.0"), pin("six", "1.0"))
    plan = environment.plan(Environment(), lock, "x86_64")
    files = {file.name: file for file in wheelhouse.collect(plan, lock, tmp_path)}
    wanted = [wheels.choose(pin(*one), "3.12", [index]).stored for one in (("fast", "2.0"), ("six", "1.0"))]
    assert sorted(files) == sorted([*wanted, "uv.bin", "wheelhouse.json"])
    for file in files.values():
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
    told = json.loads(files["wheelhouse.json"].path.read_bytes())
    assert sorted(told["wheels"].values()) == sorted(wanted)
    assert [f.name for f in wheelhouse.fetching(plan, lock, tmp_path)] == []


def test_a_part_that_was_cut_off_or_damaged_is_fetched_again(index: str, tmp_path: Path) -> None:
    lock = lock_of(index, pin("six", "1.0"))
    plan = environment.plan(Environment(), lock, "x86_64")
    name = "six-1.0-py2.py3-none-any.whl.bin"
    tmp_path.joinpath(name).write_bytes(b"damaged")
    tmp_path.joinpath(name + ".part").write_bytes(b"pu")
    found = {file.name: file.path.read_bytes() for file in wheelhouse.collect(plan, lock, tmp_path)}
    assert found[name] == b"pure"


def test_a_file_with_other_content_is_never_kept(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = wheels.choose(pin("six", "1.0"), "3.12", [index])
    monkeypatch.setitem(FILES, "six-1.0-py2.py3-none-any.whl", b"evil")
    with pytest.raises(IntegrityError, match=r"six-1\.0-py2\.py3-none-any\.whl\.bin"):
        wheelhouse._download(chosen, tmp_path / chosen.stored)
    assert not (tmp_path / chosen.stored).exists()


def test_an_index_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    lock = lock_of("http://127.0.0.1:9/simple", pin("six", "1.0"))
    plan = environment.plan(Environment(), lock, "x86_64")
    with pytest.raises(Unreachable):
        wheelhouse.collect(plan, lock, tmp_path)
    assert wheelhouse.listed(tmp_path) == []


def test_a_finished_environment_names_each_folder_before_what_is_in_it(tmp_path: Path) -> None:
    """Its parts are unpacked side by side; a tar that has to guess a folder fails when another makes it first."""
    place = tmp_path / "python/ab/lib"
    (place / "deep").mkdir(parents=True)
    (place / "deep/x").write_text("x")
    (place / "deep/y").symlink_to("x")
    paths = ["python/ab/lib/deep/x", "python/ab/lib/deep/y"]
    members = [info for info, _ in frozen._members(tmp_path, paths)]
    assert [info.name for info in members] == [
        *("python", "python/ab", "python/ab/lib", "python/ab/lib/deep"),
        *paths,
    ]
    assert [info.isdir() for info in members] == [True] * 4 + [False] * 2
