"""Money: what burns since when, what it came to, and what is left."""

from __future__ import annotations


class Books:
    """Each running thing burns at its rate; all is settled to the moment `at`."""

    def __init__(self, balance: float, at: float) -> None:
        self.balance, self.at = balance, at
        self._open: dict[str, tuple[float, float]] = {}  # id: since, per second
        self._closed: dict[str, float] = {}
        self._burn = 0.0

    @property
    def empty_at(self) -> float:
        """When nothing is left."""
        if self._burn <= 0.0:
            return float("inf")
        return self.at + max(0.0, self.balance) / self._burn

    def settle(self, moment: float) -> None:
        if moment > self.at:
            self.balance -= (moment - self.at) * self._burn
            self.at = moment

    def start(self, name: str, per_s: float) -> None:
        self.stop(name)
        self._open[name] = (self.at, per_s)
        self._burn += per_s

    def stop(self, name: str) -> None:
        """May be called any number of times."""
        since, per_s = self._open.pop(name, (self.at, 0.0))
        self._closed[name] = self._closed.get(name, 0.0) + (self.at - since) * per_s
        self._burn = self._burn - per_s if self._open else 0.0

    def cost(self, name: str) -> float:
        """What this one has cost so far."""
        since, per_s = self._open.get(name, (self.at, 0.0))
        return self._closed.get(name, 0.0) + (self.at - since) * per_s

    @property
    def burning(self) -> set[str]:
        """What costs money now."""
        return {name for name, (_, per_s) in self._open.items() if per_s > 0}
