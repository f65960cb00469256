"""What a caller gives is refused, with what is allowed, where a file could not give it back as it was."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornpage.ledger.errors import UsageError
from tornpage.ledger.records import Status
from tornpage.ledger.rules.values import (
    DEEPEST_JSON,
    EARLIEST_MS,
    LATEST_MS,
    blank_to_none,
    collapsed,
    given_text,
    json_value,
    member,
    optional_time_ms,
    time_ms,
    trimmed,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("blank", [None, "", " ", "\t\n ", "\u00a0\u2003"])
def test_blank_text_is_absent(blank):
    assert blank_to_none(blank) is None
    assert given_text("label", blank) is None
    assert trimmed("label", blank) is None
    assert collapsed("label", blank) is None


def test_text_is_kept_trimmed_or_collapsed_as_asked():
    text = " first line\n\n  second\tline "
    assert given_text("error", text) == text
    assert trimmed("label", text) == "first line\n\n  second\tline"
    assert collapsed("progress_summary", text) == "first line second line"


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_normal_forms_are_stable(text):
    assert blank_to_none(blank_to_none(text)) == blank_to_none(text)
    assert collapsed("summary", collapsed("summary", text)) == collapsed("summary", text)


@pytest.mark.parametrize("check", [given_text, trimmed, collapsed])
def test_text_of_another_type_is_refused_by_name(check):
    with pytest.raises(UsageError, match=r"label must be text, not 5 \(int\)"):
        check("label", 5)


@pytest.mark.parametrize("check", [given_text, trimmed, collapsed])
def test_text_that_no_file_can_hold_is_refused(check):
    with pytest.raises(UsageError, match=r"label must be valid Unicode, not 'half \\ud800'"):
        check("label", "half \ud800")


def test_a_member_may_be_given_as_its_plain_text():
    assert member("status", Status, "lost") is Status.LOST


@pytest.mark.parametrize("wrong", ["paused", "LOST", "", 5, None, []])
def test_an_unknown_member_is_refused_with_the_valid_ones(wrong):
    valid = "queued, running, succeeded, failed, timed_out, cancelled, lost"
    with pytest.raises(UsageError, match=f"status must be one of {valid}, not ") as caught:
        member("status", Status, wrong)
    assert repr(wrong) in str(caught.value)


def test_times_reach_from_the_first_year_that_a_calendar_shows_to_the_last_but_one():
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert epoch + timedelta(milliseconds=EARLIEST_MS) == datetime(1, 1, 1, tzinfo=UTC)
    assert epoch + timedelta(milliseconds=LATEST_MS) == datetime(9999, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("time", [EARLIEST_MS, -1, 0, 1_700_000_000_000, LATEST_MS])
def test_a_whole_number_of_milliseconds_is_a_time(time):
    assert time_ms("now", time) == time
    assert optional_time_ms("now", time) == time


def test_an_absent_optional_time_is_absent():
    assert optional_time_ms("started_at", None) is None


@pytest.mark.parametrize("wrong", [1.5, 1.0, "5", True, math.nan, None])
def test_a_time_that_is_no_whole_number_is_refused(wrong):
    with pytest.raises(UsageError, match="now must be a whole number of milliseconds since the epoch"):
        time_ms("now", wrong)


@pytest.mark.parametrize("wrong", [EARLIEST_MS - 1, LATEST_MS + 1, 2**63])
def test_a_time_that_no_calendar_shows_is_refused(wrong):
    with pytest.raises(UsageError, match=f"not {wrong}"):
        time_ms("now", wrong)


@settings(derandomize=True, deadline=None)
@given(json_values)
def test_a_json_value_is_copied_unchanged(value):
    assert json_value("requester_origin", value) == value


def test_a_json_value_is_a_copy_all_the_way_down():
    given_value = {"to": ["a"]}
    kept = json_value("requester_origin", given_value)
    given_value["to"].append("b")
    assert kept == {"to": ["a"]}


def test_a_json_value_takes_the_form_in_which_a_file_gives_it_back():
    given_value = {1: ("a", "b"), None: 2}
    kept = json_value("requester_origin", given_value)
    assert kept == {"1": ["a", "b"], "null": 2}
    assert json.loads(json.dumps(kept)) == kept


def a_cycle():
    value: list[object] = []
    value.append(value)
    return value


def a_deep_nest():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


def nested(depth, innermost):
    value = innermost
    for level in range(depth - 1):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("innermost", [[], {}, [1]])
def test_a_json_value_is_nested_no_deeper_than_every_reader_can_follow(innermost):
    deepest = nested(DEEPEST_JSON, innermost)
    assert json_value("requester_origin", deepest) == deepest
    with pytest.raises(UsageError, match=f"requester_origin must be a JSON value nested at most {DEEPEST_JSON} deep"):
        json_value("requester_origin", nested(DEEPEST_JSON + 1, innermost))


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        object(),
        {"a": {1, 2}},
        b"bytes",
        "\ud800",
        {("a",): 1},
        a_cycle(),
        a_deep_nest(),
        {1: "a", "1": "b"},
        [{"a": {True: 1, "true": 2}}],
    ],
    ids=[
        "nan",
        "infinity",
        "object",
        "set",
        "bytes",
        "surrogate",
        "tuple-key",
        "cycle",
        "deep",
        "equal-keys",
        "equal-keys-below",
    ],
)
def test_a_value_without_a_json_form_is_refused(value):
    with pytest.raises(UsageError, match="requester_origin must be a JSON value"):
        json_value("requester_origin", value)
