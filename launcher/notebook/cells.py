"""The cells of a notebook, as short texts that a newcomer can read (pure)."""

from __future__ import annotations
