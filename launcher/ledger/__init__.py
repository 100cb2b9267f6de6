"""The ledger: what this user started, where it runs, what may still cost; durable before it happens."""

from launcher.ledger.rows import Held
from launcher.ledger.store import Ledger

__all__ = ["Held", "Ledger"]
