"""Names of targets: the one error for an unknown name, and which names stand for code to import."""

BUG_PREFIX = "bug:"
COMMAND_PREFIX = "command:"
# Behind the name of a known bug: the same store without the defect.
SOUND = "/sound"


class UnknownTargetError(ValueError):
    """An unknown target, with those that are known."""


def is_imported(name: str) -> bool:
    """Whether the name stands for code: ``module:attribute``, or a ``command:`` to start."""
    return ":" in name and not name.startswith(BUG_PREFIX)
