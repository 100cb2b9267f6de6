"""`launcher notebook`: a run whose place is a file, with all that it needs and no secret in it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.laptop import Laptop
from tests.runner.steady import home_of
from tests.servers import interpreter

SAVES = """
import os, pathlib, sys
out = pathlib.Path(os.environ["LAUNCHER_OUT"]) / "checkpoints"
out.mkdir()
(out / "one.tmp").write_text("saved")
(out / "one.tmp").rename(out / "one")
print("saved")
sys.exit(75)
"""
VALUE = "hf_a-very-secret-value"


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop", {"HF_TOKEN": VALUE})
    made.ok("target", "add", "here", "local", "--docker", "never")
    made.job("flowers", SAVES, params={"epochs": 5}, run="python train.py {epochs}", secrets=["HF_TOKEN"])
    yield made
    made.launcher("release", "--all", "--force")
    made.close()


def packed(path: Path) -> dict[str, bytes]:
    """The files inside a notebook."""
    text = re.search(r'EMBEDDED = """\n(.*?)\n"""', source(path), re.DOTALL)
    assert text
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(base64.b64decode(text[1])))) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]


def source(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(packed(path)["payload.json"])
    return found


@pytest.mark.parametrize("platform", ["kaggle", "colab"])
def test_a_run_becomes_one_valid_file(laptop: Laptop, platform: str) -> None:
    words = ["notebook", "flowers", "--for", platform, "-o", "n.ipynb", "-p", "epochs=7", "--name", "roses"]
    done = laptop.ok(*words)
    path = laptop.work / "n.ipynb"
    assert done.out == f"{path}\n"
    nbformat.validate(nbformat.read(path, as_version=4))
    status = laptop.status()
    assert (status["state"], status["target"], status["name"]) == ("pending", f"{platform}-notebook", "roses")
    assert f"launcher pull {status['id']} --from-folder DIR" in done.err
    assert "HF_TOKEN" in done.err
    order = told(path)["order"]
    assert (order["run"], order["command"]) == (status["id"], "python train.py 7")
    assert home_of(laptop).is_dir()
    assert VALUE not in path.read_text()
    assert not any(VALUE.encode() in data for data in packed(path).values())


def test_without_a_name_the_file_is_called_as_the_run(laptop: Laptop) -> None:
    result = laptop.ok("--json", "notebook", "flowers", "--for", "kaggle").objects[-1]
    assert (result["type"], result["state"], result["exit_code"]) == ("result", "pending", 0)
    assert result["notebook"] == str(laptop.work / f"{result['run']}.ipynb")
    assert Path(result["notebook"]).exists()


def test_what_no_notebook_can_do_is_refused_before_anything_is_recorded(laptop: Laptop) -> None:
    laptop.job("apt", "pass", environment={"apt": ["git"]})
    (laptop.work / "mine.ipynb").write_text("mine")
    for code, words in (
        (126, ["apt", "--for", "kaggle"]),
        (126, ["flowers", "--for", "kaggle", "-o", "mine.ipynb"]),
        (126, ["flowers", "--for", "kaggle", "-o", "."]),
        (2, ["flowers"]),
        (2, ["flowers", "--for", "azure"]),
        (2, ["nosuch", "--for", "kaggle"]),
        (2, ["flowers", "--for", "kaggle", "--resume", "last"]),
        (2, ["--for", "kaggle", "--resume", "last"]),
    ):
        done = laptop.launcher("notebook", *words)
        assert done.code == code, (words, done.err)
        assert "Traceback" not in done.err
    assert laptop.ok("--json", "ps", "-a").json["runs"] == []
    assert (laptop.work / "mine.ipynb").read_text() == "mine"


def test_a_large_payload_lies_beside_the_notebook(laptop: Laptop) -> None:
    (laptop.work / "flowers/large.bin").write_bytes(bytes(range(256)) * 25_000)
    done = laptop.ok("notebook", "flowers", "--for", "kaggle", "-o", "k.ipynb")
    folder = laptop.work / "k-payload"
    assert str(folder) in done.err
    facts = json.loads((folder / "payload.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*facts["files"], "payload.json"])
    done = laptop.ok("notebook", "flowers", "--for", "colab", "-o", "c.ipynb")
    assert str(laptop.work / "c-payload.bin") in done.err
    with tarfile.open(laptop.work / "c-payload.bin") as tar:
        assert "payload.json" in tar.getnames()
    assert "c-payload.bin" in source(laptop.work / "c.ipynb")
    assert (laptop.work / "c.ipynb").stat().st_size < 100_000
    for platform in ("kaggle", "colab"):  # what lies beside one may be needed: it is never written over
        (laptop.work / f"{platform[0]}.ipynb").unlink()
        refused = laptop.launcher("notebook", "flowers", "--for", platform, "-o", f"{platform[0]}.ipynb")
        assert refused.code == 126
        assert f"{platform[0]}-payload" in refused.err
    left = {path.name for path in laptop.work.iterdir()}
    assert left == {"flowers", "runs", "k-payload", "c-payload.bin"}


def test_without_internet_the_environment_lies_beside_the_notebook_too(laptop: Laptop) -> None:
    with interpreter.serving("127.0.0.1") as served:
        laptop.env["UV_PYTHON_DOWNLOADS_JSON_URL"] = str(served.table)
        job = laptop.job("locked", "import six", environment={"python": interpreter.MINOR})
        (job / "requirements.in").write_text("six\n")
        done = laptop.ok("notebook", "locked", "--for", "kaggle", "--offline", "-o", "n.ipynb")
    folder = laptop.work / "n-environment"
    names = {path.name for path in folder.iterdir()}
    assert "wheelhouse.json" in names
    assert len(names) > 1
    facts = told(laptop.work / "n.ipynb")
    name = facts["wheelhouse"].removeprefix("/kaggle/input/")
    assert name == f"launcher-env-{facts['environment']['key']}"
    assert f"New Dataset called {name}, the files of {folder}" in done.err
    assert laptop.launcher("notebook", "locked", "--for", "colab", "--offline").code == 126


def test_a_run_goes_on_in_a_notebook_from_its_newest_checkpoint(laptop: Laptop) -> None:
    laptop.launcher("run", "flowers", "--on", "here")
    run = laptop.status()["id"]
    laptop.ok("notebook", "--for", "colab", "--resume", run)
    path = laptop.work / f"{run}-1.ipynb"
    facts = told(path)
    last = len((home_of(laptop) / "log.jsonl").read_bytes().splitlines())
    assert (facts["segment"], facts["order"]["first_seq"]) == (1, last + 1)
    assert facts["resume"]["resume"] == "resume/one"
    assert "checkpoint.bin" in packed(path)
    assert [s["state"] for s in laptop.status()["segments"]] == ["timed_out", "pending"]


def test_a_notebook_that_could_not_be_written_is_written_by_attach(laptop: Laptop) -> None:
    (laptop.work / "in the way").write_text("a file")
    done = laptop.launcher("notebook", "flowers", "--for", "kaggle", "-o", "in the way/n.ipynb")
    assert done.code == 125
    assert "cannot write" in done.err
    (laptop.work / "in the way").unlink()
    assert laptop.launcher("attach", "last").code == 126
    assert told(laptop.work / "in the way/n.ipynb")["run"] == laptop.status()["id"]


def test_nobody_runs_on_a_notebook_without_writing_one(laptop: Laptop) -> None:
    done = laptop.launcher("run", "flowers", "--on", "kaggle-notebook")
    assert done.code == 126
    assert "launcher notebook JOB --for kaggle" in done.err
    assert laptop.launcher("target", "add", "kaggle-notebook", "local").code == 2
