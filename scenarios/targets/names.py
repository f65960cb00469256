"""The one error for a name that nobody knows; apart, because both targets and bugs raise it."""


class UnknownTargetError(ValueError):
    """A target that nobody knows, with those that are known."""
