"""What all tests share: a process that can be interrupted."""

import signal


def pytest_configure() -> None:
    """A shell that starts a run in the background lets it ignore SIGINT, and every child would inherit that.

    The tests of Ctrl-C would then wait for an end that never comes.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
