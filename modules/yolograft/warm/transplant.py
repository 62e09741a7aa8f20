"""Warm start: find each layer's counterpart in a checkpoint, and carry its tensors over.

Ultralytics matches tensors by name, and names hold the layer's number: one inserted row, and all
behind it is lost. Here layers are matched instead, in one of two ways:

- by the config's record: its key ``graft`` says from which row of the base each row came;
- by aligning the two lists of layers, where there is no record, or it no longer describes the rows:
  the alignment that matches most, by module, tensors, and what they read.

A match has to fit in every tensor, read maps at the same strides and return maps of the same shape.
Where two alignments are equally good, or a layer reads another layer than its match did, it is left
out and reported: no tensor goes to a layer by guessing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn

from yolograft import exact
from yolograft.config.labels import split
from yolograft.errors import refuse
from yolograft.exact import Carried
from yolograft.ultra import without_weights
from yolograft.warm import prompts, rebuild


@dataclass
class Report:
    """What a warm start did.

    Attributes:
        total: Tensors of the checkpoint.
        carried: Those that the model took over.
        exact: Blocks that do what was there before them.
        change: Largest difference of an output on a small random picture; ``None`` if the two
            models could not be compared.
        of: What was compared.
        left: Tensors that were not taken over, in words.
        fresh: Blocks that start from nothing.
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
            line += f"\nstart fresh: {', '.join(self.fresh)}"
        lines = [line, *(f"not as in the checkpoint: {one}" for one in self.changed)]
        lines += [f"kept from the checkpoint: {one}" for one in self.kept]
        return "\n".join([*lines, *(f"left: {one}" for one in self.left)])


def concerns(target: nn.Module, source: nn.Module) -> bool:
    """Tell whether a model is for this room: it is grafted, or the checkpoint is.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
    """
    models = (target, source)
    if not all(isinstance(getattr(m, "model", None), nn.Sequential) for m in models):
        return False
    recorded = any("graft" in (getattr(m, "yaml", None) or {}) for m in models)
    return recorded or any(split(label)[1] for m in models for label in _labels(m))


def differ(target: nn.Module, source: nn.Module) -> bool:
    """Tell whether layers have to be matched; those of a model that is resumed have not.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
    """
    mine, theirs = list(target.model), list(source.model)
    if len(mine) != len(theirs) or any(map(_read_others, mine, theirs)):
        return True
    return not all(map(_is_same, mine[:-1], theirs[:-1]))


def widen(target: nn.Module, source: nn.Module) -> None:
    """Give the class branches of a head the width that a checkpoint's have.

    The host derives the width inside them from the number of classes, so that with another number
    none of their tensors would fit, and neither would they when such a model is resumed. Recent
    releases do the same; to them nothing is left to do.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
    """
    head, other = target.model[-1], source.model[-1]
    for name in ("cv3", "one2one_cv3"):
        mine, theirs = getattr(head, name, None), getattr(other, name, None)
        if not (isinstance(mine, nn.ModuleList) and isinstance(theirs, nn.ModuleList)):
            continue
        if _widths(mine, 0) != _widths(theirs, 0) or _widths(mine, -1) == _widths(theirs, -1):
            continue
        theirs = copy.deepcopy(theirs)
        for branch, old in zip(theirs, mine, strict=True):
            if branch[-1].out_channels != old[-1].out_channels:
                branch[-1] = nn.Conv2d(branch[-1].in_channels, old[-1].out_channels, 1)
        weight = mine[0][-1].weight
        setattr(head, name, theirs.to(weight).requires_grad_(weight.requires_grad))
        theirs.train(mine.training)
        head.bias_init()


def _widths(branches: nn.ModuleList, which: int) -> list[int]:
    """Return the input channels of the first or last convolution of each branch."""
    convolutions = [[m for m in b.modules() if isinstance(m, nn.Conv2d)] for b in branches]
    return [found[which].in_channels for found in convolutions if found]


def _labels(model: nn.Module) -> list[str]:
    """Return the module names of a model's rows; none for a model that is built from no rows."""
    config = getattr(model, "yaml", None) or {}
    rows = [*config.get("backbone", ()), *config.get("head", ())]
    return [row[2] for row in rows] if len(rows) == len(model.model) else []


