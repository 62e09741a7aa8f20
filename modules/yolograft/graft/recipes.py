"""Recipes: what to put where, in words that fit every architecture.

A recipe is a YAML file::

    about: CBAM (https://arxiv.org/abs/1807.06521) on what is about to be fused or detected
    steps:
      - insert: CBAM
        at:
          - {section: backbone, is: stage-end, level: P3+}
          - {is: head-feeder}

A step does one thing to the rows that ``at`` selects:

=================  ==============================================================================
``insert: BLOCK``  a row of the block behind each
``replace: BLOCK`` the block in place of each, with the same channels and stride
``swap: BLOCK``    the block in place of the second 3x3 convolution of their bottlenecks
``remove: true``   without them; who read one reads what it read
``use: RECIPE``    all steps of another recipe
=================  ==============================================================================

A recipe's name is that of its file, in ``recipes/`` of the working directory or in the pack; yours
win. ``builtin:cbam`` is always the pack's, so that a ``recipes/cbam.yaml`` may use it and add to
it. What the pack's own recipes use is the pack's.

``args: {reduction: 8}`` are the block's named arguments. ``rewire: all`` (the default) lets every
reader of a row read the inserted block instead; with ``rewire: next`` only the row behind does, and
the others keep the map as it was. ``else:`` is the step to take where ``at`` selects nothing.

``about:`` is one line for people, ``why:`` a few sentences on what the blocks do there.

``warm: exact`` beside ``steps:`` is for warm starts: where new blocks would change the outputs of a
trained model, a residual gate per channel leads from the old layer to the block
(:class:`yolograft.blocks.blend.Blend`), so that fine-tuning starts from the same outputs. It
holds for the steps of a recipe that is used, too.

``at`` is one selector or a list of them, whose rows are joined. Every condition of a selector has
to hold:

============  ===================================================================================
``section``   ``backbone`` or ``neck`` (what follows the backbone, without the head)
``level``     ``P3``; ``P3+``: P3 and coarser; ``[P3, P5]``; ``coarsest``: the coarsest level
              among the rows that the other conditions select
``is``        ``stage``: a stage that a block can be swapped into (``C2f``, ``C3k2``, ...);
              ``downsampler``: halves the map (``Conv`` at stride 2, ``ADown``, ``SCDown``, ...);
              ``conv3x3``: a 3x3 ``Conv`` at stride 1; ``stage-end``: the last row of a run of
              rows at one level; ``head-feeder``: the head reads it
``module``    a name in the rows, or a list of them
``rows``      row numbers of the base
============  ===================================================================================
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from yolograft import registry
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.files import CFG
from yolograft.roles import ROLES

#: Stands before the name of a recipe of the pack.
BUILT_IN = "builtin:"

SECTIONS = ("backbone", "neck")
TRAITS = ("stage", "downsampler", "conv3x3", "stage-end", "head-feeder")
ACTIONS = ("insert", "replace", "swap", "remove", "use")


@dataclass(frozen=True)
class Selector:
    """Conditions that a row has to meet; an empty one is met by all."""

    section: str = ""
    level: str | tuple[str, ...] = ""
    traits: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """One action on the rows of some selectors.

    Attributes:
        where: Recipe and step, for messages.
        action: ``insert``, ``replace``, ``swap`` or ``remove``.
        label: The block's name in the rows, as the recipe writes it.
        at: Selectors, whose rows are joined.
        args: Named arguments of the block.
        rewire: ``all`` or ``next``.
        otherwise: The step to take where the selectors find nothing.
        exact: Whether a warm start must leave the outputs as they are.
    """

    where: str
    action: str
    label: str
    at: tuple[Selector, ...]
    args: dict = field(default_factory=dict, hash=False)
    rewire: str = "all"
    otherwise: Step | None = None
    exact: bool = False


@dataclass(frozen=True)
class Recipe:
    """A recipe that has been read and checked.

    Attributes:
        name: Its name, as in ``yolo11n-NAME.yaml``.
        about: One line.
        why: Why the block stands where it does; for the comment of a model YAML.
        steps: What it does, in order.
        file: Where it was read, or ``""``.
    """

    name: str
    about: str
    steps: tuple[Step, ...]
    file: str = ""
    why: str = ""


def names() -> list[str]:
    """Return the names of all recipes: those in ``recipes/`` here, and the pack's."""
    return sorted({*_files(Path("recipes")), *_files(CFG / "recipes")})


def find(name: str) -> str | None:
    """Return the file of a recipe: a path as it is; a name in ``recipes/`` here, or in the pack.

    Args:
        name: What the user gave. ``builtin:`` in front of a name leaves the user's out.
    """
    if name.endswith(_SUFFIXES):
        return name if os.path.isfile(name) else None
    built_in = name.startswith(BUILT_IN)
    name = unicodedata.normalize("NFC", name.removeprefix(BUILT_IN))
    mine = {} if built_in else _files(Path("recipes"))
    return mine.get(name) or _files(CFG / "recipes").get(name)


