"""When two violations show the same difference, and when they are two different things."""

import pytest

from tornpage.scenarios.execution.finding.difference import in_general, is_same
from tornpage.scenarios.model.judging.checks import Violation


def differs(memory: dict[str, int], disk: dict[str, int], answer: str = "raised") -> Violation:
    return Violation("memory-equals-disk", "they differ", {"memory": memory, "disk": disk}, answer)


def test_other_keys_and_values_are_the_same_difference() -> None:
    assert is_same(differs({"a": 1}, {}), differs({"b": 2, "c": 3}, {"c": 3}))


@pytest.mark.parametrize(
    "other",
    [
        differs({}, {"a": 1}),
        differs({"a": 1}, {"a": 2}),
        differs({"a": 1}, {}, answer="done"),
        Violation("integrity", "they differ", {"memory": {"a": 1}, "disk": {}}, "raised"),
        Violation("memory-equals-disk", "they differ", {"disk": {"a": 1}, "reopened": {}}, "raised"),
    ],
)
def test_another_check_answer_side_or_way_is_another_difference(other: Violation) -> None:
    assert not is_same(differs({"a": 1}, {}), other)


def test_without_views_the_words_tell_and_their_particulars_do_not() -> None:
    one, other = (
        Violation("still-usable-after-the-fault", f"put(name={name!r}) fails in /tmp/{name}.db after {ms} ms: {error}")
        for name, ms, error in (("a", 12, "locked"), ("b", 7.5, "locked"))
    )
    assert is_same(one, other)
    assert not is_same(one, one.with_message(one.message.replace("locked", "malformed")))
    assert in_general("OperationalError('no such table: t (see \"x\")')") == "OperationalError…"


def test_a_message_names_no_directory_of_the_run() -> None:
    """The scratch directory has another name in each run, and the same seed tells the same."""
    where = "/scratch/tornpage-et2rmq_b/minimise/real/db.json"
    said = str(Violation("integrity", f"after a call (failed with OSError: [Errno 5]: '{where}.tmp' -> '{where}')"))
    assert said == "integrity: after a call (failed with OSError: [Errno 5]: '…/db.json.tmp' -> '…/db.json')"
    assert str(Violation("integrity", "/srv/tornpage-store/a.db")) == "integrity: /srv/tornpage-store/a.db"
