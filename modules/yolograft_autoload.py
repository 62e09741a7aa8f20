"""Interpreter start-up for Python 3.15 and later, which calls what ``*.start`` files name.

Older versions run the line in ``yolograft_autoload.pth``, which does the same. A start-up line must
never make Python fail, so every error is ignored; ``yolograft doctor`` reports what is wrong.
"""


def start():
    """Import yolograft, which waits for Ultralytics, unless ``YOLOGRAFT_AUTOLOAD=0``."""
    import os

    if os.environ.get("YOLOGRAFT_AUTOLOAD") != "0":
        try:
            import yolograft  # noqa: F401
        except Exception:
            return