_SUFFIXES = (".yaml", ".yml")


def _files(folder: Path) -> dict[str, str]:
    """Return the files of a folder by the names that recipes are listed and found by.

    Any name will do that cannot be mistaken: one that is hidden, has a space at an end, or holds
    what stands between names (``,``, ``+``, ``:``) is of a file to be given by its path.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*")):
        name = unicodedata.normalize("NFC", path.stem)
        odd = name.startswith(".") or name != name.strip() or name.endswith(_SUFFIXES)
        if path.suffix in _SUFFIXES and path.is_file() and not odd and not {*name} & {*",+:"}:
            found.setdefault(name, str(path))
    return found


def load_all(recipe: str | dict | Path | Iterable) -> list[Recipe]:
    """Read one recipe or several.

    Args:
        recipe: A name, several as in ``"sk,cbam"`` or ``"sk+cbam"``, a path, a mapping as a recipe
            file holds it, or a list of these.

    Raises:
        ConfigError: If one does not exist, is given twice, or is wrong in itself.
    """
    if isinstance(recipe, str) and not os.path.isfile(recipe):
        recipe = [part.strip() for part in re.split(r"[,+]", recipe)]
    elif isinstance(recipe, str | dict | Path):
        recipe = [recipe]
    loaded = [load(one) for one in recipe]
    if not loaded:
        refuse("no recipe is given", f"there are {', '.join(names())}")
    for i, one in enumerate(loaded):
        if one.name in [other.name for other in loaded[:i]]:
            refuse(f"recipe {one.name!r} is given twice", "name each once")
    return loaded


def load(recipe: str | dict | Path) -> Recipe:
    """Read one recipe.

    Args:
        recipe: A name, a path, or a mapping as a recipe file holds it.

    Raises:
        ConfigError: If there is none of that name, or it is wrong in itself.
    """
    try:
        if isinstance(recipe, dict):
            return _read(recipe, "recipe", "", ())
        return _load(str(recipe), "", ())
    except RecursionError:
        refuse(f"recipe {recipe}: a part of it contains itself", "remove the YAML alias, `*name`")


def _load(name: str, where: str, users: tuple[Path, ...]) -> Recipe:
    """Read a recipe; ``users`` are the files that lead to it, each by a step ``use``."""
    pack = CFG.resolve() / "recipes"
    if users and users[-1].parent == pack and not name.startswith(BUILT_IN):
        name = BUILT_IN + name  # a combination of the pack stays what it is
    file = find(name)
    if file is None:
        only = [BUILT_IN + one for one in _files(pack)] if name.startswith(BUILT_IN) else names()
        hint = nearest(name, only) or f"there are {', '.join(only)}"
        refuse(f"{where}unknown recipe {name!r}", hint)
    path = Path(file).resolve()
    if path in users:
        chain = " -> ".join(user.stem for user in (*users[users.index(path) :], path))
        own = path.stem in _files(pack) and path.parent != pack
        refuse(
            f"recipe {users[-1].stem}: it uses {name!r}, which leads back to itself ({chain})",
            f"the pack's own is `use: {BUILT_IN}{path.stem}`" if own else "remove one of these",
        )
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{file}: this is not YAML ({' '.join(str(error).split())})"
        raise ConfigError(msg) from error
    return _read(content, Path(file).stem, file, (*users, path))


def _read(content: object, name: str, file: str, users: tuple[Path, ...]) -> Recipe:
    where = f"recipe {name}" if name != "recipe" else "recipe"
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list):
        refuse(f"{file or where}: this is not a recipe", "write `steps:` and a list below it")
    _check_keys(where, content, ("about", "why", "steps", "warm"))
    warm = content.get("warm")
    check_warm(where, warm)
    if not content["steps"]:
        refuse(f"{where}: it has no step", "write one, such as {insert: CBAM, at: {level: P3+}}")
    steps = []
    for number, raw in enumerate(content["steps"], 1):
        steps += _steps(f"{where}, step {number}", raw, users)
    about, why = (" ".join(str(content.get(key, "")).split()) for key in ("about", "why"))
    recipe = Recipe(name, about, tuple(steps), file, why)
    return exact(recipe) if warm else recipe


def check_warm(where: str, warm: object) -> None:
    """Refuse a ``warm:`` that is neither ``exact`` nor left out."""
    if warm not in (None, "exact"):
        refuse(f"{where}: warm={warm!r} is unknown", "write `warm: exact`, or leave it out")


def exact(recipe: Recipe) -> Recipe:
    """Return a recipe whose blocks leave the outputs of a trained model as they are.

    Args:
        recipe: One that has been read.
    """

    def gated(step: Step) -> Step:
        otherwise = step.otherwise and gated(step.otherwise)
        return replace(step, exact=True, otherwise=otherwise)

    return replace(recipe, steps=tuple(map(gated, recipe.steps)))


def _steps(where: str, raw: object, users: tuple[Path, ...]) -> tuple[Step, ...]:
    if not isinstance(raw, dict):
        refuse(f"{where}: {raw!r} is not a step", "write {insert: CBAM, at: {level: P3+}}")
    given = [action for action in ACTIONS if action in raw]
    if len(given) != 1:
        hint = next((nearest(str(k), ACTIONS) for k in raw if k not in ACTIONS), "")
        refuse(
            f"{where}: it {'says ' + ' and '.join(given) if given else 'does nothing'}",
            f"write one of {', '.join(ACTIONS)}" if given or not hint else hint,
        )
    action = given[0]
    if action == "use":
        _check_keys(where, raw, ("use",))
        if not isinstance(raw["use"], str):
            refuse(f"{where}: use={raw['use']!r} is not a recipe", "write one name, as in use: sk")
        return _load(raw["use"], f"{where}: ", users).steps
    extra = {"insert": ("args", "rewire"), "replace": ("args",), "swap": ("args",), "remove": ()}
    _check_keys(where, raw, (action, "at", "else", *extra[action]))
    return (_step(where, action, raw, users),)


def _step(where: str, action: str, raw: dict, users: tuple[Path, ...]) -> Step:
    label = raw[action]
    if action == "remove":
        if label is not True:
            refuse(f"{where}: remove={label!r}", "write `remove: true` and the rows below `at:`")
        label = ""
    else:
        _check_block(where, action, label)
    args, rewire = raw.get("args", {}), raw.get("rewire", "all")
    if not isinstance(args, dict):
        refuse(f"{where}: args={args!r} is not a mapping", "write {reduction: 8}")
    if rewire not in ("all", "next"):
        refuse(f"{where}: rewire={rewire!r} is unknown", "use all or next")
    if "at" not in raw:
        refuse(f"{where}: it does not say where", "write `at: {section: backbone, level: P3+}`")
    at = raw["at"] if isinstance(raw["at"], list) else [raw["at"]]
    if not at:
        refuse(f"{where}: `at` is empty", "write `at: {section: backbone, level: P3+}`")
    otherwise = None
    if "else" in raw:
        others = _steps(f"{where}, else", raw["else"], users)
        if len(others) != 1:
            refuse(f"{where}, else: it is {len(others)} steps", "write one step")
        otherwise = others[0]
    selectors = tuple(_selector(where, one) for one in at)
    return Step(where, action, label, selectors, args, rewire, otherwise)


def _check_block(where: str, action: str, label: object) -> None:
    block = registry.find(label) if isinstance(label, str) else None
    if block is None:
        refuse(f"{where}: unknown block {label!r}", registry.suggest(str(label)))
    if action not in block.role.actions:
        able = [role.name for role in ROLES.values() if action in role.actions]
        refuse(
            f"{where}: {action} {label}: {block.name} has the role {block.role}",
            f"{action} takes blocks of the roles {', '.join(able)}; `yolograft list` shows them",
        )


def _selector(where: str, raw: object) -> Selector:
    if not isinstance(raw, dict) or not raw:
        refuse(f"{where}: {raw!r} is not a selector", "write {section: backbone, level: P3+}")
    _check_keys(where, raw, ("section", "level", "is", "module", "rows"))
    section = raw.get("section", "")
    if "section" in raw and section not in SECTIONS:
        refuse(f"{where}: section={section!r} is unknown", f"use {' or '.join(SECTIONS)}")
    traits = _words(raw.get("is", []))
    for trait in traits:
        if trait not in TRAITS:
            hint = nearest(str(trait), TRAITS) or f"use one of {', '.join(TRAITS)}"
            refuse(f"{where}: is={trait!r} is unknown", hint)
    level = raw.get("level", "")
    level = tuple(level) if isinstance(level, list) else level
    for one in level if isinstance(level, tuple) else [level] if "level" in raw else []:
        pattern = r"P\d" if isinstance(level, tuple) else r"P\d\+?|coarsest"
        if not re.fullmatch(pattern, str(one)):
            refuse(f"{where}: level={one!r} is unknown", "use P3, P3+, [P3, P4] or coarsest")
    modules = _words(raw.get("module", []))
    rows = raw.get("rows", [])
    rows = rows if isinstance(rows, list) else [rows]
    for row in rows:
        if not isinstance(row, int) or isinstance(row, bool) or row < 0:
            refuse(f"{where}: rows={row!r} is not a row number", "count the base's rows from 0")
    return Selector(section, level, traits, modules, tuple(rows))


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _check_keys(where: str, raw: dict, known: Iterable[str]) -> None:
    known = list(known)
    for key in raw:
        if key not in known:
            hint = nearest(str(key), known) or f"use {', '.join(known)}"
            refuse(f"{where}: the key {key!r} is unknown", hint)
