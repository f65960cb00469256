"""The grammar: what prints parses back, and what can't be read is shown at its place."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornpage.faults import FILE_KINDS, KILL, KINDS, RESULT_CODES, ROLES, TIMINGS, Fault, FaultPlan, PlanError, When
from tornpage.faults.plan import FILE_EFFECTS

_ordinals = st.integers(1, 10**9)
_whens = st.one_of(
    _ordinals.map(lambda first: When(first, first)),
    _ordinals.map(lambda first: When(first, None)),
    st.just(When(1, None, star=True)),
    st.tuples(_ordinals, _ordinals).map(lambda pair: When(min(pair), max(pair))),
)
_of_sqlite = st.builds(
    Fault,
    kind=st.sampled_from([kind for kind in KINDS if kind not in FILE_KINDS]),
    effect=st.sampled_from([*RESULT_CODES, KILL]),
    role=st.sampled_from(ROLES),
    when=_whens,
    timing=st.sampled_from(TIMINGS),
)
_of_plain_files = st.builds(
    Fault,
    kind=st.sampled_from(FILE_KINDS),
    effect=st.sampled_from([*FILE_EFFECTS, KILL]),
    role=st.one_of(
        st.sampled_from(["any", "dir", "other", ".json", "blob-[0-9]*.bin"]), st.text("a.*?[-]", min_size=1)
    ),
    when=_whens,
    timing=st.sampled_from(TIMINGS),
)
_faults = st.one_of(_of_sqlite, _of_plain_files)
_plans = st.lists(_faults, min_size=1, max_size=5).map(lambda faults: FaultPlan(tuple(faults)))


@given(_plans)
def test_every_plan_parses_back_from_its_print(plan: FaultPlan) -> None:
    assert FaultPlan.parse(str(plan)) == plan
    assert str(FaultPlan.parse(str(plan))) == str(plan)


@given(_plans, st.data())
def test_a_damaged_plan_is_read_as_another_plan_or_refused_at_a_place_in_it(
    plan: FaultPlan, data: st.DataObject
) -> None:
    text = str(plan)
    place = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:place] + data.draw(st.sampled_from(["", "!", "@", "=", "0", "x", " ", "é"])) + text[place + 1 :]
    error = None
    try:
        again = FaultPlan.parse(damaged)
    except PlanError as refused:
        error = refused
    else:
        assert FaultPlan.parse(str(again)) == again
    if error is not None:
        assert 0 <= error.position <= len(damaged)
        shown = str(error).splitlines()
        assert shown[1] == f"  {damaged}"
        assert shown[2] == " " * (error.position + 2) + "^"
        assert f"column {error.position + 1}:" in shown[0]


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 0, "a kind of operation"),
        ("fsync=FULL", 0, "sync"),
        ("write:log=FULL", 6, "a role"),
        ("write@0=FULL", 6, "N from 1"),
        ("write@=FULL", 6, "N, N.., N..M or *"),
        ("write@3..2=FULL", 9, "from 3 on"),
        ("write@1000000001=FULL", 6, "1000000000"),
        ("write/later=FULL", 6, "before, after, half"),
        ("write", 5, "'='"),
        ("write=ENOSPC", 6, "FULL"),
        ("write=IOERR_WRIT", 6, "IOERR_WRITE"),
        ("file-sync=EIO", 0, "file-fsync"),
        ("file-write:=EIO", 11, "a suffix"),
        ("file-write:.json=FULL", 17, "ENOSPC"),
        ("write=FULL;", 11, "a kind of operation"),
        ("write=FULL,sync=FULL", 10, "';'"),
        ("write=FULL ", 10, "';'"),
    ],
)
def test_what_cannot_be_read_is_shown_with_its_place_and_what_is_allowed(
    text: str, position: int, expected: str
) -> None:
    with pytest.raises(PlanError) as raised:
        FaultPlan.parse(text)
    assert raised.value.position == position
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("write:wal@3=FULL", Fault("write", "FULL", "wal", When(3, 3))),
        ("sync@1..=IOERR_FSYNC", Fault("sync", "IOERR_FSYNC", when=When(1, None))),
        ("sync@*=IOERR_FSYNC", Fault("sync", "IOERR_FSYNC", when=When(1, None))),
        ("delete:journal@1/after=IOERR_DIR_FSYNC", Fault("delete", "IOERR_DIR_FSYNC", "journal", timing="after")),
        ("write@7/half=KILL", Fault("write", KILL, when=When(7, 7), timing="half")),
        ("commit=BUSY", Fault("commit", "BUSY")),
        ("read:db@2..4=IOERR_READ", Fault("read", "IOERR_READ", "db", When(2, 4))),
    ],
)
def test_the_examples_of_the_design_read_as_meant(text: str, fault: Fault) -> None:
    assert FaultPlan.parse(text).faults == (fault,)


@pytest.mark.parametrize(
    ("text", "inside"), [("2", {2}), ("2..", {2, 3, 4, 5}), ("2..3", {2, 3}), ("*", {1, 2, 3, 4, 5})]
)
def test_when_says_which_matches_fire(text: str, inside: set[int]) -> None:
    when = FaultPlan.parse(f"write@{text}=FULL").faults[0].when
    assert {ordinal for ordinal in range(6) if ordinal in when} == inside
    assert when.sticky == (5 in inside)


def test_the_result_names_are_results_and_their_codes_are_sqlites() -> None:
    assert RESULT_CODES["FULL"] == sqlite3.SQLITE_FULL
    assert RESULT_CODES["IOERR_FSYNC"] == sqlite3.SQLITE_IOERR_FSYNC
    # These share the prefix and are authorizer actions, answers or limits.
    assert RESULT_CODES.keys().isdisjoint(
        {"OK", "DENY", "IGNORE", "SELECT", "CREATE_TABLE", "LIMIT_LENGTH", "ROW", "DONE"}
    )
    assert all(code & 0xFF for code in RESULT_CODES.values())