def _read_others(new: nn.Module, old: nn.Module) -> bool:
    return _sources(new) != _sources(old)


def _is_same(new: nn.Module, old: nn.Module) -> bool:
    return type(new) is type(old) and _tensors(new) == _tensors(old) and _steps(new) == _steps(old)


def _tensors(layer: nn.Module) -> dict[str, torch.Size]:
    return {k: v.shape for k, v in layer.state_dict().items()}


def _steps(layer: nn.Module) -> list[str]:
    """Return what a layer's tensors do not show: strides, padding and dilation."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample)
    return [repr(module) for module in layer.modules() if type(module) in kinds]


def warm_start(
    target: nn.Module, source: nn.Module, load: Callable[[nn.Module], None] | None = None
) -> Report:
    """Carry the tensors of a checkpoint into a model with other rows.

    Args:
        target: The host's model to fill.
        source: The model of a checkpoint.
        load: Fills the target from a model that holds the tensors by its own names.

    Raises:
        ConfigError: If the checkpoint is of another scale, or its BatchNorm is folded.
    """
    normal = [any(isinstance(m, nn.BatchNorm2d) for m in one.modules()) for one in (target, source)]
    if normal == [True, False]:
        refuse(
            f"{_name(source)}: its BatchNorm is folded, for inference",
            "start from the checkpoint that the training wrote",
        )
    old = trace(source)
    new = trace(target)
    _check_scale(target, source, new, old)
    texts = prompts.take(target, source)
    pairs, doubts = match(target, rebuild.by_config(source), new, old)
    kept = rebuild.keep(target, source, pairs)
    for i, j in list(pairs.items()):
        if _carry(target.model[i], source.model[j]) is None:
            doubts[j] = "it is not the layer that its config builds"
            del pairs[i]
    filled = _fill(target, source, pairs, new)
    donor = _donor(target, source, pairs, filled)
    if load is None:
        state = target.state_dict()
        fits = {
            k: v for k, v in donor.state_dict().items() if k in state and state[k].shape == v.shape
        }
        target.load_state_dict(fits, strict=False)
    else:
        load(donor)
    report = _report(target, source, pairs, filled, doubts)
    report.kept, report.changed = kept, rebuild.changed(target, source, pairs)
    report.total += len(texts)
    report.carried += sum(not why for why in texts.values())
    report.left += [f"{name} of the checkpoint: {why}" for name, why in texts.items() if why]
    _compare(report, target, source, old)
    return report


def _name(model: nn.Module) -> str:
    return str(getattr(model, "pt_path", None) or "the checkpoint")


# ------------------------------------------------------------------------------------------- scale


def _check_scale(target: nn.Module, source: nn.Module, mine: Trace, theirs: Trace) -> None:
    """Refuse a checkpoint whose layers have other widths or depths than the config's.

    Layers are compared with those of their kind, at the same strides and in the same order. Only
    where most differ, from the first on, is it another scale: all else are edits by hand, and what
    fits is carried.
    """
    kin = _kin(target, source, lambda i, j: mine.strides(i) == theirs.strides(j) is not None)
    in_order = _kin(target, source, lambda i, j: True)

    def widths(pairs):
        return [(mine.width(i), theirs.width(j)) for i, j in pairs.items()]

    def depths(pairs):
        both = [(_depth(target.model[i]), _depth(source.model[j])) for i, j in pairs.items()]
        return [pair for pair in both if any(pair)]

    def are_others(measure):
        ordered = measure(in_order)
        return _mostly_differ(measure(kin)) and (not ordered or _mostly_differ(ordered))

    if are_others(widths):
        here, there = [f"{min(one)} to {max(one)}" for one in zip(*widths(kin), strict=True)]
        fact = f"its layers have {there} channels, those of the config {here}"
    elif are_others(depths):
        here, there = [", ".join(map(str, one)) for one in zip(*depths(kin), strict=True)]
        fact = f"its stages hold {there} blocks, those of the config {here}"
    else:
        return
    scales = target.yaml.get("scales") or {}
    config = target.yaml.get("yaml_file") or ""
    here = target.yaml.get("scale") or next(iter(scales), "")
    there = _letter(target, source, kin)
    if here and there not in ("", here):
        refuse(
            f"{_name(source)} is a model of scale {there}, the config {config} is of scale {here}: "
            f"{fact}",
            f"use the config at scale {there}, or a checkpoint of scale {here}",
        )
    refuse(
        f"{_name(source)} is a model of another scale than the config {config}: {fact}",
        "use a config with the checkpoint's widths and depths, or a checkpoint of this config",
    )


def _kin(target: nn.Module, source: nn.Module, may: Callable[[int, int], bool]) -> dict[int, int]:
    """Return the layers of one kind in two models, without the heads."""

    def score(i: int, j: int) -> int:
        layer, other = target.model[i], source.model[j]
        return int(type(layer) is type(other) and bool(layer.state_dict()) and may(i, j))

    rows, columns = range(len(target.model) - 1), range(len(source.model) - 1)
    return _align([[score(i, j) for j in columns] for i in rows])[0]


def _mostly_differ(pairs: list[tuple[int, int]]) -> bool:
    return 2 * sum(a != b for a, b in pairs) > len(pairs) and pairs[0][0] != pairs[0][1]


def _depth(layer: nn.Module) -> int:
    """Return how many blocks a stage holds; 0 for a layer that holds none."""
    lists = (nn.ModuleList, nn.Sequential)
    return max((len(m) for m in (layer, *layer.children()) if isinstance(m, lists)), default=0)


def _letter(target: nn.Module, source: nn.Module, kin: dict[int, int]) -> str:
    """Return the scale at which most layers of the config are those of a checkpoint, if any is."""
    from ultralytics.nn import tasks

    found = {}
    for letter in target.yaml.get("scales") or ():
        config = {**copy.deepcopy(target.yaml), "scale": letter}
        for part in ("backbone", "head"):
            config[part] = [without_weights(row) for row in config[part]]
        try:
            with torch.device("meta"):
                layers, _ = tasks.parse_model(config, config.get("channels", 3), False)
        except Exception:  # a layer that wants real memory: the letter is only for the message
            return ""
        pairs = [(_tensors(layers[i]), _tensors(source.model[j])) for i, j in kin.items()]
        found[letter] = sum(
            len(a.items() & b.items()) / len(a.items() | b.items()) for a, b in pairs
        )
    best = max(found, key=found.get, default="")
    return best if best and 2 * found[best] > len(kin) else ""


# ---------------------------------------------------------------------------------------- matching


@dataclass
class Trace:
    """What a small random picture becomes in a model.

    Attributes:
        shapes: Shape of each layer's map; ``None`` where it is not one map.
        maps: For each layer the maps that it reads and those that it returns, each as its channels
            and its strides; ``None`` where it did not run. The head returns none.
        read: The maps that the head reads.
        output: What the head returns before it is decoded, flattened.
    """

    shapes: list[torch.Size | None]
    maps: list[tuple[list, list] | None]
    read: list[Tensor] = field(default_factory=list)
    output: list[Tensor] = field(default_factory=list)

    def strides(self, layer: int) -> tuple | None:
        """Return the strides of the maps that a layer reads and returns; ``None`` if unknown."""
        if self.maps[layer] is None:
            return None
        return tuple([one[1:] for one in maps] for maps in self.maps[layer])

    def meets(self, layer: int, other: Trace, match: int) -> bool:
        """Tell whether a layer reads at the strides, and returns the shapes, that another does."""
        mine, theirs = self.maps[layer], other.maps[match]
        if mine is None or theirs is None:
            return False
        return self.strides(layer) == other.strides(match) and mine[1] == theirs[1]

    def width(self, layer: int) -> int:
        """Return the channels that a layer returns; 0 if it returns no map."""
        return self.maps[layer][1][0][0] if self.maps[layer][1] else 0


def trace(model: nn.Module) -> Trace:
    """Run a small random picture through a model, which is left as it was.

    Args:
        model: The host's model.

    Returns:
        What came out; nothing where it cannot be run on a picture alone.
    """
    stride = getattr(model, "stride", None)
    small = max(128, 2 * int(stride.max())) if isinstance(stride, Tensor) else 128
    for size in (small, 256, 640):  # some layers take no small maps
        found = _trace(model, size)
        if found.maps[-1] is not None:
            break
    return found


def _trace(model: nn.Module, size: int) -> Trace:
    layers, head = list(model.model), model.model[-1]
    found = Trace([None] * len(layers), [None] * len(layers))
    reads: dict[int, list] = {}

    def maps(value):
        all_maps = [x.shape[1:] for x in _flat(value) if x.ndim == 4]
        return [(c, size / h, size / w) for c, h, w in all_maps]

    def keep(layer, args):
        reads[layer.i] = maps(args[0])
        if layer is head:
            found.maps[-1] = (reads[layer.i], [])
            found.read = [x.detach().cpu() for x in _flat(args[0])]

    def note(layer, args, y):
        found.shapes[layer.i] = y.shape if isinstance(y, Tensor) else None
        if layer is not head:
            found.maps[layer.i] = (reads[layer.i], maps(y))

    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    handles += [layer.register_forward_hook(note) for layer in layers]
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, model.yaml.get("channels", 3), size, size, generator=generator)
    try:
        with torch.no_grad(), _evaluating(model):
            head.training = True  # the head alone: it returns what it would decode
            found.output = [y.detach().cpu() for y in _flat(model(x.to(parameter)))]
    except Exception:  # a head that wants texts, say: nothing to compare then
        found.output = []
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    states = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, state in states.items():
            module.training = state


def _flat(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for one in value for x in _flat(one)] if isinstance(value, list | tuple) else []


def match(
    target: nn.Module, source: nn.Module, mine: Trace, theirs: Trace
) -> tuple[dict[int, int], dict[int, str]]:
    """Return the layer of a checkpoint that each layer is, or takes the place of.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
        mine: The trace of the one.
        theirs: The trace of the other.

    Returns:
        Layers to layers; and layers of the checkpoint to the reason why they were left out.
    """
    layers, others = list(target.model), list(source.model)
    reads, read = [[_sources(layer) for layer in one] for one in (layers, others)]

    @cache
    def score(i: int, j: int) -> int:
        ends = (layers[i] is layers[-1]) == (others[j] is others[-1])
        if not (ends and mine.meets(i, theirs, j)):
            return 0
        worth = _score(layers[i], others[j])
        return 0 if worth == 1 and list(map(len, mine.maps[i])) != [1, 1] else worth

    recorded = _by_record(target, source)
    if not all(
        score(i, j) and _reads_alike(i, j, recorded, reads, read) for i, j in recorded.items()
    ):
        recorded = {}  # the rows were edited since

    def tensors(pairs: dict[int, int]) -> int:
        return sum(len(_carry(layers[i], others[j]).origins) for i, j in pairs.items())

    if tensors(recorded) == len(source.model.state_dict()):
        return recorded, {}
    pairs, doubts = _align_all(
        [[score(i, j) for j in range(len(others))] for i in range(len(layers))]
    )
    for i, j in sorted(pairs.items()):
        if not _reads_alike(i, j, pairs, reads, read):
            del pairs[i]
            doubts[j] = f"layer {i} reads another layer than it did"
    if recorded and tensors(recorded) >= tensors(pairs):
        return recorded, {}
    return pairs, doubts


def _sources(layer: nn.Module) -> list[int]:
    """Return the numbers of the layers that a layer reads; -1 is the picture."""
    given = layer.f if isinstance(layer.f, list | tuple) else [layer.f]
    return [f if f >= 0 else layer.i + f for f in given]


def _shapes(found: Trace, source: int, layer: int) -> tuple:
    """Return the shapes of what a layer reads and returns; ``None`` where it is not one map."""
    return found.shapes[source] if source >= 0 else (), found.shapes[layer]


def _score(layer: nn.Module, other: nn.Module) -> int:
    """Return how well a layer fits another: 4 it is that layer; 1 it may take its place; 0 not."""
    carried = _carry(layer, other)
    if carried is None:
        return 0
    if type(layer) is type(other) or _is_head(layer, other):
        return 4 if carried.tensors else 2
    return 3 if carried.tensors else 1


def _is_head(layer: nn.Module, other: nn.Module) -> bool:
    kinds = type(layer), type(other)
    related = issubclass(*kinds) or issubclass(*kinds[::-1])
    return related and None not in (_classes(layer), _classes(other))


def _classes(head: nn.Module) -> int | None:
    """Return the number of classes that a layer tells apart; ``None`` if it is no head."""
    linear = getattr(head, "linear", None)
    return getattr(head, "nc", None) or getattr(linear, "out_features", None)


def _carry(layer: nn.Module, other: nn.Module) -> Carried | None:
    """Do as :func:`exact.carry`, and let the outputs of a head differ, and the image channels."""
    head = _is_head(layer, other)
    if not (head or _is_stem(layer, other)):
        return exact.carry(layer, other)
    mine, theirs = layer.state_dict(), other.state_dict()
    fits = {k: v for k, v in theirs.items() if k in mine and mine[k].shape == v.shape}
    return Carried(fits, {k: k for k in fits}) if fits else None


def _is_stem(layer: nn.Module, other: nn.Module) -> bool:
    """Tell whether two layers are the same first one, but for the channels of the image."""
    mine, theirs = layer.state_dict(), other.state_dict()
    misfits = [k for k in mine if k in theirs and mine[k].shape != theirs[k].shape]
    return (
        layer.i == other.i == 0
        and type(layer) is type(other)
        and mine.keys() == theirs.keys()
        and misfits == ["conv.weight"]
        and mine[misfits[0]][:, 0].shape == theirs[misfits[0]][:, 0].shape
    )


def _by_record(target: nn.Module, source: nn.Module) -> dict[int, int]:
    """Return what the configs say that they were made from, if it can be this checkpoint."""
    mine, theirs = _origins(target), _origins(source)
    if mine is None:
        return {}
    theirs = theirs or [(str(j), "") for j in range(len(source.model))]
    at = {origin: j for j, origin in enumerate(theirs)}
    pairs = {i: at[origin] for i, origin in enumerate(mine) if origin in at}
    ends = (len(mine) - 1, len(theirs) - 1)
    return pairs if ends in pairs.items() else {}


def _origins(model: nn.Module) -> list[tuple] | None:
    """Return each layer's row of the base; of an inserted one also its module."""
    record = model.yaml.get("graft")
    rows = record.get("rows") if isinstance(record, dict) else None
    labels = _labels(model)
    if not isinstance(rows, list) or len(rows) != len(labels):
        return None
    origins = []
    for row, label in zip(map(str, rows), labels, strict=True):
        relation, _, number = row.rpartition(" ")
        inserted = relation == "after"
        block = split(label)[1] if inserted else None
        origins.append((number, block.name if block else label if inserted else ""))
    return origins


