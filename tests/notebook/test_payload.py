"""What a payload holds: exactly what the run is, the same bytes each time, and nothing that has changed since."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.agent.notebook_payload import NotebookError, Payload, unpacked
from launcher.data.source import Source, keep
from launcher.data.take import take
from launcher.errors import IntegrityError, Refused
from launcher.job.gpu import Gpu
from launcher.job.spec import Resources
from launcher.notebook import payload as payloads
from launcher.notebook.payload import Platform, write
from launcher.runner.sources import result
from launcher.vault import digest_of
from tests.notebook.runs import Wish, submission

KAGGLE = Platform("kaggle", "/kaggle/tmp/launcher", "/kaggle/working", 43200.0, payloads.KAGGLE)


def told(made: payloads.Payload) -> dict[str, object]:
    value: dict[str, object] = json.loads(made.file("payload.json").path.read_bytes())
    return value


def test_every_file_is_named_with_its_size_and_hash(tmp_path: Path) -> None:
    sent = submission(tmp_path, Wish(files={"train.py": "print(1)"}))
    made = write(sent, tmp_path / "payload", KAGGLE)
    assert [file.name for file in made.files] == ["payload.json", "agent.bin", "bundle.bin"]
    for file in made.files:
        data = file.path.read_bytes()
        assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert file.path.stat().st_mode & 0o077 == 0
    assert told(made)["files"] == {file.name: [file.size_bytes, file.sha256] for file in made.files[1:]}
    assert made.file("bundle.bin").sha256 == sent.bundle.digest
    assert made.key == ""


def test_the_same_segment_gives_the_same_bytes(tmp_path: Path) -> None:
    sent = submission(tmp_path, Wish(files={"train.py": "print(1)"}))
    first, second = (write(sent, tmp_path / name, KAGGLE) for name in ("a", "b"))
    assert [file.sha256 for file in first.files] == [file.sha256 for file in second.files]
    packed = [made.packed(tmp_path / f"{n}.bin").sha256 for n, made in enumerate((first, second))]
    assert packed[0] == packed[1]
    with tarfile.open(tmp_path / "0.bin", "r:") as archive:
        assert archive.getnames() == [file.name for file in first.files]


def test_a_packed_payload_unpacks_to_the_same_files(tmp_path: Path) -> None:
    made = write(submission(tmp_path, Wish()), tmp_path / "payload", KAGGLE)
    folder = unpacked(str(made.packed(tmp_path / "all.bin").path), str(tmp_path / "there"))
    there = Payload(folder, sha256=made.file("payload.json").sha256)
    assert Path(there.checked("bundle.bin")).read_bytes() == made.file("bundle.bin").path.read_bytes()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "folder/file"])
def test_a_packed_payload_makes_files_in_its_folder_only(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "evil.bin", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(NotebookError, match=r"evil\.bin holds"):
        unpacked(str(tmp_path / "evil.bin"), str(tmp_path / "there"))


def checkpoint(path: Path) -> SimpleNamespace:
    """What the runner knows of a checkpoint at home."""
    return SimpleNamespace(path=path, name=path.name, digest=digest_of(path))


def test_a_checkpoint_travels_whole_and_in_the_agents_words(tmp_path: Path) -> None:
    folder = tmp_path / "step-3"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "model.bin").write_bytes(b"weights")
    made = write(submission(tmp_path, Wish(resume_from=checkpoint(folder))), tmp_path / "payload", KAGGLE)
    with tarfile.open(made.file("checkpoint.bin").path, "r:") as archive:
        assert archive.getnames() == ["files/step-3/inner/model.bin"]
    digest = hashlib.sha256(b"weights").hexdigest()
    assert told(made)["resume"] == {
        "resume": "resume/step-3",
        "resume_digest": {"step-3/inner/model.bin": digest},
    }


def test_a_checkpoint_that_is_no_longer_what_was_published_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "step-3.pt").write_bytes(b"weights")
    known = checkpoint(tmp_path / "step-3.pt")
    (tmp_path / "step-3.pt").write_bytes(b"weightz")
    with pytest.raises(IntegrityError, match="no longer what was published"):
        write(submission(tmp_path, Wish(resume_from=known)), tmp_path / "payload", KAGGLE)


def source(tmp_path: Path, key: str, origin: Path) -> Source:
    """A source of data as a run records it."""
    kept = tmp_path / "kept"
    files = result(take(origin, kept))
    return Source(key, str(origin), kept, keep(kept, files), len(files), 1)


def test_data_travels_by_source_and_only_as_it_was_recorded(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    (tmp_path / "flowers" / "rose.txt").write_text("red")
    (tmp_path / "one.csv").write_text("a,b")
    data = [source(tmp_path, "one", tmp_path / "one.csv"), source(tmp_path, "train", tmp_path / "flowers")]
    sent = submission(tmp_path, Wish(data=data))
    made = write(sent, tmp_path / "payload", KAGGLE)
    names = {}
    for key in ("one", "train"):
        with tarfile.open(made.file(f"data-{key}.bin").path, "r:") as archive:
            names[key] = archive.getnames()
    assert names == {"one": ["files/single"], "train": ["files/tree/rose.txt"]}
    (tmp_path / "flowers" / "rose.txt").write_text("Red")
    with pytest.raises(Refused, match="data train has changed since the run"):
        write(sent, tmp_path / "again", KAGGLE)


def test_data_from_the_web_is_fetched_there(tmp_path: Path) -> None:
    web = Source("test", "https://x.example/t.bin#sha256=" + "a" * 64, tmp_path)
    made = write(submission(tmp_path, Wish(data=[web])), tmp_path / "payload", KAGGLE)
    assert told(made)["data"] == {"test": {"url": web.origin, "sha256": "a" * 64}}


def test_secrets_travel_only_where_that_was_chosen(tmp_path: Path) -> None:
    value = "a-value-of-some-length"
    sent = submission(tmp_path, Wish(secrets=("HF_TOKEN",), values={"HF_TOKEN": value}))
    for way in (payloads.KAGGLE, payloads.COLAB, payloads.ASK, payloads.SENT):
        made = write(sent, tmp_path / way, Platform("kaggle", "/r", "/s", secrets=way))
        assert not any(value.encode() in file.path.read_bytes() for file in made.files)
    made = write(sent, tmp_path / "file", Platform("kaggle", "/r", "/s", secrets=payloads.FILE))
    assert [file.name for file in made.files if value.encode() in file.path.read_bytes()] == ["secrets.bin"]
    missing = submission(tmp_path, Wish(secrets=("HF_TOKEN",)))
    with pytest.raises(Refused, match="no value for the secret HF_TOKEN"):
        write(missing, tmp_path / "none", Platform("kaggle", "/r", "/s", secrets=payloads.FILE))


def test_the_gpu_is_told_in_words(tmp_path: Path) -> None:
    both = {
        "1 x T4 or L4": Resources(gpu=Gpu(models=("T4", "L4"))),
        "2 x any GPU with 16GB": Resources(gpu=Gpu(memory_bytes=16 * 10**9), count=2),
        "": Resources(),
    }
    for words, resources in both.items():
        sent = submission(tmp_path, Wish(resources=resources))
        assert told(write(sent, tmp_path / "payload", KAGGLE))["gpu"] == words
