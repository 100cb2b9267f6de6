"""Data on every door: sent once, shared by runs, read-only, what the run was made from and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests.laptop import Laptop, records
from tests.servers.gpu_server import GPUServer
from tests.servers.web import Web
from tests.targets.conftest import Door, add_target

JOB = """
import hashlib, json, os, pathlib, sys
data = pathlib.Path(os.environ["LAUNCHER_DATA"])
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
seen = {}
for key in sorted(os.listdir(data)):
    source = data / key
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    for path in files:
        seen[str(path.relative_to(data))] = hashlib.sha256(path.read_bytes()).hexdigest()
(out / "seen.json").write_text(json.dumps(seen))
wrote = []
for path in [data / "new", data / "train" / "new", data / "train" / "a b" / "plain.txt", data / "words"]:
    try:
        if "-w" in sys.argv:
            path.open("ab").write(b"!")
            wrote.append(str(path.relative_to(data)))
    except OSError as error:
        print(error)
(out / "wrote.json").write_text(json.dumps(wrote))
sys.exit(75 if "-75" in sys.argv else 0)
"""
NAMES = ("a b/plain.txt", 'a b/it\'s "quoted" $HOME `x`.txt', "deep/er/line\nbreak.txt", "ü/日本.bin", "-rf")


def write(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content {number}\n".encode() * 10)
    (folder / "large.bin").write_bytes(bytes(range(256)) * 8192)


def job(laptop: Laptop) -> Path:
    write(laptop.work / "pictures")
    (laptop.work / "words.txt").write_text("one\ntwo\n")
    return laptop.job("sees", JOB, data={"train": "../pictures", "words": "../words.txt"})


def expected(laptop: Laptop) -> dict[str, str]:
    pictures = laptop.work / "pictures"
    found = {f"train/{p.relative_to(pictures)}": p for p in pictures.rglob("*") if p.is_file()}
    found["words"] = laptop.work / "words.txt"
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}


def home(laptop: Laptop) -> Path:
    return Path(laptop.status()["out"])


def seen(laptop: Laptop) -> Any:
    return json.loads((home(laptop) / "seen.json").read_text())


def travels(laptop: Laptop, made: Path, target: str) -> dict[str, int]:
    rows = laptop.ok("--json", "plan", str(made), "--on", target).json["targets"]
    found: dict[str, int] = rows[0]["travels"]
    return {key: size for key, size in found.items() if key.startswith("data ")}


def test_a_job_sees_its_data_and_only_what_is_new_travels_for_the_next_run(door: Door) -> None:
    laptop = door.laptop
    made = job(laptop)
    wanted = expected(laptop)

    laptop.ok("run", str(made), "--on", door.target)

    assert seen(laptop) == wanted
    capsule = json.loads((home(laptop) / "capsule.json").read_text())
    assert set(capsule["data"]) == {"train", "words"}
    train = capsule["data"]["train"]
    assert (train["files"], train["source"]) == (6, str(laptop.work / "pictures"))
    said = [line["text"] for line in records(home(laptop) / "log.jsonl") if line["stream"] == "launcher"]
    assert any(text.startswith(f"data train sha256:{train['digest']}") for text in said)
    assert travels(laptop, made, door.target) == {"data train": 0, "data words": 0}

    changed = laptop.work / "pictures" / "a b" / "plain.txt"
    fresh = os.urandom(13)
    changed.write_bytes(fresh)
    assert travels(laptop, made, door.target) == {"data train": len(fresh), "data words": 0}
    laptop.ok("run", str(made), "--on", door.target)

    assert seen(laptop) == {**wanted, "train/a b/plain.txt": hashlib.sha256(fresh).hexdigest()}
    diff = laptop.launcher("--json", "diff", capsule["id"], "last").json
    assert [row["what"] for row in diff["rows"] if not row["equal"] and "data" in row["what"]] == [
        "data train"
    ]


def test_what_a_job_does_to_its_data_hurts_no_other_run(door: Door) -> None:
    laptop = door.laptop
    made = job(laptop)
    wanted = expected(laptop)

    laptop.ok("run", str(made), "--on", door.target, "--", "-w")
    wrote = json.loads((home(laptop) / "wrote.json").read_text())
    laptop.ok("run", str(made), "--on", door.target)

    if door.docker:
        assert set(wrote) <= {"new"}, "beside its sources, in the container's own layer"
    assert seen(laptop) == wanted


def test_a_download_goes_by_way_of_the_laptop_where_the_server_has_no_way_out(
    laptop: Laptop, shared_gpu_server: GPUServer
) -> None:
    add_target(laptop, shared_gpu_server, docker="never")
    data = os.urandom(2_500_000)
    digest = hashlib.sha256(data).hexdigest()
    with Web() as web:  # on the laptop's own loopback
        web.files["/w"] = data
        made = laptop.job("far", JOB, data={"words": f"{web.url('/w')}#sha256={digest}"})
        first = laptop.ok("run", str(made), "--on", "gpu1")
        laptop.ok("run", str(made), "--on", "gpu1")

    assert "cannot be reached" in first.err
    assert "fetching it here" in first.err
    assert seen(laptop) == {"words": digest}
    assert len(web.asked) == 1
    laptop.ok("release", "--all")


def test_a_resumed_run_gets_the_data_that_it_was_made_from(door: Door) -> None:
    laptop = door.laptop
    made = job(laptop)
    wanted = expected(laptop)
    assert laptop.launcher("run", str(made), "--on", door.target, "--", "-75").code == 124
    run = laptop.status()["id"]
    shutil.rmtree(laptop.work / "pictures")

    assert laptop.launcher("resume", run).code == 124

    assert seen(laptop) == wanted
    laptop.ok("target", "add", "other", "local", "--docker", "never")
    refused = laptop.launcher("resume", run, "--on", "other")
    if door.server is not None:  # a machine that has nothing of it
        assert refused.code == 126
        assert "data train has changed since the run: " in refused.err
    else:
        assert refused.code == 124
