"""Scale letters: ``n s m l x`` in file names, and what they mean in a config.

Ultralytics reads the letter off the name of the file (``yolov8s.yaml`` is ``yolov8.yaml`` at scale
s) and keeps it in the config's key ``scale``. ``scales`` has depth, width and most channels of
each; older configs have one ``depth_multiple`` and ``width_multiple``.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from yolograft.config.rows import with_rows
from yolograft.errors import refuse

#: A letter behind the version, as :func:`unscaled` takes it out.
_LETTER = re.compile(r"(\d+)[nslmx](?=[-.]|$)")
#: The same with the letters that YOLOv9 and YOLOv10 have for their sizes.
_ANY_LETTER = re.compile(r"(\d+)[nslmxbetc](?=[-.]|$)")
#: Behind this, Ultralytics reads the letter.
_VERSION = re.compile(r"yolo(e-)?v?\d+")
#: What Ultralytics itself turns into another name: yolov8n6.yaml means yolov8n-p6.yaml.
_P6 = re.compile(r"(yolov[58][nsmlx])6")


def letter(path: str | Path) -> str:
    """Return the scale letter that Ultralytics reads in a file name, or ``""``.

    Args:
        path: Name or path.
    """
    from ultralytics.nn import tasks

    return tasks.guess_model_scale(path)


def unscaled(name: str) -> str:
    """Return a file name without its letter: ``yolo11-seg.yaml`` for ``yolo11s-seg.yaml``.

    Args:
        name: File name, without a folder.
    """
    return _LETTER.sub(r"\1", name, count=1)


def file_name(config: dict[str, Any]) -> str:
    """Return the name of a config's file; one file holds all scales, so the letter is left out.

    Args:
        config: What Ultralytics loaded.
    """
    name = Path(str(config.get("yaml_file") or "")).name
    return unscaled(name) if len(config.get("scales") or ()) > 1 else name


def current(config: dict[str, Any]) -> str:
    """Return the letter at which a config is built, or ``""`` where it has one scale only.

    Args:
        config: What a model YAML holds.
    """
    return config.get("scale") or next(iter(config.get("scales") or ()), "")


def at(config: dict[str, Any], scale: str) -> dict[str, Any]:
    """Return a config at another scale.

    Args:
        config: What a model YAML holds.
        scale: A letter of its ``scales``.
    """
    return {**config, "scale": scale}


def multiples(config: dict[str, Any]) -> tuple[float, float, float]:
    """Return depth, width and most channels of a config.

    Args:
        config: What a model YAML holds.
    """
    if scales := config.get("scales"):
        depth, width, most = scales[current(config)]
        return depth, width, most
    return config.get("depth_multiple", 1.0), config.get("width_multiple", 1.0), math.inf


def explicit(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config whose ``scale`` says at which of its scales it is built.

    Args:
        config: What a model YAML holds.
    """
    return at(config, current(config)) if config.get("scales") else config