def _align_all(scores: list[list[int]]) -> tuple[dict[int, int], dict[int, str]]:
    """Align the layers that are the same, then in between those that may take another's place.

    A block that was only inserted could take many places, and so decides nothing between layers.
    """
    pairs, doubts = _align([[score if score > 1 else 0 for score in row] for row in scores])
    taken, sure = {*pairs.values(), *doubts}, len(scores) + 1
    left = [
        [
            sure
            if pairs.get(i) == j
            else score * (score == 1 and i not in pairs and j not in taken)
            for j, score in enumerate(row)
        ]
        for i, row in enumerate(scores)
    ]
    pairs, others = _align(left)
    return pairs, {**others, **doubts}


def _align(scores: list[list[int]]) -> tuple[dict[int, int], dict[int, str]]:
    """Return the pairs of the best alignment of two lists, as far as there is but one.

    Args:
        scores: What each pair is worth; 0 if it is none.

    Returns:
        Pairs that stand in every best alignment; and members of the second list that have several
        partners, or only sometimes one, with the reason.
    """
    n, m = len(scores), len(scores[0])
    ahead = [[0] * (m + 1) for _ in range(n + 1)]  # best of the first i and j
    behind = [[0] * (m + 1) for _ in range(n + 1)]  # best of those from i and j on
    for i in range(n):
        for j in range(m):
            pair = ahead[i][j] + scores[i][j]
            ahead[i + 1][j + 1] = max(pair, ahead[i][j + 1], ahead[i + 1][j])
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            pair = behind[i + 1][j + 1] + scores[i][j]
            behind[i][j] = max(pair, behind[i][j + 1], behind[i + 1][j])
    best = ahead[n][m]
    pairs, rivals = {}, {}
    for i in range(n):
        partners = [
            j
            for j in range(m)
            if scores[i][j] and ahead[i][j] + scores[i][j] + behind[i + 1][j + 1] == best
        ]
        alone = any(ahead[i][j] + behind[i + 1][j] == best for j in range(m + 1))
        if len(partners) == 1 and not alone:
            pairs[i] = partners[0]
        for j in partners:
            rivals.setdefault(j, []).append(i)
    doubts = {
        j: f"it may be layer {' or '.join(map(str, rows))}"
        for j, rows in rivals.items()
        if j not in pairs.values()
    }
    return pairs, doubts


