"""Warm start: carry the tensors of a checkpoint into a model with other rows."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn

from yolograft import exact
from yolograft.blocks._carry import Carried
from yolograft.blocks.blend import Blend
from yolograft.errors import refuse
from yolograft.warm import layers, prompts, rebuild, scale
from yolograft.warm.match import Match, match
from yolograft.warm.report import Report, notes, report
from yolograft.warm.trace import Trace, trace

# -------------------------------------------------------------------------- when a model is loaded


def concerns(target: nn.Module, source: nn.Module) -> bool:
    """Return whether layers may have to be matched: the model is grafted, or the checkpoint is.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
    """
    models = (target, source)
    if not all(isinstance(getattr(m, "model", None), nn.Sequential) for m in models):
        return False
    recorded = any("graft" in (getattr(m, "yaml", None) or {}) for m in models)
    return recorded or any(map(layers.holds_blocks, models))


def load(target: nn.Module, source: nn.Module, stock: Callable[[nn.Module], None]) -> str:
    """Fill a model from a checkpoint; one with the same layers, as to resume, the stock way.

    Args:
        target: The model to fill.
        source: The model of a checkpoint; it becomes float32, as when Ultralytics loads it.
        stock: Fills the target from a model that holds the tensors by its own names.

    Returns:
        What was done, in words; empty where nothing is to be said.

    Raises:
        ConfigError: As :func:`warm_start`.
    """
    widen(target, source)
    source = source.float()
    if _differ(target, source) or any(prompts.is_folded(source.model[-1])):
        done = warm_start(target, source, stock)
        if done.carried == done.total and not done.left:
            _take_names(target, source)
        return str(done)
    prompts.take(target, source)
    alike = {i: i for i in range(len(target.model))}
    kept = rebuild.keep(target, source, alike)
    stock(source)
    lines = notes(kept, rebuild.changed(target, source, alike))
    return "\n".join(f"yolograft: {line}" for line in lines)


def _differ(target: nn.Module, source: nn.Module) -> bool:
    """Return whether layers have to be matched; those of a model that is resumed have not."""
    pairs = list(zip(target.model, source.model, strict=False))
    if len(target.model) != len(source.model) or any(
        layers.sources(a) != layers.sources(b) for a, b in pairs
    ):
        return True
    return not all(
        type(a) is type(b) and layers.shapes(a) == layers.shapes(b) and _steps(a) == _steps(b)
        for a, b in pairs[:-1]
    )


def _steps(layer: nn.Module) -> list[str]:
    """Return what a layer's tensors do not show: strides, padding and dilation."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample)
    return [repr(module) for module in layer.modules() if type(module) in kinds]


def widen(target: nn.Module, source: nn.Module) -> None:
    """Give the class branches of a head the width that a checkpoint's have.

    Ultralytics derives the width inside them from the number of classes, so that with another
    number none of their tensors would fit, and neither would they when such a model is resumed.
    Recent releases do the same; for them nothing is left to do.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
    """
    head, other = target.model[-1], source.model[-1]
    for branches in ("cv3", "one2one_cv3"):
        mine, theirs = getattr(head, branches, None), getattr(other, branches, None)
        if not (isinstance(mine, nn.ModuleList) and isinstance(theirs, nn.ModuleList)):
            continue
        if _widths(mine, 0) != _widths(theirs, 0) or _widths(mine, -1) == _widths(theirs, -1):
            continue
        theirs = copy.deepcopy(theirs)
        for branch, old in zip(theirs, mine, strict=True):
            if branch[-1].out_channels != old[-1].out_channels:
                branch[-1] = nn.Conv2d(branch[-1].in_channels, old[-1].out_channels, 1)
        setattr(head, branches, layers.placed(theirs, mine))
        head.bias_init()


def _widths(branches: nn.ModuleList, which: int) -> list[int]:
    """Return the input channels of the first or last convolution of each branch."""
    convolutions = [[m for m in b.modules() if isinstance(m, nn.Conv2d)] for b in branches]
    return [found[which].in_channels for found in convolutions if found]


