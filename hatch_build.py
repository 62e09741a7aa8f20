"""Build hook: an editable install links cfg/ instead of freezing a copy of it."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

START_UP = ("yolograft_autoload.pth", "yolograft_autoload.start")


class EditableHook(BuildHookInterface):
    """Ship only the start-up lines with an editable install; the rest is read from the checkout."""

    def initialize(self, version, build_data):
        """Replace the wheel's forced files, which would go stale in an editable install.

        Args:
            version: Build version, ``"editable"`` or ``"standard"``.
            build_data: Hatchling's mutable build data.
        """
        if version == "editable":
            build_data["force_include_editable"] = {
                f"{self.root}/modules/{name}": name for name in START_UP
            }
