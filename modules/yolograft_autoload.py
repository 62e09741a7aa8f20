"""Interpreter start-up: teach Ultralytics the blocks unless ``YOLOGRAFT_AUTOLOAD=0``.

Python runs :func:`start` through ``yolograft_autoload.start`` (3.15 and later) or
``yolograft_autoload.pth``. A start-up line must never be the reason that Python fails, so every
error is swallowed here; ``yolograft doctor`` tells what is wrong.
"""


def start():
    """Import yolograft, which waits for Ultralytics without importing it."""
    import os

    if os.environ.get("YOLOGRAFT_AUTOLOAD") != "0":
        try:
            import yolograft  # noqa: F401
        except Exception:
            return
