"""paramiko without `invoke`, which it needs only for `Match exec` and which is 40 % of its import time."""

from __future__ import annotations

import logging
import sys

_absent = "invoke" not in sys.modules
if _absent:
    sys.modules["invoke"] = None  # type: ignore[assignment]
try:
    import paramiko
finally:
    if _absent:
        del sys.modules["invoke"]

# Its transport threads log every fault with a traceback, which Python would print on the user's terminal; we
# get the same faults as exceptions.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

__all__ = ["paramiko"]
