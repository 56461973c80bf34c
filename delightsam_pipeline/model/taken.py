"""What was taken from a weights file, what was not and why, in the parts that a person knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Tensors of one part: what it is, how many tensors, the modalities or heads it belongs to, and a remark."""

    what: str
    tensors: int
    owners: tuple[str, ...] = ()
    remark: str = ""

    def __str__(self) -> str:
        owners = f" of {', '.join(self.owners)}" if self.owners else ""
        remark = f": {self.remark}" if self.remark else ""
        return f"{self.what}{owners} ({self.tensors}{remark})"


@dataclass(frozen=True)
class Report:
    """What load_pretrained did. Counts are of tensors.

    file, kind : the weights and what they are. taken : what the network has from them. left : what else the file
    holds, each with the reason. anew : what of the network is not in the file and keeps its first values.
    """

    file: str
    kind: str
    taken: tuple[Group, ...]
    left: tuple[Group, ...]
    anew: tuple[Group, ...]

    def __str__(self) -> str:
        lines = [f"{self.file} is {self.kind} (numbers of tensors in brackets)"]
        for title, groups in (("taken", self.taken), ("left out", self.left), ("begins anew", self.anew)):
            if groups:
                lines.append(f"  {title}: {', '.join(map(str, groups))}")
        return "\n".join(lines)


def grouped(entries: Iterable[tuple[str, str, str]]) -> tuple[Group, ...]:
    """(what, owner or an empty string, remark) of single tensors -> groups, in the order of their first tensors."""
    counts: dict[tuple[str, str], int] = {}
    owners: dict[tuple[str, str], dict[str, None]] = {}
    for what, owner, remark in entries:
        key = (what, remark)
        counts[key] = counts.get(key, 0) + 1
        owners.setdefault(key, {}).update({owner: None} if owner else {})
    return tuple(Group(what, count, tuple(owners[what, remark]), remark) for (what, remark), count in counts.items())