def _reads_alike(
    i: int, j: int, pairs: dict[int, int], reads: list[list[int]], read: list[list[int]]
) -> bool:
    """Tell whether a layer reads what its match did; layers in between that have none may stand."""
    if len(reads[i]) != len(read[j]):
        return False
    taken = {other: layer for layer, other in pairs.items()}
    for a, b in zip(reads[i], read[j], strict=True):
        a, b = _back(a, reads, pairs), _back(b, read, taken)
        known = (a < 0 or a in pairs), (b < 0 or b in taken)
        if all(known) and pairs.get(a, a) != b:
            return False
    return True


def _back(layer: int, reads: list[list[int]], matched: dict[int, int]) -> int:
    """Return the nearest layer with a match, as far as each reads but one."""
    while layer >= 0 and layer not in matched and len(reads[layer]) == 1:
        layer = reads[layer][0]
    return layer


# ---------------------------------------------------------------------------------------- carrying


def _fill(
    target: nn.Module, source: nn.Module, pairs: dict[int, int], mine: Trace
) -> dict[int, Carried]:
    """Return the tensors for each layer: those of its match, or of a block that was added."""
    filled = {i: _carry(target.model[i], source.model[j]) for i, j in pairs.items()}
    for i, layer in enumerate(target.model):
        if i in pairs:
            continue
        (before, after), *more = [_shapes(mine, s, i) for s in _sources(layer)]
        filled[i] = Carried(fresh=[""] if layer.state_dict() else [])
        if isinstance(layer, exact.Blend) and not isinstance(layer.old, nn.Identity):
            continue  # its old layer has no match, so the gate stays open
        if after and before == after and not more:
            filled[i] = exact.added(layer, after[1])
    return filled


