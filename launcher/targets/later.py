"""Work begun in a thread, whose result or error is taken where it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Later:
    """`Later(work).result()` returns or raises what `work()` did."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value

    def done(self, patience_s: float) -> bool:
        """Whether it has ended, at the latest after so long."""
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as e:
            self._error = e
