"""What goes wrong in the emulated Colab, as data; may change while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Faults:
    """All off. Lists are used up from the front, one entry a request; counts go down to 0."""

    # account and assignment
    outcome: int | None = None  # POST assign answers with it and gives no runtime: 1, 2, 5
    assign_statuses: list[int] = field(default_factory=list)  # POST assign answers 412, 502, 503, …
    lost_assign_answers: int = 0  # the runtime is assigned, but the connection closes without an answer
    assign_delay_s: float = 0.0  # the answer to POST assign takes so long
    given: dict[str, str] = field(default_factory=dict)  # asked for -> really given, e.g. {"T4": "NONE"}
    silent_keep_alive: bool = False  # keep-alive counts, but is not answered, as it happens on Colab
    # the way to the runtime
    start_delay_s: float = 0.0  # its proxy answers 503 for so long after the assignment
    cut_after_bytes: int | None = None  # each connection is reset after so many bytes, both ways counted
    cut_after_s: float | None = None  # each connection is reset after so many seconds
    expire_after_bytes: int | None = None  # all proxy tokens expire when so many bytes were sent up
    gone_status: int = 404  # what the proxy of a runtime that is no more answers: 404 or 502
