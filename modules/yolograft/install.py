"""How this copy of yolograft was installed, so that messages can say what to type."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distribution, requires
from urllib.parse import urlparse
from urllib.request import url2pathname


def line(extra: str = "") -> str:
    """Return the command that installs yolograft again from where it came, with an extra.

    A folder, an archive and a repository are recorded by pip in ``direct_url.json`` (PEP 610).
    Where nothing is recorded, the packages of the extra are named; FOLDER stands for a checkout.

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
        folder = url2pathname(urlparse(url).path)
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f'pip install {editable}"{folder}{extras}"'
    if vcs := origin.get("vcs_info"):
        return f'pip install "yolograft{extras} @ {vcs["vcs"]}+{url}"'
    if url:
        return f'pip install "yolograft{extras} @ {url}"'
    needed = [one.partition(";") for one in requires("yolograft") or ()]
    of_extra = rf"\bextra == ['\"]{extra}['\"]" if extra else "$^"
    packages = [f'"{name.strip()}"' for name, _, when in needed if re.search(of_extra, when)]
    return f"pip install {' '.join(packages)}" if packages else "pip install FOLDER"