def alone_in(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config that has no scale but the one at which it is built.

    Args:
        config: What a model YAML holds.
    """
    if scales := config.get("scales"):
        return {**config, "scales": {current(config): scales[current(config)]}}
    return config


def wider(config: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return a config with one scale, whose widths are multiplied.

    Args:
        config: What a model YAML holds.
        factor: What the width is multiplied by; rounded to four digits.
    """
    depth, width, most = multiples(config)
    width = round(width * factor, 4)
    if config.get("scales"):
        return {**config, "scales": {current(config): [depth, width, most]}}
    return {**config, "width_multiple": width}


def with_letter(name: str, letter: str) -> str:
    """Return a model name with another scale letter: ``yolo11s-seg`` for ``yolo11n-seg``.

    Args:
        name: The name; one without a letter stays as it is.
        letter: The new letter.
    """
    return _ANY_LETTER.sub(rf"\g<1>{letter}", name, count=1)


def scaled(width: int, config: dict[str, Any]) -> int:
    """Return the channels that Ultralytics makes of a width in a row.

    Args:
        width: As the row has it.
        config: What the model YAML holds.
    """
    _, multiple, most = multiples(config)
    return math.ceil(min(width, most) * multiple / 8) * 8


def is_unscaled(config: dict[str, Any]) -> bool:
    """Tell whether widths are multiplied by 1; Ultralytics rounds them up to eights even then.

    Args:
        config: What a model YAML holds.
    """
    return multiples(config)[1] == 1


def all_of(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a config at each of its scales.

    Args:
        config: What a model YAML holds.
    """
    return [at(config, scale) for scale in config.get("scales") or ()] or [config]


def narrow(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config at its narrowest scale, with the fewest repeats.

    Args:
        config: What a model YAML holds.
    """
    config = {**config, "depth_multiple": 0.0, "activation": None}
    if scales := config.get("scales"):
        _, width, most = min(scales.values(), key=lambda scale: scale[1])
        config |= {"scales": {"n": [0.0, width, most]}, "scale": "n"}
    return config


def alone(config: dict[str, Any], rows: list[Any]) -> dict[str, Any]:
    """Return a config of other rows, at the same scale.

    Args:
        config: What a model YAML holds.
        rows: The rows.
    """
    # Ultralytics warns of a missing scale once, for the whole model.
    return explicit(with_rows(config, rows, len(rows)))


def check_letter(path: str | Path, config: dict[str, Any]) -> None:
    """Refuse a name that asks for a scale that the file does not have.

    Args:
        path: What the user gave.
        config: What the file holds, with its ``scale``.

    Raises:
        ConfigError: If there is no such scale.
    """
    scale, scales = config.get("scale"), config.get("scales")
    if scale and isinstance(scales, dict) and scales and scale not in scales:
        refuse(
            f"{path}: the name asks for scale {scale}, and the file has "
            f"{', '.join(map(str, scales))}",
            "use another letter in the name, or add the scale to the file",
        )


def one_in_name(config: dict[str, Any], file: str | Path) -> dict[str, Any]:
    """Return a config as a file of a name has to hold it.

    A name without a place for the letter gets a file with one scale, that of the config.

    Args:
        config: What Ultralytics loaded.
        file: The name.
    """
    unnamed = file and config.get("scale") and not _VERSION.search(Path(file).stem)
    return alone_in(config) if unnamed else config


def note(config: dict[str, Any], file: str | Path, base: str) -> str:
    """Return a note where a file of a name is built at another scale than the config.

    Args:
        config: What Ultralytics loaded.
        file: The name.
        base: Name of the config's file, for the message.

    Raises:
        ConfigError: If the name asks for a scale that the config does not have, or is one that
            Ultralytics takes for another.
    """
    scale, scales = config.get("scale"), config.get("scales")
    stem, asked = Path(file).stem, letter(file)
    if p6 := _P6.fullmatch(stem):
        refuse(
            f"{file}: Ultralytics reads this name as {p6[1]}-p6{Path(file).suffix}",
            "choose another name, such as mine.yaml",
        )
    if not scales or not _VERSION.search(stem):
        return ""
    if asked and asked not in scales:
        refuse(
            f"{file}: the name asks for scale {asked}, and {base} has "
            f"{', '.join(map(str, scales))}",
            "choose a name without that letter, such as mine.yaml",
        )
    built = asked or next(iter(scales))
    if not scale or built == scale:
        return ""
    place = re.search(f"{_VERSION.pattern}(?={asked})", stem).end()
    right = f"{stem[:place]}{scale}{stem[place + len(asked) :]}{Path(file).suffix}"
    return (
        f"The name decides the scale: {Path(file).name} is built at scale {built}, not {scale}. "
        f"For {scale}, {'write it with -o ' if asked else 'give model='}{right}"
    )


def file_of(path: str) -> list[str]:
    """Return the names of the file that a model name may mean, the one without a letter first.

    The letter is taken out of the base name only: Ultralytics also strips it from folders.

    Args:
        path: What the user gave as ``model=``.
    """
    name = os.path.basename(Path(path))
    return [re.sub(r"(\d+)[nslmx](.+)?$", r"\1\2", name), name]
