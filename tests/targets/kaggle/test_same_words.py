"""Our client says the same to Kaggle as the official one does for the same actions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher.config import Config
from launcher.targets.kaggle.api import KaggleAPI, Push, credentials
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.environments import official_client
from tests.emulators.kaggle.plain import notebook

TEXT = notebook("print('hello')")
IMAGE = "gcr.io/kaggle-images/python@sha256:" + "0" * 64
OFFICIAL = """
import sys
from kaggle.api.kaggle_api_extended import KaggleApi
folder = sys.argv[1]
api = KaggleApi()
api.authenticate()
api.dataset_create_new(folder + "/data", quiet=True)
api.dataset_create_version(folder + "/data", "segment 1", quiet=True, delete_old_versions=True)
api.dataset_status("dave/flowers-data")
api.dataset_list_files("dave/flowers-data")
api.dataset_list(mine=True, search="flowers")
api.kernels_push(folder + "/gpu", timeout="3600")
api.kernels_push(folder + "/cpu")
api.kernels_status("dave/train-flowers/1")
list(api.kernels_logs_stream("dave/train-flowers/1"))
api.kernels_output("dave/train-flowers/1", folder + "/out")
api.kernels_list(mine=True, search="flowers")
api.kernels_pull("dave/train-flowers", folder + "/pulled")
api.quota_view()
api.kernels_delete("dave/train-flowers", no_confirm=True)
api.dataset_delete("dave", "flowers-data", no_confirm=True)
"""
PAGING = {"page", "pageSize", "pageToken"}


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with Kaggle() as running:
        running.account("dave")
        yield running


def sign_in(kaggle: Kaggle, home: Path) -> None:
    """What `kaggle auth login` left, an hour too old."""
    dave = kaggle.accounts.by_name["dave"]
    until = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    kept = {"refresh_token": dave.refresh_token, "username": "dave", "scopes": [], "access_token": "KGAT_old"}
    (home / ".kaggle").mkdir(exist_ok=True)
    (home / ".kaggle/credentials.json").write_text(json.dumps({**kept, "access_token_expiration": until}))


def lay_out(home: Path) -> None:
    """What the official client reads from folders."""
    (home / "data").mkdir()
    named = {"id": "dave/flowers-data", "title": "flowers-data", "licenses": [{"name": "other"}]}
    (home / "data/dataset-metadata.json").write_text(json.dumps(named))
    (home / "data/bundle.bin").write_bytes(b"bundle")
    named = {"id": "dave/train-flowers", "title": "train-flowers", "code_file": "train.ipynb"}
    kind = {"language": "python", "kernel_type": "notebook", "is_private": True}
    data = {"dataset_sources": ["dave/flowers-data"], "machine_shape": "NvidiaTeslaT4", "enable_gpu": True}
    for folder, more in (("gpu", {**data, "docker_image": IMAGE}), ("cpu", {"enable_internet": False})):
        (home / folder).mkdir()
        (home / folder / "kernel-metadata.json").write_text(json.dumps({**named, **kind, **more}))
        (home / folder / "train.ipynb").write_text(TEXT)


def said(kaggle: Kaggle, start: int) -> dict[str, list[Any]]:
    """What was asked since, by call; tokens of uploads differ each time, and pages are each client's own."""
    found: dict[str, list[Any]] = {}
    for call, body in kaggle.asked[start:]:
        if isinstance(body, dict):
            body = json.loads(json.dumps(body))
            for file in body.get("files", []) + body.get("body", {}).get("files", []):
                file["token"] = "…"
            if call.startswith("List"):
                body = {key: value for key, value in body.items() if key not in PAGING and value}
        if body not in found.setdefault(call, []):
            found[call].append(body)
    return found


def ours(kaggle: Kaggle, home: Path) -> None:
    api = KaggleAPI(kaggle.url, credentials(Config({"HOME": str(home)})))
    assert api.dataset_status("flowers-data") is None

    def token() -> str:
        upload = api.upload(home / "data/bundle.bin", "bundle.bin")
        while True:
            try:
                next(upload)
            except StopIteration as end:
                return str(end.value)

    api.create_dataset("flowers-data", "flowers-data", [token()])
    api.create_dataset_version("flowers-data", "segment 1", [token()])
    api.dataset_status("flowers-data")
    api.dataset_files("flowers-data")
    api.datasets("flowers")
    one = Push("train-flowers", "train-flowers", TEXT)
    gpu = {"datasets": ("dave/flowers-data",), "accelerator": "NvidiaTeslaT4", "timeout_s": 3600}
    api.save_kernel(Push(**{**vars(one), **gpu, "image": IMAGE}))
    api.save_kernel(Push(**{**vars(one), "internet": False}))
    api.kernel_status("train-flowers", 1)
    list(api.log_events("train-flowers", 1))
    api.outputs("train-flowers", 1)
    api.kernels("flowers")
    api.kernel("train-flowers")
    api.quota()
    api.delete_kernel("train-flowers")
    api.delete_dataset("flowers-data")


def test_each_request_is_the_official_clients_own(kaggle: Kaggle, tmp_path: Path) -> None:
    lay_out(tmp_path)
    kaggle.faults.start_refused = "No machine is free."  # so the logs end at once
    sign_in(kaggle, tmp_path)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment |= {**kaggle.official_environment, "PYTHONWARNINGS": "ignore", "KAGGLE_API_TOKEN": ""}
    python = Path(official_client()).with_name("python")
    subprocess.run([python, "-c", OFFICIAL, tmp_path], env=environment, check=True, timeout=200)
    official = said(kaggle, 0)
    start = len(kaggle.asked)
    sign_in(kaggle, tmp_path)
    ours(kaggle, tmp_path)
    own = said(kaggle, start)
    own["logs"] = [f"/api{path}" for path in own["logs"]]  # at Kaggle itself there is no /api before it
    assert own == official
