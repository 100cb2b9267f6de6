"""The steward as a program: what it says first, how it ends, what it does with nonsense."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.agent.frames import Reader, encode
from launcher.errors import RemoteError

ROOT = Path(__file__).parents[2]


class Raw:
    """A steward process and its bare frames."""

    def __init__(self, root, code=""):
        code = code or "import sys; from launcher.agent.serve import main; main(sys.argv[1:])"
        command = [sys.executable, "-B", "-c", code, "--root", str(root)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._reader = Reader(lambda size, least: os.read(self.process.stdout.fileno(), size))

    def send(self, header, payload=b""):
        self.process.stdin.write(b"".join(encode(header, payload)))
        self.process.stdin.flush()

    def next(self):
        """The next frame that is no beat."""
        while True:
            frame = self._reader.next()
            if frame is None or not frame[0].get("beat"):
                return frame

    def ask(self, op, **args):
        self.send({"id": 1, "op": op, **args})
        return self.next()[0]


@pytest.fixture
def raw(tmp_path):
    steward = Raw(tmp_path / "root")
    yield steward
    steward.process.kill()
    steward.process.wait()
    for pipe in (steward.process.stdin, steward.process.stdout, steward.process.stderr):
        try:
            pipe.close()
        except BrokenPipeError:
            continue


def test_the_first_frame_is_a_hello_with_what_a_client_must_know(raw, tmp_path):
    hello = raw.next()[0]["hello"]
    assert hello["v"] == 1
    assert hello["root"] == str(tmp_path / "root")
    assert hello["uid"] == os.getuid()
    assert hello["system"] == os.uname().sysname
    assert abs(hello["time"] - time.time()) < 60
    assert hello["memory_bytes"] > 1 << 20
    wanted = {"python", "home", "gid", "user", "arch", "cpus", "executable"}
    assert wanted <= set(hello)


def test_it_beats_every_five_seconds(raw):
    raw.next()
    start = time.monotonic()
    assert raw._reader.next()[0] == {"id": 0, "beat": True}
    assert 4 < time.monotonic() - start < 8


def test_it_ends_when_its_stdin_does(raw):
    raw.next()
    raw.process.stdin.close()
    assert raw.process.wait(10) == 0


def test_it_ends_when_nobody_reads_and_its_stdin_ends(raw, tmp_path):
    raw.next()
    big = tmp_path / "big"
    with open(big, "wb") as file:
        file.truncate(1 << 30)
    raw.send({"id": 1, "op": "read", "ranges": [[str(big), 0, None]]})
    time.sleep(0.3)
    raw.process.stdin.close()
    assert raw.process.wait(15) == 0


def test_a_script_under_way_ends_with_it(raw, tmp_path):
    raw.next()
    raw.send({"id": 1, "op": "run_script", "argv": ["sh", "-c", f"echo $$ > {tmp_path}/pid; echo; sleep 60"]})
    raw.next()
    pid = int((tmp_path / "pid").read_text())
    raw.process.stdin.close()
    raw.process.wait(10)
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_unknown_requests_and_wrong_arguments_are_answered(raw):
    raw.next()
    for op, args in [("nonsense", {}), ("stat", {}), ("stat", {"path": 7}), ("stat", {"path": "a\0b"})]:
        assert raw.ask(op, **args)["error"]["code"] == "bad"
    assert raw.ask("__init__")["error"]["code"] == "bad"
    assert raw.ask("stat", path="x")["error"]["code"] == "missing"
    assert raw.ask("have", files=[])["result"] == {"have": []}


def test_frames_that_make_no_sense_end_it(raw):
    raw.next()
    raw.process.stdin.write(b"nonsense\n")
    raw.process.stdin.flush()
    raw.process.wait(10)
    assert b"no JSON where a header should be" in raw.process.stderr.read()


def test_what_a_module_prints_never_lands_between_frames(raw):
    raw.next()
    raw.send({"id": 1, "op": "run_script", "argv": ["sh", "-c", "echo direct > /dev/stderr"]})
    header, payload = raw.next()
    assert (header["stream"], payload) == ("stderr", b"direct\n")


def test_files_with_any_name_pass_through(steward, tmp_path):
    names = [
        "ü ñ 漢",
        'quo"te',
        "it's",
        "new\nline",
        "back\\slash",
        "$HOME `x` ;rm",
        "-rf",
        " ",
        "\ud83d\ude00",
    ]
    names.append(os.fsdecode(b"\xff\xfe not utf-8"))
    for name in names:
        steward.write(f"names/{name}", name.encode("utf-8", "replace"))
    listed = steward.call("list", path="names", depth=1)["entries"]
    assert sorted(entry[0] for entry in listed) == sorted([*names[:-2], "😀", names[-1]])
    ranges = [[f"names/{name}", 0, None] for name in names]
    found = [data for _, data in steward.stream("read", ranges=ranges)]
    assert found == [name.encode("utf-8", "replace") for name in names]


def test_the_agent_s_python_is_old_python(tmp_path):
    """No module of the machine side uses what Python 3.8 lacks in its grammar."""
    import ast

    for path in (ROOT / "launcher" / "agent").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_headers_of_any_size_pass(steward):
    files = [[f"no/such/file/{number}/" + "x" * 100, None] for number in range(30_000)]
    assert len(json.dumps(files)) > 3 << 20
    assert steward.call("have", files=files) == {"have": [False] * 30_000}


def test_big_results_pass(steward, tmp_path):
    folder = tmp_path / "root" / "many"
    folder.mkdir()
    for number in range(8000):
        (folder / f"{'x' * 150}{number}").touch()
    entries = steward.call("list", path="many")["entries"]
    assert len(entries) == 8000
    assert len(json.dumps(entries)) > 1 << 20


def test_errors_name_their_kind(steward, tmp_path):
    steward.call("mkdir", path="folder")
    steward.write("file", b"x")
    for op, args, code in [
        ("stat", {"path": "nothing"}, "missing"),
        ("list", {"path": "file"}, "missing"),
        ("mkdir", {"path": "file"}, "exists"),
        ("mkdir", {"path": "../outside"}, "denied"),
        ("link", {"from": "folder", "to": "copy"}, "bad"),
    ]:
        with pytest.raises(RemoteError) as error:
            steward.call(op, **args)
        assert error.value.code == code, op


def test_a_client_that_is_silent_is_given_up_and_what_it_held_is_free(tmp_path):
    root = tmp_path / "root"
    code = "import sys; from launcher.agent.serve import Server; Server(sys.argv[2], patience_s=1.0).serve()"
    gone, here = Raw(root, code), Raw(root)
    data = b"hello" * 1000
    words = {"path": "x", "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "offset": 0}
    try:
        gone.next()
        here.next()
        gone.send({"id": 1, "op": "put", "more": True, **words})
        gone.send({"id": 1}, data[:100])
        time.sleep(0.3)
        start = time.monotonic()
        here.send({"id": 1, "op": "put", **words}, data)
        while not (answer := here.next()[0]).get("end"):
            pass
        assert "result" in answer
        assert time.monotonic() - start < 5
        assert gone.process.wait(5) == 0
        assert b"silent" in gone.process.stderr.read()
    finally:
        for raw in (gone, here):
            raw.process.kill()
            raw.process.communicate()


def test_a_client_that_only_beats_is_kept(tmp_path):
    code = "import sys; from launcher.agent.serve import Server; Server(sys.argv[2], patience_s=0.5).serve()"
    raw = Raw(tmp_path / "root", code)
    try:
        raw.next()
        for _ in range(5):
            time.sleep(0.25)
            raw.send({"id": 0, "beat": True})
        assert raw.ask("have", files=[])["result"] == {"have": []}
    finally:
        raw.process.kill()
        raw.process.communicate()
