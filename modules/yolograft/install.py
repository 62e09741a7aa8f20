"""How this copy of yolograft was installed, so that messages can say what to type."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlparse


def line(extra: str = "") -> str:
    """Return the command that installs yolograft again from where it came, with an extra.

    A folder, an archive and a repository are recorded by pip in ``direct_url.json`` (PEP 610).

    Args:
        extra: Such as ``compare``.
    """
    try:
        text = distribution("yolograft").read_text("direct_url.json")
    except PackageNotFoundError:
        text = None
    origin = json.loads(text) if text else {}
    url, extras = origin.get("url", ""), f"[{extra}]" if extra else ""
    if url.startswith("file:") and "dir_info" in origin:
        folder = unquote(urlparse(url).path)
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f'pip install {editable}"{folder}{extras}"'
    if vcs := origin.get("vcs_info"):
        return f'pip install "yolograft{extras} @ {vcs["vcs"]}+{url}"'
    return f'pip install "yolograft{extras} @ {url}"' if url else f'pip install "yolograft{extras}"'
