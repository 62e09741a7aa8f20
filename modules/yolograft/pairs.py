"""``key=value`` words of a command line: one reader for ``train``, ``val`` and ``compare``.

They mean what they mean to the ``yolo`` command, in every release: ``lr0=1e-3`` is a number,
``classes=[0,1]`` a list, ``name=007`` text, and spaces beside ``=`` or inside brackets are allowed.
No value is ever run as code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yolograft.errors import nearest, refuse

#: Values that stay text, whatever they look like: a run may be called 007.
_TEXT = ("name", "project")


def read(
    words: Iterable[str], taken: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments that words give, and the words that are not ``key=value``.

    Args:
        words: From the command line.
        taken: Arguments that are given already, by options.

    Returns:
        Values by name, checked as far as Ultralytics checks them without a model; and the rest.

    Raises:
        ConfigError: If an argument is unknown, has no value or a wrong one, or is given twice.
    """
    from ultralytics import cfg

    taken, given, rest = taken or {}, {}, []
    for word in _joined(words):
        key, equals, text = (part.strip() for part in word.removesuffix(",").partition("="))
        if not equals:
            rest.append(word)
            continue
        if not key:
            refuse(f"{word}: the name is missing", "write key=value, as in imgsz=640")
        if not text:
            refuse(f"{word}: no value", f"write {key}=VALUE, or leave {key} out")
        for others in (taken, given):
            if key in others:
                refuse(f"{word}: given twice", f"{key} is already {others[key]!r}")
        given[key] = value_of(text, text_only=key in _TEXT)
        if not _known(cfg, key, given[key]):
            hint = nearest(key, list(cfg.DEFAULT_CFG_DICT)) or "`yolo cfg` lists the settings"
            refuse(f"{word}: there is no such setting", hint)
    check(given)
    return given, rest


def read_file(file: str) -> dict[str, Any]:
    """Return the arguments in a YAML file, as in ``cfg=mine.yaml``; ``yolo copy-cfg`` writes one.

    Args:
        file: By name or path.

    Raises:
        ConfigError: If there is no such file, or it holds no arguments.
    """
    import yaml
    from ultralytics.utils.checks import check_yaml

    try:
        content = yaml.safe_load(Path(check_yaml(file)).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, AssertionError, yaml.YAMLError) as error:
        refuse(f"cfg={file}: {' '.join(str(error).split())}", "give the path of a YAML file")
    if not isinstance(content, dict):
        refuse(f"cfg={file}: the file is not a mapping", "write one argument a line, `epochs: 100`")
    return {k: v for k, v in content.items() if v is not None and k not in ("cfg", "mode", "task")}


def check(given: Mapping[str, Any]) -> None:
    """Report values now that Ultralytics would report later.

    Args:
        given: Values by name.

    Raises:
        ConfigError: If the type or the range of one is wrong.
    """
    from ultralytics.cfg import get_cfg

    try:
        get_cfg(overrides={key: value for key, value in given.items() if key != "model"})
    except (TypeError, ValueError, SyntaxError) as error:
        text = " ".join(str(error).split())
        refuse(f"a setting is refused: {text}", "`yolo cfg` lists the settings and their defaults")


def value_of(text: str, text_only: bool = False) -> Any:
    """Return a value as the `yolo` command reads it: a Python literal, or else the text itself.

    Args:
        text: What stands behind ``=``.
        text_only: Whether every value but ``None`` is text.
    """
    words = {"none": None} if text_only else {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if text_only:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _known(cfg: Any, key: str, value: Any) -> bool:
    """Tell whether Ultralytics knows a name; old names that it translates count."""
    if key in cfg.DEFAULT_CFG_DICT or key == "save_dir":
        return True
    translate = getattr(cfg, "_handle_deprecation", dict)
    return key not in translate({key: value})


def _joined(words: Iterable[str]) -> list[str]:
    """Return words with the parts of a pair in one: ``lr0 = 0.1``, ``classes=[0, 1]``."""
    joined: list[str] = []
    after_equals = in_brackets = False
    for word in words:
        waits = bool(joined) and joined[-1].endswith("=") and "=" not in word
        if joined and (after_equals or in_brackets or waits or word.startswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
        after_equals = word == "=" and len(joined[-1]) > 1
        in_brackets = "=" in joined[-1] and joined[-1].count("[") > joined[-1].count("]")
    if in_brackets:
        refuse(f"{joined[-1]}: the bracket is not closed", "write the list as one word: [0,1]")
    return joined
