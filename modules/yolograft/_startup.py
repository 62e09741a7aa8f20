"""Wait for the Ultralytics modules that the hooks wrap.

This runs at every Python start, so it imports only what is loaded by then. When one of the watched
modules has been executed, ``yolograft.hooks.attach`` is called with its name; until then
Ultralytics is not touched.
"""

import sys
from _thread import get_ident

#: The modules of ``yolograft.hooks.HOOKS``, which is too much to import here.
WATCHED = (
    "ultralytics.cfg",
    "ultralytics.nn.tasks",
    "ultralytics.data.utils",
    "ultralytics.data.build",
    "ultralytics.utils.checks",
    "ultralytics.utils.metrics",
    "ultralytics.engine.trainer",
    "ultralytics.engine.validator",
    "ultralytics.models.rtdetr.train",
    "ultralytics.models.rtdetr.val",
    "ultralytics.models.yolo.detect.val",
    "ultralytics.models.yolo.segment.val",
)


class _Watcher:
    """Meta path finder that lets the other finders work, then listens for the end of the load."""

    def __init__(self):
        self._seeking = set()  # threads in which the other finders are being asked

    def find_spec(self, name, path=None, target=None):
        """Return the spec that the other finders give, its loader extended by our call."""
        thread = get_ident()
        if name not in WATCHED or thread in self._seeking:
            return None
        self._seeking.add(thread)
        try:
            for finder in sys.meta_path:
                find = getattr(finder, "find_spec", None)
                spec = find(name, path, target) if find and finder is not self else None
                if spec is not None:
                    return _listen(spec)
        finally:
            self._seeking.remove(thread)
        return None


def _listen(spec):
    loader = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return spec

    def exec_module(module):
        execute(module)
        _attach(module.__name__)

    try:
        loader.exec_module = exec_module
    except AttributeError:  # a loader without instance attributes: leave the module as it is
        pass
    return spec


def _attach(name):
    try:
        from yolograft import hooks

        hooks.attach(name)
    except Exception as error:  # stock Ultralytics has to work whatever is wrong with us
        sys.stderr.write(f"WARNING yolograft is off: {error}. Hint: run `yolograft doctor`.\n")


def start():
    """Attach to what is loaded and watch for the rest. Calling it again changes nothing."""
    for name in WATCHED:
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _attach(name)
    if not any(type(finder).__name__ == "_Watcher" for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())
