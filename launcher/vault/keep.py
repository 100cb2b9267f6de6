"""What should come home, and which checkpoints stay there: all, or the newest N and every `best` (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from launcher.run import Artifact
from launcher.vault.index import HomeArtifact, Key, Order, is_best

Keep = int | Literal["all"]


def missing(
    artifacts: Iterable[Artifact], segment: int, known: Mapping[Key, Order], keep: Keep
) -> list[Artifact]:
    """Of what a segment published, what is newer than `known` and would stay; in the order of publication."""
    newest = {(a.kind, a.name): a for a in sorted(artifacts, key=lambda a: a.number)}
    new = {key: a for key, a in newest.items() if (segment, a.number) > known.get(key, (-1, -1))}
    stay = retained({**known, **{key: (segment, a.number) for key, a in new.items()}}, keep)
    wanted = [a for key, a in new.items() if key[0] != "checkpoint" or key in stay]
    return sorted(wanted, key=lambda a: a.number)


def let_go(home: Sequence[HomeArtifact], keep: Keep) -> list[HomeArtifact]:
    """Of the checkpoints at home, those that no longer stay."""
    checkpoints = [artifact for artifact in home if artifact.kind == "checkpoint"]
    stay = retained({artifact.key: artifact.order for artifact in checkpoints}, keep)
    return [artifact for artifact in checkpoints if artifact.key not in stay]


def retained(orders: Mapping[Key, Order], keep: Keep) -> set[Key]:
    """The checkpoints that stay: by order of publication, never by name or time."""
    checkpoints = [key for key in orders if key[0] == "checkpoint"]
    counted = sorted((key for key in checkpoints if not is_best(*key)), key=lambda key: orders[key])
    stay = counted if keep == "all" else counted[-keep:]
    return {*stay, *(key for key in checkpoints if is_best(*key))}
