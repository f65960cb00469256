"""Which tornpage this is."""

from importlib.metadata import PackageNotFoundError, version


def tornpage_version() -> str:
    """The version that is installed."""
    try:
        return version("tornpage")
    except PackageNotFoundError:
        return "not installed"
