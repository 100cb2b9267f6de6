"""Colab's account side: runtimes given, found again, refreshed and handed back; what is left of the quota."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from launcher.errors import Refused, RemoteError, TargetError, Unreachable
from launcher.target import Quota
from launcher.targets.colab import refusals, told
from launcher.targets.colab.told import Account, Runtime, Wanted
from launcher.targets.colab.wire import AGAIN, DELAYS_S, Answer, Call, Wire, json_object, said, wait_s

__all__ = ["URL", "Account", "ColabAPI", "Runtime", "Wanted"]

URL = "https://colab.research.google.com"
USAGE_URL = "https://colab.pa.googleapis.com"
PEER = "Colab"
ASSIGN_S = 240.0  # a machine may have to be found first
KEEP_ALIVE_S = 10.0
ASKING, HANDING_BACK = "asking for a runtime", "handing a runtime back"


class ColabAPI:
    """`url`: config.base_url("LAUNCHER_COLAB_URL", api.URL); `token`: auth.token_source(…). Threads may share it."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._url = url.rstrip("/")
        self._usage_url = USAGE_URL if self._url == URL else self._url
        self._token = token
        self._wire = Wire(PEER)
        # only a stand-in for Colab on this machine may have runtimes that speak plain http
        self._plain = urlsplit(self._url).scheme == "http"

    def assign(self, wanted: Wanted) -> Runtime:
        """The notebook's runtime: the one it has, else a new one; a lost answer is looked for, never asked twice.

        CapacityError: no capacity, quota spent, too many runtimes. Refused: the account cannot have this accelerator,
        memory or version. AuthError: not signed in, or the account is blocked. Unreachable: it may or may not be there
        (`find` tells). The accelerator given may be another one than was asked for: compare.
        """
        for delay_s in DELAYS_S:
            runtime, xsrf = self._look(wanted)  # also after a lost answer: its runtime is there now
            if runtime is not None:
                return runtime
            try:
                answer = self._post(wanted, xsrf)
            except Unreachable:
                time.sleep(delay_s)
                continue
            if answer.status not in (*AGAIN, 403):  # 403: the word of another look is asked for
                return self._given(answer, wanted)
            time.sleep(wait_s(answer, delay_s))
        runtime, xsrf = self._look(wanted)
        return runtime or self._given(self._post(wanted, xsrf), wanted)

    def find(self, wanted: Wanted) -> Runtime | None:
        """The runtime that this notebook has; None when it has none. Creates nothing."""
        return self._look(wanted)[0]

    def assignments(self) -> list[Runtime]:
        """All runtimes of the account, each with a fresh proxy token."""
        listed = self._get("/tun/m/assignments", "listing the runtimes").get("assignments", [])
        if not isinstance(listed, list):
            raise RemoteError(f"{PEER} answered without a list of runtimes")
        return [told.runtime(one, self._plain) for one in listed]

    def refresh(self, endpoint: str) -> Runtime | None:
        """The runtime with a fresh proxy token; None: it was taken back."""
        return next((one for one in self.assignments() if one.endpoint == endpoint), None)

    def unassign(self, endpoint: str) -> None:
        """Hand a runtime back; fine when it is gone already."""
        path = f"/tun/m/unassign/{quote(endpoint, safe='')}"
        asked = self._wire.ask(self._call("GET", path))
        if asked.status == 404:
            return
        xsrf = _xsrf(_object(asked, HANDING_BACK))
        answer = self._wire.ask(self._call("POST", path, xsrf=xsrf))
        if answer.status != 404 and (refusal := refusals.of_status(answer, HANDING_BACK)):
            raise refusal

    def keep_alive(self, endpoint: str) -> bool:
        """Say that somebody is there; False: the runtime is gone. No answer counts as yes, as Colab does it."""
        call = self._call("GET", f"/tun/m/{quote(endpoint, safe='')}/keep-alive/")
        headers = {**call.headers, "X-Colab-Tunnel": "Google"}
        try:
            return self._wire.once(replace(call, headers=headers, read_s=KEEP_ALIVE_S)).status != 404
        except Unreachable:
            return True

    def account(self) -> Account:
        """What the account may have and has left."""
        call = self._call("GET", "/v1/user-info", {"get_ccu_consumption_info": "true"})
        answer = self._wire.ask(replace(call, url=self._usage_url + "/v1/user-info"))
        if answer.status in (400, 403, 404):  # a service of its own, which not every sign-in may ask
            return told.account(self._get("/tun/m/ccu-info", "asking for the quota"))
        return told.account(_object(answer, "asking for the quota"))

    def usage(self, target: str = "colab") -> list[Quota]:
        """The account's compute units, paid and free, as `launcher quota` shows them."""
        return told.quotas(self.account(), target)

    # inside

    def _look(self, wanted: Wanted) -> tuple[Runtime | None, str]:
        """The notebook's runtime, or the word that a request for a new one must carry."""
        answer = self._wire.ask(self._call("GET", "/tun/m/assign", told.query(wanted)))
        if answer.status == 400:
            raise self._cannot_have(wanted, answer)
        found = _object(answer, ASKING)
        if "endpoint" not in found:
            return None, _xsrf(found)
        if "runtimeProxyInfo" in found:
            return told.runtime(found, self._plain), ""
        return self.refresh(str(found["endpoint"])), ""

    def _post(self, wanted: Wanted, xsrf: str) -> Answer:
        call = self._call("POST", "/tun/m/assign", told.query(wanted), xsrf)
        return self._wire.once(replace(call, read_s=ASSIGN_S))

    def _given(self, answer: Answer, wanted: Wanted) -> Runtime:
        if answer.status == 400:
            raise self._cannot_have(wanted, answer)
        if answer.status == 412:
            raise refusals.too_many()
        found = _object(answer, ASKING)
        if refusal := refusals.of_outcome(found.get("outcome"), wanted):
            raise refusal
        return told.runtime(found, self._plain)

    def _cannot_have(self, wanted: Wanted, answer: Answer) -> Refused:
        try:
            account = self.account()
        except TargetError:
            account = Account()
        return refusals.not_entitled(wanted, said(answer), account)

    def _get(self, path: str, doing: str) -> dict[str, Any]:
        return _object(self._wire.ask(self._call("GET", path)), doing)

    def _call(self, method: str, path: str, params: Mapping[str, str] | None = None, xsrf: str = "") -> Call:
        headers = {"Accept": "application/json", "X-Colab-Client-Agent": "launcher"}
        headers |= {"X-Goog-Colab-Token": xsrf} if xsrf else {}
        auth = {"Authorization": f"Bearer {self._token()}"}
        return Call(method, self._url + path, {"authuser": "0", **(params or {})}, headers, auth)


def _object(answer: Answer, doing: str) -> dict[str, Any]:
    if refusal := refusals.of_status(answer, doing):
        raise refusal
    return json_object(answer, PEER)


def _xsrf(found: Mapping[str, Any]) -> str:
    token = found.get("token")
    if not isinstance(token, str) or not told.TOKEN.fullmatch(token):
        raise RemoteError(f"{PEER} gave no token to ask with")
    return token
