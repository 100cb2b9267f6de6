"""paramiko without `invoke`, which it needs only for `Match exec` and which is 40 % of its import time."""

from __future__ import annotations

import sys

_absent = "invoke" not in sys.modules
if _absent:
    sys.modules["invoke"] = None  # type: ignore[assignment]
try:
    import paramiko
finally:
    if _absent:
        del sys.modules["invoke"]

__all__ = ["paramiko"]
