"""A small client of the same protocol, for tests that look at single answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests

from tests.emulators.verda.emulator import Verda

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAXy2Jl8/DqhHm9akSXVyRx3Zh5W4SzncepC2mKZEeDC test"


@dataclass
class Plain:
    """`Plain(verda).get("/balance")`; `ask` may bring errors, the others must not."""

    verda: Verda
    token: str = ""
    _session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self._session.trust_env = False
        if not self.token:
            one = self.verda.credential
            body = {"grant_type": "client_credentials", "client_id": one.client_id}
            self.token = self.post("/oauth2/token", **body, client_secret=one.client_secret)["access_token"]

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = self.verda.url + path
        return self._session.request(method, url, json=body, params=query, headers=headers, timeout=60)

    def get(self, path: str, **query: Any) -> Any:
        return self._good(self.ask("GET", path, **query))

    def post(self, path: str, **body: Any) -> Any:
        return self._good(self.ask("POST", path, body))

    def key(self, key: str = KEY) -> str:
        return str(self.post("/ssh-keys", name="test", key=key))

    def order(self, **more: Any) -> dict[str, Any]:
        """The body of a request for a small GPU machine."""
        body = {"instance_type": "1H100.80S.30V", "image": "ubuntu-24.04-cuda-13.0-open-docker"}
        named = {"hostname": "test", "location_code": "FIN-03", "ssh_key_ids": more.pop("ssh_key_ids", None)}
        return {**body, **named, "ssh_key_ids": named["ssh_key_ids"] or [self.key()], **more}

    def rent(self, **more: Any) -> str:
        """Its id."""
        return str(self.post("/instances", **self.order(**more)))

    def act(self, action: str, *ids: str, **more: Any) -> requests.Response:
        return self.ask("PUT", "/instances", {"action": action, "id": list(ids), **more})

    def _good(self, reply: requests.Response) -> Any:
        assert reply.ok, (reply.request.method, reply.url, reply.status_code, reply.text)
        return reply.json() if "json" in reply.headers.get("Content-Type", "") and reply.text else reply.text
