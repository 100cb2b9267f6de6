"""The unmodified `kaggle` command takes the emulator for Kaggle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.emulators.kaggle.emulator import Kaggle, official
from tests.emulators.kaggle.plain import Plain, notebook
from tests.emulators.kaggle.settings import Answer, Settings

CELLS = (
    "import time\nfor step in range(12):\n    print('step', step, flush=True)\n    time.sleep(0.3)",
    "import pathlib\npathlib.Path('ckpt').mkdir()\nfor n in range(30):\n    open(f'ckpt/{n}.bin', 'w').write(str(n))",
)


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with Kaggle(Settings(time_scale=360)) as running:
        yield running


def said(kaggle: Kaggle, home: Path, *arguments: str) -> str:
    done = official(kaggle, home, *arguments)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def kernel_folder(home: Path, **more: object) -> Path:
    folder = home / "pushed"
    folder.mkdir()
    named = {"id": "alice/train-flowers", "title": "train-flowers", "code_file": "train.ipynb"}
    kind = {"language": "python", "kernel_type": "notebook", "is_private": True}
    (folder / "kernel-metadata.json").write_text(json.dumps({**named, **kind, **more}))
    (folder / "train.ipynb").write_text(notebook(*CELLS))
    return folder


def test_it_pushes_a_notebook_follows_its_log_through_cuts_and_fetches_all_pages(
    kaggle: Kaggle, tmp_path: Path
) -> None:
    kaggle.faults.cut_stream_after_s = 1.0
    folder = kernel_folder(tmp_path, machine_shape="NvidiaTeslaP100")
    pushed = official(kaggle, tmp_path, "kernels", "push", "-p", str(folder), "-t", "40000")
    assert "Kernel version 1 successfully pushed" in pushed.stdout
    assert "'NvidiaTeslaP100' is retired" in pushed.stderr

    followed = said(kaggle, tmp_path, "kernels", "logs", "-f", "alice/train-flowers")
    assert followed.split("\n")[:-1] == [f"step {n}" for n in range(12)]
    assert len([call for call, _ in kaggle.asked if call == "logs"]) > 1

    kaggle.wait("COMPLETE")
    status = said(kaggle, tmp_path, "kernels", "status", "alice/train-flowers/1")
    assert 'has status "KernelWorkerStatus.COMPLETE"' in status
    log = said(kaggle, tmp_path, "kernels", "logs", "alice/train-flowers")
    assert "".join(event["data"] for event in json.loads(log)) == followed

    said(kaggle, tmp_path, "kernels", "output", "alice/train-flowers", "-p", str(tmp_path / "home"))
    names = {path.name for path in (tmp_path / "home/ckpt").iterdir()}
    assert names == {f"{n}.bin" for n in range(30)}
    assert (tmp_path / "home/ckpt/29.bin").read_text() == "29"


def test_it_saves_without_running_pulls_and_deletes(kaggle: Kaggle, tmp_path: Path) -> None:
    folder = kernel_folder(tmp_path, enable_internet=False)
    saved = said(kaggle, tmp_path, "kernels", "push", "-p", str(folder), "--no-run")
    assert "saved without running" in saved
    assert kaggle.sessions == []
    pulled = tmp_path / "pulled"
    said(kaggle, tmp_path, "kernels", "pull", "alice/train-flowers", "-p", str(pulled), "-m")
    assert json.loads((pulled / "train-flowers.ipynb").read_text())["cells"][1]["source"] == CELLS[1]
    metadata = json.loads((pulled / "kernel-metadata.json").read_text())
    assert metadata["id"] == "alice/train-flowers"
    assert metadata["enable_internet"] is False
    deleted = said(kaggle, tmp_path, "kernels", "delete", "alice/train-flowers", "--yes")
    assert "deleted successfully" in deleted
    assert official(kaggle, tmp_path, "kernels", "status", "alice/train-flowers").returncode != 0


def test_it_makes_a_private_dataset_whose_new_version_is_ready_later(kaggle: Kaggle, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures/one.png").write_bytes(b"one")
    (folder / "bundle.bin").write_bytes(bytes(100_000))
    named = {"id": "alice/flowers-data", "title": "flowers-data", "licenses": [{"name": "other"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(named))
    created = said(kaggle, tmp_path, "datasets", "create", "-p", str(folder), "--dir-mode", "zip")
    assert "private Dataset is being created" in created

    kaggle.faults.dataset_stuck = True
    (folder / "checkpoint.bin").write_bytes(b"2")
    said(kaggle, tmp_path, "datasets", "version", "-p", str(folder), "-m", "resume", "--dir-mode", "zip")
    status = said(kaggle, tmp_path, "datasets", "status", "alice/flowers-data")
    assert "not_yet_persisted" in status
    kaggle.datasets.by_ref["alice/flowers-data"].versions[-1].ready_at = 0.0
    assert "ready" in said(kaggle, tmp_path, "datasets", "status", "alice/flowers-data")
    files = said(kaggle, tmp_path, "datasets", "files", "alice/flowers-data", "--csv").split()
    names = [line.split(",")[0] for line in files[1:]]
    assert names[:3] == ["bundle.bin", "checkpoint.bin", "pictures/one.png"]


def test_it_shows_the_quota_that_is_left_or_that_it_asks_too_often(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.alice.gpu_used_s = 27 * 3600
    kaggle.faults.answers.append(Answer("GetAcceleratorQuotaStatistics", status=429, retry_after_s=0.1))
    refused = official(kaggle, tmp_path, "quota")
    assert "rate limited" in refused.stderr
    assert "27.00h  3.00h      30.00h" in said(kaggle, tmp_path, "quota")


def test_it_is_let_in_by_token_by_oauth_and_by_key_and_kept_out_with_an_expired_token(
    kaggle: Kaggle, tmp_path: Path
) -> None:
    Plain(kaggle).push("print-hello", "print('hello')")
    ask = ("kernels", "status", "alice/print-hello")
    without = {"KAGGLE_API_TOKEN": ""}
    key = {**without, "KAGGLE_USERNAME": "alice", "KAGGLE_KEY": kaggle.alice.key}
    assert official(kaggle, tmp_path, *ask, environment=key).returncode == 0

    old = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    credentials = {"refresh_token": kaggle.alice.refresh_token, "username": "alice", "scopes": []}
    (tmp_path / ".kaggle").mkdir(exist_ok=True)
    (tmp_path / ".kaggle/credentials.json").write_text(
        json.dumps({**credentials, "access_token": "KGAT_old", "access_token_expiration": old})
    )
    assert official(kaggle, tmp_path, *ask, environment=without).returncode == 0

    (tmp_path / ".kaggle/credentials.json").unlink()
    kaggle.alice.expire()
    assert official(kaggle, tmp_path, *ask).returncode != 0
