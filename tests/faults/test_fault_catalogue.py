"""The catalogue: nothing impossible is armed, and what is possible says why."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornpage import faults
from tornpage.faults import Fault, FaultPlan, ImpossibleFaultError, Possibility
from tornpage.faults.catalogue import POSSIBILITIES
from tornpage.faults.plan import FILE_EFFECTS

_CASES = [
    pytest.param(line, role, effect, id=f"{line.kind}:{role}/{line.timing}={effect}")
    for line in faults.possibilities()
    for role in line.roles
    for effect in line.effects
]


@pytest.mark.parametrize(("line", "role", "effect"), _CASES)
def test_each_entry_is_accepted_has_a_reason_and_matches_some_operation(
    line: Possibility, role: str, effect: str
) -> None:
    fault = Fault(line.kind, effect, role, timing=line.timing)
    faults.require_possible(FaultPlan((fault,)))
    assert len(faults.reason_for(fault)) > 5
    assert faults.operations_of(fault)
    assert FaultPlan.parse(str(fault)).faults == (fault,)


@given(
    st.sampled_from(faults.KINDS),
    st.sampled_from(faults.ROLES),
    st.sampled_from(faults.TIMINGS),
    st.sampled_from([*faults.RESULT_CODES, faults.KILL]),
)
def test_whatever_is_not_listed_is_refused_with_what_is_possible(
    kind: str, role: str, timing: str, effect: str
) -> None:
    fault = Fault(kind, effect, role, timing=timing)
    # The role of a plain file is its suffix, or a pattern: any may be there.
    roles = faults.ROLES if kind in faults.FILE_KINDS else ()
    listed = any(
        line.kind == kind and line.timing == timing and effect in line.effects and role in ("any", *line.roles, *roles)
        for line in faults.possibilities()
    )
    if listed:
        faults.require_possible(FaultPlan((fault,)))
        return
    with pytest.raises(ImpossibleFaultError, match="can't happen on a real system") as raised:
        faults.require_possible(FaultPlan((fault,)))
    message = str(raised.value)
    assert str(fault) in message
    assert "possible for" in message or "happens on" in message


def test_a_refused_fault_names_the_possible_ones() -> None:
    with pytest.raises(ImpossibleFaultError) as raised:
        faults.reason_for(Fault("sync", "BUSY", "db"))
    assert "sync@1=BUSY" not in str(raised.value)  # It names the fault as it was given, with its role.
    assert "sync:db@1=BUSY" in str(raised.value)
    assert "/before=IOERR_FSYNC" in str(raised.value)
    assert "/after=IOERR_FSYNC" in str(raised.value)


def test_one_impossible_fault_condemns_the_plan() -> None:
    with pytest.raises(ImpossibleFaultError, match="read@1=FULL"):
        faults.require_possible(FaultPlan.parse("write@1=FULL;read@1=FULL"))


@pytest.mark.parametrize(
    "text",
    [
        "unlock@1=IOERR_UNLOCK",  # A release that did not happen leaves everything stuck for ever.
        "shmlock@1/after=BUSY",
        "read@1=IOERR_SHORT_READ",
        "lock@1/after=IOERR_LOCK",
        "read@1/half=IOERR_READ",
        "sync:temp@1=IOERR_FSYNC",
        "rollback@1=IOERR",
        "commit@1/after=BUSY",
    ],
)
def test_what_sqlite_relies_on_is_never_faulted(text: str) -> None:
    with pytest.raises(ImpossibleFaultError):
        faults.require_possible(FaultPlan.parse(text))


def test_effects_of_lists_the_pairs_without_kill() -> None:
    assert set(faults.effects_of("write", "wal")) == {
        ("before", "FULL"), ("before", "IOERR_WRITE"), ("half", "FULL"), ("half", "IOERR_WRITE"),
        ("after", "IOERR_WRITE"),
    }  # fmt: skip
    assert not list(faults.effects_of("sync", "temp"))


def test_every_effect_of_the_table_is_a_result_that_sqlite_or_the_system_knows() -> None:
    for line in POSSIBILITIES:
        known = FILE_EFFECTS if line.kind in faults.FILE_KINDS else faults.RESULT_CODES
        assert set(line.effects) <= set(known), line
    assert {effect for effect in FILE_EFFECTS if not hasattr(errno, effect)} == {"SHORT"}


def test_a_plan_that_cannot_fire_at_its_depth_is_refused(shim: faults.Shim) -> None:
    with pytest.raises(ImpossibleFaultError, match="vfs depth"), faults.arm("commit@1=BUSY"):
        pass
    with pytest.raises(ImpossibleFaultError, match="statement depth"), faults.StatementDepth().arm("write@1=FULL"):
        pass
    # One plan for both depths is fine, and so is `any`.
    with faults.arm("commit@1=BUSY;write@1=FULL"), faults.StatementDepth().arm("any@1=IOERR"):
        pass
