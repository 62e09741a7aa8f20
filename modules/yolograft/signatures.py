"""How a block is constructed: which arguments of other people's constructors take the widths."""

from __future__ import annotations

import inspect
import re
from typing import Any

from yolograft.roles import Role, Widths

#: What constructors call the width that comes in, the one that goes out, one that stays, and the
#: number of classes; lower case, underscores left out.
_CH = "(?:c|ch|chs|chn|chans?|channels?|planes?|dims?|feats?|features?|filters?|nc)"
_NAMES = {
    "entering": rf"c1|inp|inputs?|nin|in(?:put)?{_CH}|{_CH}in(?:put)?",
    "leaving": rf"c2|oup|ouc|outp?|outputs?|nout|out(?:put)?{_CH}|{_CH}out(?:put)?",
    "same": rf"(?:n|num|gate|embed|model)?{_CH}|{_CH}num|dmodel|nf",
    "classes": "c2|nc|(?:n|num)?class(?:es)?|out(?:put)?(?:features|channels|dim)",
}
#: What is certainly not a width, so that the only argument without a default is not taken for one.
_SETTING = r"kernel|size|stride|pad|dilat|group|head|ratio|reduc|act|norm|drop|depth|\b[ksdgp]\b"

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def signature(cls: type) -> list[inspect.Parameter]:
    """Return the parameters of a constructor; none for a block that has no constructor.

    Args:
        cls: A block.
    """
    from torch import nn

    if cls.__init__ is nn.Module.__init__:  # (*args, **kwargs), but it refuses any
        return []
    return list(inspect.signature(cls).parameters.values())


def parameters(cls: type) -> list[str]:
    """Return the names of a constructor's arguments.

    Args:
        cls: A block.
    """
    return [p.name for p in signature(cls) if p.kind not in _VARIADIC]


def takes_any(cls: type) -> bool:
    """Tell whether a constructor takes arguments of any name (``**kwargs``).

    Args:
        cls: A block.
    """
    return any(p.kind is p.VAR_KEYWORD for p in signature(cls))


def passes_on(cls: type) -> bool:
    """Tell whether a constructor takes any number of arguments without a name (``*args``).

    Args:
        cls: A block.
    """
    return any(p.kind is p.VAR_POSITIONAL for p in signature(cls))


def by_name(cls: type) -> Widths:
    """Return the arguments that may take widths, as far as their names say so.

    Args:
        cls: A block.
    """
    names = parameters(cls)
    found = {
        kind: next((n for n in names if re.fullmatch(words, n.lower().replace("_", ""))), "")
        for kind, words in _NAMES.items()
    }
    return Widths(**found, required=_required(cls))


def _required(cls: type) -> tuple[str, ...]:
    known = [p for p in signature(cls) if p.kind not in _VARIADIC]
    return tuple(p.name for p in known if p.default is p.empty)


def widths(cls: type, role: Role) -> tuple[str, ...] | None:
    """Return the arguments of a constructor that take the widths of its role.

    The second argument of a backbone, its own width, is included; an attention block may take its
    width twice, or not at all.

    Args:
        cls: A block.
        role: Its role.

    Returns:
        The names in the order of the role, or ``None`` if they do not fit the role.
    """
    found = by_name(cls)
    names, required = role.widths(found), found.required
    if names is None:
        variadic = any(p.kind in _VARIADIC for p in signature(cls))
        if not found.first and len(required) == len(role.prefix):
            names = None if re.search(_SETTING, " ".join(required).lower()) else required
        elif role.keeps_shape and not required and not variadic:
            names = ()
    if names and role.several_maps:
        names += tuple(n for n in parameters(cls) if n not in names)[:1]
    return names


def build(cls: type, role: Role, channels: tuple, named: dict[str, Any]) -> Any:
    """Build a block from its widths and its other arguments.

    Args:
        cls: A block.
        role: Its role.
        channels: The widths, in the order of the role.
        named: The other arguments.
    """
    names = widths(cls, role)
    if names is None:  # (*args, **kwargs)
        return cls(*channels, **named)
    channels = role.spread(channels, names)
    first = [p.name for p in signature(cls) if p.kind is not p.KEYWORD_ONLY][: len(channels)]
    if list(names[: len(channels)]) == first:
        return cls(*channels, **named)
    return cls(**dict(zip(names, channels, strict=False)), **named)