def _take_names(model: nn.Module, source: nn.Module) -> None:
    """Take over class names, as Ultralytics does where every tensor is carried."""
    names = getattr(source, "names", None)
    numbers = {i: str(i) for i in range(len(names or ()))}
    if names and getattr(model, "names", None) == numbers and not prompts.takes_texts(model):
        model.names = dict(names)


# ---------------------------------------------------------------------------------------- carrying


def warm_start(
    target: nn.Module, source: nn.Module, load: Callable[[nn.Module], None] | None = None
) -> Report:
    """Carry the tensors of a checkpoint into a model with other rows.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
        load: Fills the target from a model that holds the tensors by its own names.

    Raises:
        ConfigError: If the checkpoint is of another scale, or its BatchNorm is folded.
    """
    if layers.is_fused(source) and not layers.is_fused(target):
        refuse(
            f"{layers.name(source)}: its BatchNorm is folded into its convolutions, for inference",
            "use the checkpoint that the training wrote, or the model before `fuse()`, `predict()` "
            "or `val()`",
        )
    old, new = trace(source), trace(target)
    scale.check(target, source, new, old)
    texts = prompts.take(target, source)
    matched = match(target, source, new, old)
    pairs = matched.pairs
    kept = rebuild.keep(target, source, pairs)
    for i, j in list(pairs.items()):
        if layers.carry(target.model[i], source.model[j]) is None:
            matched.doubts[j] = "it is not the layer that its config builds"
            del pairs[i]
    filled = _fill(matched, new)
    donor = _donor(matched, filled)
    if load is None:
        fits = layers.fitting(donor.state_dict(), target.state_dict())
        target.load_state_dict(fits, strict=False)
    else:
        load(donor)
    done = report(matched, filled)
    done.kept, done.changed = kept, rebuild.changed(target, source, pairs)
    done.total += len(texts)
    done.carried += sum(not why for why in texts.values())
    done.left += [f"{key} of the checkpoint: {why}" for key, why in texts.items() if why]
    done.compare(target, source, old)
    return done


def _fill(matched: Match, mine: Trace) -> dict[int, Carried]:
    """Return the tensors for each layer: those of its match, or of a block that was added."""
    filled = {}
    for i, layer in enumerate(matched.target.model):
        if i in matched.pairs:
            filled[i] = layers.carry(layer, matched.source.model[matched.pairs[i]])
        elif isinstance(layer, Blend) and not isinstance(layer.old, nn.Identity):
            filled[i] = Carried(fresh=[""])  # its old layer has no match, so the gate stays open
        elif c := mine.kept(i):
            filled[i] = exact.added(layer, c)
        else:
            filled[i] = Carried(fresh=[""] if layer.state_dict() else [])
    return filled


def _donor(matched: Match, filled: dict[int, Carried]) -> nn.Module:
    """Return a copy of the checkpoint's model that holds its tensors by the target's names."""
    mine, theirs = matched.target.model, matched.source.model
    held = [_holder(filled[i].tensors) for i in range(len(mine))]
    if filled[len(mine) - 1].origins and layers.classes(mine[-1]) != layers.classes(theirs[-1]):
        held[-1] = theirs[-1]  # whole: Ultralytics adapts it to other classes
    if matched.pairs.get(0) == 0 and layers.is_stem(mine[0], theirs[0]):
        held[0] = theirs[0]  # and this to other image channels
    elif not filled[0].tensors:
        held[0] = mine[0]  # older releases look up its weight
    return layers.with_layers(matched.source, nn.Sequential(*held))


def _holder(tensors: dict[str, Tensor]) -> nn.Module:
    """Return a module whose state has these names."""
    root = nn.Module()
    for key, tensor in tensors.items():
        *path, last = key.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        module.register_buffer(last, tensor.clone())
    return root
