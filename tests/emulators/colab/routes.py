"""The routes below /tun/m, and the account's: who has which runtime."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.emulators.colab import machine as machines
from tests.emulators.colab.account import Account, Wish, read_wish, refusal
from tests.emulators.colab.faults import Faults
from tests.emulators.colab.machine import Machine
from tests.emulators.colab.proxy import Proxy
from tests.emulators.colab.settings import SHAPES, SUCCESS, VARIANTS, Settings
from tests.emulators.colab.wire import Answer, Request, guarded_json

XSRF_HEADER = "x-goog-colab-token"


@dataclass
class Assignment:
    """A runtime of the account; `started` and `touched` are moments of time.monotonic()."""

    endpoint: str
    wish: Wish
    accelerator: str
    machine: Machine
    proxy: Proxy
    started: float = field(default_factory=time.monotonic)
    touched: float = field(default_factory=time.monotonic)

    def listed(self) -> dict[str, object]:
        return {
            "accelerator": self.accelerator,
            "endpoint": self.endpoint,
            "variant": VARIANTS["DEFAULT" if self.accelerator == "NONE" else self.wish.variant],
            "machineShape": SHAPES[self.wish.shape],
            "runtimeProxyInfo": self.proxy.info(),
        }


class Office:
    """Gives runtimes and takes them back. An answer of None is one that never arrives."""

    def __init__(self, settings: Settings, faults: Faults) -> None:
        self.settings = settings
        self.faults = faults
        self.account = Account(settings)
        self.living: dict[str, Assignment] = {}
        self.ended: dict[str, str] = {}  # endpoint -> why
        self.proxies: list[Proxy] = []
        self._xsrf: dict[str, str] = {}
        self._giving = asyncio.Lock()

    async def answer(self, request: Request) -> Answer | None:
        if request.headers.get("authorization") != f"Bearer {self.settings.token}":
            return Answer(401)
        if request.path == "/v1/user-info" and request.method == "GET":
            return self._user_info(request)
        kind, *rest = request.path.removeprefix("/tun/m/").rstrip("/").split("/")
        routes: dict[tuple[str, str, int], Callable[..., Awaitable[Answer | None]]] = {
            ("GET", "assign", 0): self._ask,
            ("POST", "assign", 0): self._assign,
            ("GET", "assignments", 0): self._list,
            ("GET", "ccu-info", 0): self._ccu_info,
            ("GET", "unassign", 1): self._ask_unassign,
            ("POST", "unassign", 1): self._unassign,
        }
        if rest == ["keep-alive"]:
            return await self._keep_alive(request, kind)
        route = routes.get((request.method, kind, len(rest)))
        if route is None or not request.path.startswith("/tun/m/"):
            return Answer(404)
        return await route(request, *rest)

    def end(self, endpoint: str, why: str) -> None:
        """Take a runtime away: its processes, its disk, its place in the list."""
        assignment = self.living.pop(endpoint, None)
        if assignment is not None:
            self.ended[endpoint] = why
            assignment.proxy.vanish()
            machines.destroy(assignment.machine)

    def use(self, settings: Settings) -> None:
        self.settings = settings
        self.account.settings = settings

    @property
    def accelerators(self) -> list[str]:
        return [assignment.accelerator for assignment in self.living.values()]

    async def _ask(self, request: Request) -> Answer:
        wish = read_wish(request, self.settings)
        if isinstance(wish, Answer):
            return wish
        if there := self._of_notebook(wish.nbh):
            return guarded_json(there.listed())
        told = {"acc": wish.accelerator, "nbh": wish.nbh, "p": False, "variant": wish.variant}
        return guarded_json({**told, "token": self._new_xsrf(wish.nbh)})

    async def _assign(self, request: Request) -> Answer | None:
        wish = read_wish(request, self.settings)
        if isinstance(wish, Answer):
            return wish
        if not self._xsrf_matches(request, wish.nbh):
            return Answer(403)
        async with self._giving:
            assignment = self._of_notebook(wish.nbh)
            if assignment is None:
                no = refusal(self.settings, self.faults, self.account, len(self.living))
                if no is not None:
                    return no
                assignment = await self._give(wish)
        await asyncio.sleep(self.faults.assign_delay_s)
        if self.faults.lost_assign_answers > 0:
            self.faults.lost_assign_answers -= 1
            return None
        return guarded_json({**assignment.listed(), "outcome": SUCCESS, "fit": True, "sub": 0, "subTier": 0})

    async def _give(self, wish: Wish) -> Assignment:
        accelerator = self.faults.given.get(wish.accelerator, wish.accelerator)
        proxy = Proxy(self.faults, self.settings.real_s(self.settings.proxy_token_s))
        await proxy.listen()
        self.proxies.append(proxy)
        machine = machines.boot(accelerator, wish.label, self.settings.system)
        try:
            await machines.answers(machine)
        except BaseException:
            machines.destroy(machine)
            raise
        kind = "m" if accelerator == "NONE" else f"gpu-{accelerator.lower()}"
        endpoint = f"{kind}-s-{secrets.token_hex(6)}"
        proxy.open(machine.socket)
        self.living[endpoint] = Assignment(endpoint, wish, accelerator, machine, proxy)
        return self.living[endpoint]

    async def _list(self, request: Request) -> Answer:
        return guarded_json({"assignments": [one.listed() for one in self.living.values()]})

    async def _ccu_info(self, request: Request) -> Answer:
        return guarded_json(self.account.ccu_info(self.accelerators))

    async def _ask_unassign(self, request: Request, endpoint: str) -> Answer:
        return guarded_json({"token": self._new_xsrf(endpoint)}) if endpoint in self.living else Answer(404)

    async def _unassign(self, request: Request, endpoint: str) -> Answer:
        if endpoint not in self.living:
            return Answer(404)
        if not self._xsrf_matches(request, endpoint):
            return Answer(403)
        self.end(endpoint, "unassigned")
        return guarded_json({})

    async def _keep_alive(self, request: Request, endpoint: str) -> Answer | None:
        assignment = self.living.get(endpoint)
        if assignment is None:
            return Answer(404)
        if request.headers.get("x-colab-tunnel") != "Google":
            return Answer(403)
        assignment.touched = time.monotonic()
        if self.faults.silent_keep_alive:
            await asyncio.sleep(3600)
        return Answer(200, b"")

    def _user_info(self, request: Request) -> Answer:
        info = self.account.user_info(self.accelerators)
        if request.query.get("get_ccu_consumption_info") != "true":
            info = {"subscriptionTier": info["subscriptionTier"]}
        return Answer(200, json.dumps(info).encode())

    def _of_notebook(self, nbh: str) -> Assignment | None:
        return next((one for one in self.living.values() if one.wish.nbh == nbh), None)

    def _new_xsrf(self, about: str) -> str:
        return self._xsrf.setdefault(about, secrets.token_hex(12))

    def _xsrf_matches(self, request: Request, about: str) -> bool:
        return request.headers.get(XSRF_HEADER, "") == self._xsrf.get(about, None)
