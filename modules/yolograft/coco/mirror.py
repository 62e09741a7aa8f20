"""Find the left and right keypoints of a pose by their names."""

from __future__ import annotations

import re

#: Names of keypoints that lie in the middle, and of which a mirrored image has the same.
_CENTRAL = re.compile(
    r"(?:nose|head|forehead|crown|neck|nape|throat|chin|jaw|mouth|lips?|tongue|beak|bill|snout|"
    r"muzzle|chest|breast|sternum|belly|navel|withers|croup|rump|pelvis|hips?|waist|crotch|"
    r"(?:spine|back|thorax|abdomen|torso|trunk|body|tail)\d*|"
    r"upper|lower|mid|middle|center|centre|top|bottom|front|rear|tip|base|root|start|end|of|the)+"
)


def mirror(points: list[str]) -> list[int] | None:
    """Return each keypoint's counterpart in a mirrored image, ``None`` where names leave a doubt.

    Args:
        points: Names of the keypoints.
    """
    keys = [_words(name) for name in points]
    other = [tuple({"left": "right", "right": "left"}.get(w, w) for w in key) for key in keys]
    if len({*keys}) < len(keys) or not {*other} <= {*keys}:
        return None
    for key, there in zip(keys, other, strict=True):
        if key == there and not _CENTRAL.fullmatch("".join(key)):
            return None
    return [keys.index(there) for there in other]


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a keypoint's name, its side as ``left`` or ``right``."""
    words = [
        part.lower()
        for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+", name)
        for part in re.findall(r"(?i)^(?:left|right)|.+?(?=(?:left|right)$)|.+", word)
    ]
    if not {"left", "right"} & {*words} and any(len(w) > 1 and w.isalpha() for w in words):
        # A letter alone, or before a number, may stand for something else: L1 is a vertebra.
        words = [{"l": "left", "r": "right"}.get(word, word) for word in words]
    return tuple(words)
