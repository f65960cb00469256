"""A store works on its own file while another one is open, in another directory.

Method. Both have made the same calls, so a store that has gone over to the other one's file shows what it should: its
operations are counted. Not covered: stores with threads of their own, which may use a file at any time, and calls that
need no operation.
"""

from collections.abc import Callable

from tornpage import faults
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.judging.refusals import says_no
from tornpage.scenarios.model.target import View


def leaves_its_file(first: Trial, second: Trial, look: Callable[[], Answer | View], *, has_threads: bool) -> str:
    """How a call or a look of `first` failed, or that it used the file of `second`; "" if it did neither."""
    with faults.count_operations(first.directory) as own, faults.count_operations(second.directory) as others:
        error = _error_of(look)
    if error is not None and not says_no(error):
        return f"failed: {error!r}"
    return "used the second one's file" if others.counts and not own.counts and not has_threads else ""


def _error_of(look: Callable[[], Answer | View]) -> BaseException | None:
    try:
        returned = look()
    except Exception as error:  # noqa: BLE001 - a store may raise anything
        return error
    return returned.error if isinstance(returned, Answer) else None
