"""Calls in the name of one account: signed, renewed, page by page, with what a refusal means."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import requests

from launcher.errors import AuthError, Refused, RemoteError
from launcher.targets.kaggle import bodies, fields
from launcher.targets.kaggle.login import Login
from launcher.targets.kaggle.rpc import Call, Denied, denied, patiently, perform
from launcher.targets.kaggle.stream import SILENCE_S
from launcher.targets.kaggle.values import Listed
from launcher.targets.kaggle.wire import Ask, Sign, Wire, one_line

PAGE = 200
LIST_PAGE = 100
MOST_PAGES = 2000
WAIT_FOR_LOG_S = 60  # for a session that is still queued
T = TypeVar("T")
Find = Callable[[str], list[Listed]]  # a listing of mine by a word


class Caller:
    """One account's calls over one wire."""

    def __init__(self, wire: Wire, login: Login) -> None:
        self.wire = wire
        self.login = login

    def names(self, slug: str) -> tuple[str, str]:
        """Owner and name of `name` (mine) or `user/name`."""
        owner, _, name = slug.rpartition("/")
        return owner or self.login.user, name

    def call(self, call: Call) -> dict[str, Any]:
        """The reply. Denied for all refusals but that of the credentials, which is an AuthError."""
        return self._signed(lambda sign: perform(self.wire, call, sign))

    def create(self, what: str, call: Call) -> dict[str, Any]:
        """The reply to a call that makes something; a no in any form is Refused with Kaggle's words."""
        try:
            reply = self.call(call)
        except Denied as error:
            words = error.words or f"HTTP {error.status}"
            if error.status == 403:
                raise AuthError(
                    f"Kaggle does not let {self.login.user} make {what}: {words}",
                    "may the token write, and is the account's phone verified?",
                ) from error
            raise Refused(f"Kaggle does not take {what}: {words}") from error
        said = one_line(fields.text(reply, "error"))
        if said or fields.text(reply, "status").lower() == "error":
            raise Refused(f"Kaggle does not take {what}: {said or 'no reason given'}")
        return reply

    def mine(self, call: Call, slug: str, find: Find) -> dict[str, Any] | None:
        """The reply about a thing of mine; None when there is none."""
        try:
            return self.call(call)
        except Denied as error:
            self.absent(error, slug, find)
            return None

    def absent(self, refusal: Denied, slug: str, find: Find) -> None:
        """Returns when a refusal means that there is no such thing of mine; else raises what it means.

        Kaggle answers 403 for what is not there as for what is not allowed: only a listing tells them apart.
        """
        if refusal.status == 404:
            return
        if refusal.status != 403:
            raise refusal
        owner, name = self.names(slug)
        may_not = AuthError(
            f"Kaggle does not let {self.login.user} see {owner}/{name}: {refusal.words}",
            "do the credentials belong to the account that made it?",
        )
        if owner != self.login.user:
            raise may_not from refusal
        try:
            there = any(one.slug == f"{owner}/{name}" for one in find(name))
        except Denied as error:
            raise may_not from error
        if there:
            raise may_not from refusal

    def pages(self, call: Call) -> Iterator[Mapping[str, Any]]:
        """All pages of a listing that goes on by tokens."""
        token, seen = "", set()
        for _ in range(MOST_PAGES):
            reply = self.call(replace(call, body={**call.body, "pageSize": PAGE, "pageToken": token}))
            yield reply
            token = fields.text(reply, "nextPageToken")
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
        raise RemoteError(f"Kaggle's {call.method} has pages without end")

    def listed(self, call: Call, name: str) -> list[Listed]:
        """All rows of a listing that goes on by numbers of pages, each once."""
        found: dict[str, Listed] = {}
        for page in range(1, MOST_PAGES):
            before = len(found)
            asked = {**call.body, "page": page, "pageSize": LIST_PAGE}
            for row in fields.rows(self.call(replace(call, body=asked)), name):
                slug = fields.text(row, "ref").removeprefix("/code/").removeprefix("/datasets/")
                found.setdefault(slug, Listed(slug, fields.text(row, "title")))
            if len(found) == before:
                break
        return list(found.values())

    def open_log(self, slug: str, version: int | None, find: Find) -> requests.Response:
        """The answer that brings a session's log; a queued session is waited for by Kaggle itself."""
        owner, name = self.names(slug)
        label = f"?versionLabel=v{version}" if version else ""
        quoted = "/".join(urllib.parse.quote(part, safe="") for part in (owner, name))
        url = f"{self.wire.base}/v1/kernels/logs/stream/{quoted}{label}"
        body = {**bodies.kernel(owner, name, version), "waitForLogsUrlSeconds": WAIT_FOR_LOG_S}
        wait = Call("GetKernelSessionLogsStream", body)
        try:
            return self._opened(lambda sign: _log_ask(Ask("GET", url, sign=sign)))
        except Denied as error:
            self.absent(error, slug, find)
        try:
            return self._opened(lambda sign: _log_ask(wait.ask(self.wire, sign)))
        except Denied as error:
            self.absent(error, slug, find)
            missing = RemoteError(f"Kaggle has no log of {owner}/{name} (yet)")
            missing.code = "missing"
            raise missing from error

    def _opened(self, ask: Callable[[Sign], Ask]) -> requests.Response:
        def read(answer: requests.Response) -> requests.Response:
            if answer.status_code != 200:
                raise denied("Kaggle's log", answer)
            return answer

        return self._signed(lambda sign: patiently(self.wire, ask(sign), read))

    def _signed(self, perform: Callable[[Sign], T]) -> T:
        """With who we are; a 401 did nothing, so it is worth another try with a fresh token."""
        try:
            return perform(self.login.sign)
        except Denied as error:
            if error.status != 401:
                raise
            if not self.login.renew():
                raise self.login.refused(error.words) from error
        try:
            return perform(self.login.sign)
        except Denied as error:
            if error.status != 401:
                raise
            raise self.login.refused(error.words) from error


def _log_ask(ask: Ask) -> Ask:
    """A log may say nothing for minutes, and comes over a connection of its own."""
    accept = {"Accept": "text/event-stream, */*"}
    return replace(ask, headers={**ask.headers, **accept}, read_s=SILENCE_S, follow=True, fresh=True)
