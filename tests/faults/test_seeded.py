"""SQLite's random values inside `seeded`: they depend on the seed alone."""

import sqlite3

from tornpage import faults


def test_the_same_seed_draws_the_same_values(shim: faults.Shim) -> None:
    connection = sqlite3.connect(":memory:")

    def drawn(seed: str) -> tuple[int, bytes]:
        with faults.shims().seeded(seed):
            one: tuple[int, bytes] = connection.execute("SELECT random(), randomblob(8)").fetchone()
            return one

    assert drawn("a") == drawn("a") != drawn("b")
    with shim.deterministic(7):
        outer = connection.execute("SELECT random()").fetchone()
        inner = drawn("a")
    assert inner == drawn("a")
    with shim.deterministic(7):
        assert connection.execute("SELECT random()").fetchone() == outer
    connection.close()


def test_scopes_need_not_end_in_the_order_they_began(shim: faults.Shim) -> None:
    connection = sqlite3.connect(":memory:")
    with shim.seeded("a"):
        wanted = connection.execute("SELECT random()").fetchone()
    one, other = shim.seeded("a"), shim.seeded("b")
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    with shim.seeded("a"):
        assert connection.execute("SELECT random()").fetchone() == wanted
    other.__exit__(None, None, None)
    connection.close()


def test_a_clock_is_the_newest_one_until_its_scope_ends(shim: faults.Shim) -> None:
    connection = sqlite3.connect(":memory:")

    def now() -> int:
        return int(connection.execute("SELECT strftime('%s', 'now')").fetchone()[0])

    real = now()
    one, other = shim.timed(lambda: 1_000_000), shim.timed(lambda: 2_000_000)
    with shim.deterministic(1, now_ms=3_000_000):
        assert now() == 3_000
        one.__enter__()
        other.__enter__()
        assert now() == 2_000
        one.__exit__(None, None, None)
        assert now() == 2_000
        other.__exit__(None, None, None)
        assert now() == 3_000
    assert now() >= real
    connection.close()
