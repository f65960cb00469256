"""Names of targets: the error for an unknown name, and the names that stand for code to import."""

BUG_PREFIX = "bug:"
COMMAND_PREFIX = "command:"
# After the name of a known bug: the same store without the defect.
SOUND = "/sound"


class UnknownTargetError(ValueError):
    """An unknown target, with the known ones."""


def is_imported(name: str) -> bool:
    """Whether the name stands for code: ``module:attribute``, or a ``command:`` to start."""
    return ":" in name and not name.startswith(BUG_PREFIX)
