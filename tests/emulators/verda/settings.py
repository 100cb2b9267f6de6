"""How the emulated Verda behaves and what goes wrong in it, as data; may change while it runs."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field
from typing import Any

PHASES = (("ordered", 5.0), ("validating", 2.0), ("provisioning", 60.0))


@dataclass
class Settings:
    """Times in `_s` are the cloud's own and run `time_scale` times faster than the wall clock; `_wall_s` are not."""

    machines: str = "light"  # light: nothing behind the address; real: an sshd and a Docker Engine
    time_scale: float = 1.0  # 360: an hour in ten seconds; 0: time passes only by verda.clock.advance()
    start: float | None = None  # the clock's first moment, seconds since 1970; None: now
    phases: tuple[tuple[str, float], ...] = PHASES  # what a new instance goes through before it is running
    ssh_lag_s: float = 2.0  # from running until sshd answers
    script_lag_s: float = 2.0  # from sshd until the start-up script begins: till then a host key of its own
    delete_s: float = 10.0  # "deleting" for so long; billed until its end
    power_s: float = 5.0  # a shutdown or start takes so long
    detach_s: float = 5.0  # a volume stays "attached" for so long after its instance is gone
    trash_s: float = 96 * 3600.0  # a volume in the trash is lost after so long
    gone_readable: bool = True  # GET /instances/{id} of a deleted one: "discontinued", else 404
    balance: float = 100.0  # prepaid; at zero all instances are discontinued and all volumes go to the trash
    currency: str = "usd"  # the account's own
    bills_trash: bool = False
    spot_lives_s: float | None = None  # each spot instance is evicted after running for so long
    spot_ends: str = "kill"  # kill: the connection is reset; freeze: it stays open and nothing answers
    spot_api_lag_s: float = 0.0  # from an eviction until the API knows
    max_gpus: int = 1000  # more at once: accepted, then "error" with GPU_QUOTA_EXCEEDED in the journal
    max_scripts: int = 100
    token_wall_s: float = 3600.0  # what a token says; it lasts a minute longer
    limits_rate: bool = True  # 500 requests a minute, 60 per method and path; counted in any case
    box_images: tuple[str, ...] = ()  # that the Docker Engine of a real machine has from the start


@dataclass
class Answer:
    """What the next requests get instead of an answer; `path` is a regex for all that follows `/v1`.

    `lost`: the connection closes. `status`: another answer. Neither: the true one, perhaps late. The work is done
    first when the answer is lost, and not done when there is another one, unless `done` says otherwise.
    """

    method: str
    path: str
    status: int = 0
    lost: bool = False
    done: bool | None = None
    times: int = 1
    chance: float = 1.0  # of each request, by the seed of Faults
    late_wall_s: float = 0.0  # between the work and the answer
    twice: bool = False  # the work is done twice
    retry_after_s: float | None = None
    message: str = "emulated fault"
    html: bool = False  # a page of a proxy instead of JSON
    body: Any = None  # JSON instead of code and message; a 207 without it says that nothing could be done

    @property
    def works(self) -> bool:
        return not self.status if self.done is None else self.done

    def meets(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in (method, "*") and bool(re.fullmatch(self.path, path))


@dataclass(frozen=True)
class Fate:
    """What becomes of an instance that is created next."""

    status: str = ""  # instead of running: error, no_capacity, installation_failed, or a word nobody knows
    stuck_s: float = (
        0.0  # longer in its last phase, then the status above, or error: cannot be deleted till then
    )
    phases: tuple[tuple[str, float], ...] | None = None  # other ones than in Settings
    script: bool = True  # False: the start-up script never runs
    docker: bool = True  # False: no Docker Engine, whatever the image says
    gpu: bool = True  # False: no driver
    sshd: bool = True  # False: nothing ever listens
    host_key: bool = True  # False: the script's host key is not taken: someone else's machine answers


@dataclass
class Faults:
    """All off."""

    answers: list[Answer] = field(default_factory=list)
    outage: Answer | None = None  # for each request, for as long as it stands here
    fates: list[Fate] = field(default_factory=list)  # of the next instances, one each
    listing_lag_s: float = 0.0  # new instances are missing in listings for so long
    by_id_lag_s: float = 0.0  # … and unknown by id
    gone_lag_s: float = 0.0  # deleted ones are still listed, as "deleting"
    blind_listings: int = 0  # so many listings of instances are answered with []
    seed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _random: random.Random | None = field(default=None, repr=False)

    def take(self, method: str, path: str) -> Answer | None:
        """The fault for this request, used up by one."""
        with self._lock:
            if self.outage is not None:
                return self.outage
            for answer in self.answers:
                if answer.meets(method, path) and self._drawn(answer.chance):
                    answer.times -= 1
                    return answer
        return None

    def next_fate(self) -> Fate:
        with self._lock:
            return self.fates.pop(0) if self.fates else Fate()

    def _drawn(self, chance: float) -> bool:
        if chance >= 1.0:
            return True
        self._random = self._random or random.Random(self.seed)
        return self._random.random() < chance
