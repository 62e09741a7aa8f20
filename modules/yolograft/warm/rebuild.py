"""What a checkpoint's layers are, and its config does not say.

A row names a class, and what the class builds depends on more than the row: ``SPPF`` had an
activation, lost it, and has it again, by the release of Ultralytics; a default activation set for
one model was kept for the next; a user exchanged a module by hand. A checkpoint holds the modules
themselves, so it is compared with what its own config builds here. What differs goes into the
grafted model as it is, wherever the config of that model asks for the same layer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import nn

from yolograft import exact, parser
from yolograft.blocks._carry import STATES, own
from yolograft.blocks.blend import Blend
from yolograft.config import rows, scale
from yolograft.ultra import without_weights
from yolograft.warm.layers import is_fused, placed, with_layers

#: Attributes that say nothing about a layer: beside those that :mod:`exact` leaves out, states of a
#: run or an export, and the number of classes, which Ultralytics writes into shared configs.
_STATES = STATES | {"dynamic", "export", "format", "shape", "nc", "no"}
_PLAIN = (bool, int, float, str, tuple, type(None))
_MISSING = object()

#: Path in the old layer, attribute (``""``: the module itself; ``"shape"``: its tensors), and the
#: two modules.
Departure = tuple[str, str, nn.Module, nn.Module]


# ---------------------------------------------------------------------------------- from a config


def build(config: dict) -> nn.Sequential | None:
    """Return the layers of a config; the global state of Ultralytics and of torch stays as it was.

    Args:
        config: The ``yaml`` of a model.

    Returns:
        The layers, without weights where they can be built without memory; ``None`` if this
        release cannot build them.
    """
    from ultralytics.nn.modules import Conv

    given = [without_weights(row) for row in rows.raw(config)]
    whole = scale.explicit(rows.with_rows(config, given, len(config["backbone"])))
    activation = Conv.default_act
    for device in ("meta", "cpu"):  # a layer that needs real memory gets it
        with suppress(Exception), torch.random.fork_rng(devices=[]):
            try:
                with torch.device(device):
                    return parser.parse(whole, rows.channels(config), False)[0]
            finally:
                Conv.default_act = activation
    return None


def rebuild(model: nn.Module) -> nn.Sequential | None:
    """Return the layers that a model's config builds with this release, without weights.

    Args:
        model: The model of a checkpoint.

    Returns:
        The layers, or ``None`` if they cannot be built or compared: the model has no rows, its
        classes are unknown here, or its BatchNorm is folded.
    """
    config = getattr(model, "yaml", None) or {}
    if is_fused(model) or not {*rows.PARTS} <= config.keys():
        return None
    layers = build(config)
    return layers if layers is not None and len(layers) == len(model.model) else None


def by_config(model: nn.Module) -> nn.Module:
    """Return a model of the layers that another's config builds, to find out what each of them is.

    Args:
        model: The model of a checkpoint. Its own head stays, for its width is not in the config,
            and so do layers of another size: the config may say nothing of the scale.
    """
    built = rebuild(model)
    if built is None:
        return model

    def resized(new: nn.Module, old: nn.Module) -> bool:
        return any(attribute == "shape" for _, attribute, _, _ in departures(new, old))

    pairs = zip(built[:-1], model.model, strict=False)
    layers = [old if resized(new, old) else new for new, old in pairs]
    return with_layers(model, nn.Sequential(*layers, model.model[-1]))


def pruned(model: nn.Module) -> str:
    """Return the first layer whose tensors have other shapes than its config builds, in words.

    Args:
        model: The model of a checkpoint. Its head is left out: Ultralytics sets its width.
    """
    built = rebuild(model)
    for j, layer in enumerate(model.model[:-1] if built is not None else ()):
        for path, attribute, asked, has in departures(built[j], layer):
            if attribute == "shape":
                pairs = zip(own(has).values(), own(asked).values(), strict=True)
                found, wanted = next((a.shape, b.shape) for a, b in pairs if a.shape != b.shape)
                return f"{_where(j, layer, path)} has a tensor of {[*found]}, not {[*wanted]}"
    return ""


# ------------------------------------------------------------------------------------- differences


def departures(new: nn.Module, old: nn.Module, path: str = "") -> Iterator[Departure]:
    """Yield where a layer is not the old one; values of tensors do not count.

    Args:
        new: A layer; behind a residual gate, the layer before is compared.
        old: The layer to compare with.
        path: Name of both in their layer.
    """
    if inner := _within(new, old):
        new = new._modules[inner]
    mine, theirs = new._modules, old._modules
    tensors = [{k: v.shape for k, v in own(module).items()} for module in (new, old)]
    if (
        type(new) is not type(old)
        or mine.keys() != theirs.keys()
        or tensors[0].keys() != tensors[1].keys()
    ):
        yield path, "", new, old
        return
    if tensors[0] != tensors[1]:
        yield path, "shape", new, old
    else:
        changed = [k for k in {**vars(new), **vars(old)} if _departs(k, new, old)]
        if changed and not tensors[0] and not mine:  # as an activation, which layers may share
            changed = [""]
        yield from ((path, attribute, new, old) for attribute in changed)
    for key, child in theirs.items():
        if child is not None and mine[key] is not None:
            yield from departures(mine[key], child, f"{path}.{key}".lstrip("."))


def _departs(attribute: str, new: nn.Module, old: nn.Module) -> bool:
    """Return whether an attribute differs. One that a release added or dropped does not."""
    if attribute.startswith("_") or attribute in _STATES:
        return False
    values = [vars(m).get(attribute, getattr(type(m), attribute, _MISSING)) for m in (new, old)]
    return all(isinstance(value, _PLAIN) for value in values) and values[0] != values[1]


def _within(new: nn.Module, old: nn.Module) -> str:
    """Return the name of the child that is the old layer, where a layer was put around it."""
    if isinstance(new, Blend) and not isinstance(old, Blend):
        return "old"
    return "0" if exact.is_gated(new) and not isinstance(old, nn.Sequential) else ""


def changed(target: nn.Module, source: nn.Module, pairs: dict[int, int]) -> list[str]:
    """Return a line for each way in which layers are not those of a checkpoint.

    Other tensors are not among them, and neither are blocks: both are reported by themselves.

    Args:
        target: A model that was filled.
        source: The model of the checkpoint.
        pairs: Layers of the target to those of the checkpoint.
    """
    found: dict[str, list[str]] = {}
    for i, j in pairs.items():
        for path, attribute, here, there in departures(target.model[i], source.model[j]):
            if attribute == "shape" or exact.is_foreign(here):
                continue
            texts = _text(attribute, here, there), _text(attribute, there, here)
            text = f"{texts[0]} here, {texts[1]} in the checkpoint"
            found.setdefault(text, []).append(_where(i, source.model[j], path))
    return _lines(found)


# ---------------------------------------------------------------------------------- taking it over


def keep(target: nn.Module, source: nn.Module, pairs: dict[int, int]) -> list[str]:
    """Take over what a checkpoint's layers are beyond their config.

    It goes where the target's config asks for what the checkpoint's config does: an activation
    that is named in the target's config stays.

    Args:
        target: The model to change. Where its rows can say what was taken over, they do.
        source: The model of a checkpoint.
        pairs: Layers of the target to those of the checkpoint that they are.

    Returns:
        A line for each kind of change.
    """
    built = rebuild(source)
    found: dict[str, list[str]] = {}
    for i, j in pairs.items() if built is not None else ():
        old = source.model[j]
        _keep_eps(target.model[i], old)
        for path, attribute, asked, has in departures(built[j], old):
            spot = _spot(target.model, str(i), old, path)
            if spot is None or attribute == "shape":
                continue
            parent, key = spot
            mine = parent._modules[key]
            if not attribute and _is(mine, asked):
                parent._modules[key] = placed(has, mine)
            elif attribute and getattr(mine, attribute, _MISSING) == getattr(asked, attribute):
                setattr(mine, attribute, getattr(has, attribute))
            else:
                continue
            note = "its row now says so"
            if not _restate(target, i, old):
                note = f"the config alone builds {_text(attribute, asked, has)}"
            text = f"{_text(attribute, has, asked)}; {note}"
            found.setdefault(text, []).append(_where(i, old, path))
    return _lines(found)


def _is(mine: nn.Module, asked: nn.Module) -> bool:
    """Return whether a module is what a config asks for, with no other block inside."""
    kinds = [[type(m) for m in module.modules()] for module in (mine, asked)]
    return kinds[0] == kinds[1] and not any(departures(mine, asked))


def _spot(parent: nn.Module, key: str, old: nn.Module, path: str) -> tuple[nn.Module, str] | None:
    """Return the parent and name of what a part of an old layer is in the new one."""
    for part in [*path.split("."), ""] if path else [""]:
        if key not in parent._modules:
            return None
        if within := _within(parent._modules[key], old):
            parent, key = parent._modules[key], within
        if part:
            parent, key, old = parent._modules[key], part, old._modules[part]
    return parent, key


def _keep_eps(new: nn.Module, old: nn.Module) -> None:
    """Take over ``eps``, which no row says: Ultralytics sets it for some tasks, and users may."""
    for path, module in old.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            spot = _spot(nn.ModuleDict({"new": new}), "new", old, path)
            part = spot and spot[0]._modules[spot[1]]
            if isinstance(part, nn.BatchNorm2d):
                part.eps = module.eps


def _restate(model: nn.Module, index: int, layer: nn.Module) -> bool:
    """Let a row say what an SPPF is, where this release has a row for it."""
    from ultralytics.nn.modules import SPPF

    if type(layer) is not SPPF:
        return False
    config = copy.deepcopy(model.yaml)
    row = rows.raw(config)[index]
    if row[2] != "SPPF":  # the block that takes its place names it behind `blend:`
        row = row[3][-1]["blend"]
    args, pool = row[-1], layer.m.kernel_size
    given = [args[0], pool, getattr(layer, "n", 3), getattr(layer, "add", False)]
    for said in (list(args), given[:2], given):
        alone = {"backbone": [[-1, 1, "SPPF", said]], "head": []}
        built = build({**config, **alone, "channels": layer.cv1.conv.in_channels})
        if built is not None and not any(departures(built[0], layer)):
            row[-1] = said
            model.yaml = config
            return True
    return False


# ------------------------------------------------------------------------------------------- words


def _where(index: int, layer: nn.Module, path: str) -> str:
    return f"layer {index} ({type(layer).__name__}) {path}".rstrip()


def _text(attribute: str, module: nn.Module, other: nn.Module) -> str:
    """Return what a module is; with its arguments, if it is one of the other's class."""
    if attribute:
        return f"{attribute}={getattr(module, attribute)!r}"
    return type(module).__name__ if type(module) is not type(other) else str(module)


def _lines(found: dict[str, list[str]]) -> list[str]:
    """Return one line for each kind, with the first places where it was found."""
    lines = []
    for text, places in found.items():
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        lines.append(f"{', '.join(places[:3])}{more}: {text}")
    return lines
