"""Names of images: what identifies one, and which ones a Dockerfile starts from (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def digest(name: str, found: Mapping[str, Any]) -> str:
    """What identifies an image: its registry's digest, or its id where it came from no registry."""
    repository = name.partition("@")[0].rpartition("/")[2].partition(":")[0]
    for known in found.get("RepoDigests") or ():
        if known.partition("@")[0].rpartition("/")[2] == repository:
            return str(known.partition("@")[2])
    return str(found["Id"])


def bases_of(dockerfile: str) -> tuple[str, ...]:
    """The images that a Dockerfile starts from, the last stage's last; those named by an ARG are left out."""
    images, stages = [], set()
    for line in re.sub(r"\\\r?\n", " ", dockerfile).splitlines():
        words = [word for word in line.split() if not word.startswith("--")]
        if len(words) < 2 or words[0].upper() != "FROM":
            continue
        if words[1] not in stages and words[1] != "scratch" and "$" not in words[1]:
            images.append(words[1])
        if len(words) == 4 and words[2].upper() == "AS":
            stages.add(words[3])
    return tuple(dict.fromkeys(images))