def _donor(
    target: nn.Module, source: nn.Module, pairs: dict[int, int], filled: dict[int, Carried]
) -> nn.Module:
    """Return a copy of the checkpoint's model that holds its tensors by the target's names."""
    layers = [_holder(filled[i].tensors) for i in range(len(target.model))]
    heads = target.model[-1], source.model[-1]
    if filled[len(layers) - 1].origins and _classes(heads[0]) != _classes(heads[1]):
        layers[-1] = heads[1]  # whole: the host adapts it to other classes
    if pairs.get(0) == 0 and _is_stem(target.model[0], source.model[0]):
        layers[0] = source.model[0]  # and this to other image channels
    elif not filled[0].tensors:
        layers[0] = target.model[0]  # older releases look up its weight
    donor = copy.copy(source)
    donor._modules = {**source._modules, "model": nn.Sequential(*layers)}
    return donor


def _holder(tensors: dict[str, Tensor]) -> nn.Module:
    """Return a module whose state has these names."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        module.register_buffer(last, tensor.clone())
    return root


# --------------------------------------------------------------------------------------- reporting


def _report(
    target: nn.Module,
    source: nn.Module,
    pairs: dict[int, int],
    filled: dict[int, Carried],
    doubts: dict[int, str],
) -> Report:
    state, taken = target.state_dict(), set()
    for i, j in pairs.items():
        for name, origin in filled[i].origins.items():
            tensor = state.get(f"model.{i}.{name}")
            if tensor is not None and tensor.shape == filled[i].tensors[name].shape:
                taken.add(f"model.{j}.{origin}")
    if pairs.get(len(target.model) - 1) is not None:  # the host may have rebuilt the head
        at = f"model.{len(target.model) - 1}."
        for name, tensor in source.model[-1].state_dict().items():
            if at + name in state and state[at + name].shape == tensor.shape:
                taken.add(f"model.{len(source.model) - 1}.{name}")
    theirs = [name for name in source.state_dict() if name.startswith("model.")]
    report = Report(len(theirs), len(taken), sum(one.exact for one in filled.values()))
    report.fresh = _fresh(target, filled)
    report.left = _left(target, source, pairs, doubts, [k for k in theirs if k not in taken])
    return report


def _fresh(target: nn.Module, filled: dict[int, Carried]) -> list[str]:
    labels = _labels(target) or [type(layer).__name__ for layer in target.model]
    return [f"layer {i} ({labels[i]})" for i, one in sorted(filled.items()) if one.fresh]


def _left(
    target: nn.Module,
    source: nn.Module,
    pairs: dict[int, int],
    doubts: dict[int, str],
    names: list[str],
) -> list[str]:
    """Return a line for each reason why tensors of the checkpoint were not taken over."""
    at = {j: i for i, j in pairs.items()}
    layers: dict[int, list[str]] = {}
    for name in names:
        _, number, rest = name.split(".", 2)
        layers.setdefault(int(number), []).append(rest)
    reasons: dict[str, list[int]] = {}
    for j in layers:
        old, i = source.model[j], at.get(j)
        if i is None:
            why = doubts.get(j, "no layer is like it")
        elif _is_head(target.model[i], old) and _classes(target.model[i]) != _classes(old):
            why = f"{_classes(old)} classes there, {_classes(target.model[i])} here"
        elif _is_stem(target.model[i], old):
            why = "its filters are fitted to images with other channels"
        else:
            why = f"no place for them in {type(target.model[i]).__name__}, layer {i}"
        reasons.setdefault(why, []).append(j)
    lines = []
    for why, which in reasons.items():
        names = [name for j in which for name in layers[j]]
        if len(which) > 1:
            some = f"layers {', '.join(map(str, which))} of the checkpoint"
        else:
            kind, few = type(source.model[which[0]]).__name__, ", ".join(names[:3])
            more = ", ..." if len(names) > 3 else ""
            some = f"layer {which[0]} of the checkpoint ({kind}: {few}{more})"
        lines.append(f"{len(names)} of {some}: {why}")
    return lines


def _compare(report: Report, target: nn.Module, source: nn.Module, old: Trace) -> None:
    """Measure how far the outputs are from those of the checkpoint."""
    new = trace(target)
    mine, theirs = target.model[-1].state_dict(), source.model[-1].state_dict()
    equal = mine.keys() == theirs.keys() and all(
        mine[k].shape == v.shape and torch.equal(mine[k].cpu().double(), v.cpu().double())
        for k, v in theirs.items()
    )
    pairs = list(zip(new.output, old.output, strict=False)) if equal else []
    if not pairs:
        pairs, report.of = list(zip(new.read, old.read, strict=False)), "head input"
    same_picture = target.yaml.get("channels", 3) == source.yaml.get("channels", 3)
    if same_picture and pairs and all(a.shape == b.shape for a, b in pairs):
        gaps = [(a.double() - b.double()).abs() for a, b in pairs if a.numel()]
        report.change = max((float(gap.max()) for gap in gaps), default=0.0)
        size = max((float(b.abs().max()) for _, b in pairs if b.numel()), default=0.0)
        if not (report.fresh or report.left or report.changed) and report.change > 1e-4 * size:
            report.changed.append(f"the {report.of}, though layers and tensors are")
