"""What a warm start did, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from yolograft.blocks._carry import Carried
from yolograft.config.rows import channels
from yolograft.warm.layers import classes, fitting, is_head, is_stem, labels
from yolograft.warm.match import Match
from yolograft.warm.trace import Trace, trace


@dataclass
class Report:
    """What a warm start did.

    Attributes:
        total: Tensors of the checkpoint.
        carried: Those that the model took over.
        exact: Blocks that do what was there before them.
        change: Largest difference of an output on a small random image; ``None`` if the two models
            could not be compared.
        of: What was compared.
        left: Tensors that were not taken over, in words.
        fresh: Blocks that are not trained yet.
        kept: What layers are as in the checkpoint, and their config does not say.
        changed: What layers are otherwise than in the checkpoint, though their tensors fit.
    """

    total: int
    carried: int
    exact: int
    change: float | None = None
    of: str = "output"
    left: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __str__(self):
        grafts = f"{self.exact} exact graft{'' if self.exact == 1 else 's'}"
        if self.changed:
            grafts = "not exact"
        line = f"yolograft: {self.carried}/{self.total} tensors carried, {grafts}"
        if self.change is not None:
            line += f", max {self.of} change {self.change:.1g}".replace("e-0", "e-")
        if self.fresh:
            line += f"\nnot trained yet: {', '.join(self.fresh)}"
        lines = [line, *notes(self.kept, self.changed)]
        return "\n".join([*lines, *(f"not carried: {one}" for one in self.left)])

    def compare(self, target: nn.Module, source: nn.Module, old: Trace) -> None:
        """Measure how far the outputs are from those of the checkpoint.

        Args:
            target: The model that was filled.
            source: The model of the checkpoint.
            old: The trace of the source.
        """
        new = trace(target)
        mine, theirs = target.model[-1].state_dict(), source.model[-1].state_dict()
        equal = len(mine) == len(theirs) == len(fitting(theirs, mine)) and all(
            torch.equal(mine[k].cpu().double(), v.cpu().double()) for k, v in theirs.items()
        )
        pairs = list(zip(new.output, old.output, strict=False)) if equal else []
        if not pairs:
            pairs, self.of = list(zip(new.read, old.read, strict=False)), "head input"
        same_image = channels(target.yaml) == channels(source.yaml)
        if not (same_image and pairs and all(a.shape == b.shape for a, b in pairs)):
            return
        filled = [(a.double(), b.double()) for a, b in pairs if a.numel()]
        self.change = max((float((a - b).abs().max()) for a, b in filled), default=0.0)
        size = max((float(b.abs().max()) for _, b in filled), default=0.0)
        explained = self.fresh or self.left or self.changed
        if not explained and self.change > 1e-4 * size:
            self.changed.append(f"the {self.of}, although layers and tensors are equal")


def notes(kept: Iterable[str], changed: Iterable[str]) -> list[str]:
    """Return the lines of a report about what layers are beyond their tensors.

    Args:
        kept: As in :class:`Report`.
        changed: As in :class:`Report`.
    """
    lines = [f"different from the checkpoint: {one}" for one in changed]
    return lines + [f"kept from the checkpoint: {one}" for one in kept]


def report(matched: Match, filled: dict[int, Carried]) -> Report:
    """Return which tensors a model took over, once it is filled.

    Args:
        matched: Which layer is which.
        filled: The tensors for each layer of the model.
    """
    target, source, pairs = matched.target, matched.source, matched.pairs
    taken = set()
    for i, j in pairs.items():
        origins, state = filled[i].origins, target.model[i].state_dict()
        taken |= {(j, origins[k]) for k in fitting(filled[i].tensors, state) if k in origins}
    last = len(source.model) - 1
    if len(target.model) - 1 in pairs:  # Ultralytics may have rebuilt the head
        fits = fitting(source.model[-1].state_dict(), target.model[-1].state_dict())
        taken |= {(last, k) for k in fits}
    theirs = [(j, k) for j, layer in enumerate(source.model) for k in layer.state_dict()]
    names = labels(target) or [type(layer).__name__ for layer in target.model]
    return Report(
        total=len(theirs),
        carried=len(taken),
        exact=sum(one.exact for one in filled.values()),
        left=_left(matched, [one for one in theirs if one not in taken]),
        fresh=[f"layer {i} ({names[i]})" for i, one in sorted(filled.items()) if one.fresh],
    )


def _left(matched: Match, tensors: list[tuple[int, str]]) -> list[str]:
    """Return a line for each reason why tensors of the checkpoint were not taken over."""
    at = {j: matched.target.model[i] for i, j in matched.pairs.items()}
    reasons: dict[str, list[tuple[int, str]]] = {}
    for j, key in tensors:
        old, new = matched.source.model[j], at.get(j)
        if new is None:
            why = matched.doubts.get(j, "no layer of the model is like it")
        elif is_head(new, old) and classes(new) != classes(old):
            why = f"it has {classes(old)} classes, the model has {classes(new)}"
        elif is_stem(new, old):
            why = "its filters are adapted to images with other channels"
        else:
            why = f"{type(new).__name__}, layer {new.i}, has no place for them"
        reasons.setdefault(why, []).append((j, key))
    lines = []
    for why, found in reasons.items():
        which, keys = [*dict.fromkeys(j for j, _ in found)], [key for _, key in found]
        some = f"layers {', '.join(map(str, which))} of the checkpoint"
        if len(which) == 1:
            kind, few = type(matched.source.model[which[0]]).__name__, ", ".join(keys[:3])
            more = ", ..." if len(keys) > 3 else ""
            some = f"layer {which[0]} of the checkpoint ({kind}: {few}{more})"
        lines.append(f"{len(keys)} tensor{'' if len(keys) == 1 else 's'} of {some}: {why}")
    return lines
