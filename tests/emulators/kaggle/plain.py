"""A small client of the same protocol, for tests that look at single answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import requests

from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.sessions import Session

SERVICES = {"Dataset": "datasets.DatasetApiService", "Blob": "blobs.BlobApiService"}


@dataclass(frozen=True)
class Plain:
    """`Plain(kaggle).call("GetKernel", userName="alice", kernelSlug="job")`; replies may be errors."""

    kaggle: Kaggle
    token: str = ""

    def ask(self, method: str, **body: Any) -> requests.Response:
        service = next(
            (path for part, path in SERVICES.items() if part in method), "kernels.KernelsApiService"
        )
        return self._session().post(f"{self.kaggle.url}/v1/{service}/{method}", json=body, timeout=60)

    def call(self, method: str, **body: Any) -> dict[str, Any]:
        """The reply of a call that must not fail."""
        reply = self.ask(method, **body)
        assert reply.status_code == 200, (method, reply.status_code, reply.text)
        return dict(reply.json())

    def push(self, slug: str, source: str, **more: Any) -> Session:
        """Run a Python script; its session."""
        saved = self.save(slug, source, **more)
        assert not saved.get("error"), saved
        return self.kaggle.sessions[-1]

    def save(self, slug: str, source: str, **more: Any) -> dict[str, Any]:
        named = {"slug": f"alice/{slug}", "newTitle": slug, "text": source, "language": "python"}
        return self.call("SaveKernel", **{**named, "kernelType": "script", "enableInternet": True, **more})

    def upload(self, name: str, data: bytes) -> str:
        """The token of a finished upload."""
        started = self.call("StartBlobUpload", type="DATASET", name=name, contentLength=len(data))
        assert self._session().put(started["createUrl"], data=data, timeout=60).status_code == 200
        return str(started["token"])

    def dataset(self, slug: str, files: dict[str, bytes]) -> None:
        """A private dataset, or a further version of it."""
        tokens = [{"token": self.upload(name, data)} for name, data in files.items()]
        named = {"ownerSlug": "alice", "isPrivate": True, "licenseName": "other", "title": slug, "slug": slug}
        if f"alice/{slug}" in self.kaggle.datasets.by_ref:
            body = {"versionNotes": "more", "files": tokens}
            reply = self.call("CreateDatasetVersion", ownerSlug="alice", datasetSlug=slug, body=body)
        else:
            reply = self.call("CreateDataset", **named, files=tokens)
        assert reply["status"] == "ok", reply

    def dataset_status(self, slug: str) -> str:
        return str(self.call("GetDatasetStatus", ownerSlug="alice", datasetSlug=slug)["status"])

    def status(self, slug: str) -> dict[str, Any]:
        return self.call("GetKernelSessionStatus", userName="alice", kernelSlug=slug)

    def outputs(self, slug: str, **more: Any) -> dict[str, Any]:
        return self.call("ListKernelSessionOutput", userName="alice", kernelSlug=slug, **more)

    def follow(self, slug: str, query: str = "") -> list[str]:
        """What one connection to the live log brings before it ends or is cut; END_OF_LOG is one of them."""
        url = f"{self.kaggle.url}/v1/kernels/logs/stream/alice/{slug}{query}"
        lines: list[str] = []
        try:
            with self._session().get(url, stream=True, timeout=60) as reply:
                assert reply.status_code == 200, reply.text
                if reply.headers["Content-Type"] != "text/event-stream":
                    return [event["data"] for event in reply.json()] + ["END_OF_LOG"]
                for line in reply.iter_lines(chunk_size=None):
                    if line.startswith(b"data: "):
                        lines.append(line[len("data: ") :].decode())
        except requests.exceptions.ChunkedEncodingError:
            pass
        return [one if one == "END_OF_LOG" else json.loads(one)["data"] for one in lines]

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self.token or self.kaggle.token}"
        return session


def notebook(*cells: str) -> str:
    """A notebook's text."""
    code: list[dict[str, object]] = [
        {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        for source in cells
    ]
    return json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
