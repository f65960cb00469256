"""Ten thousand random legal plans in one process: no crash, no leaked descriptor, no growing memory.

It runs in a child, so that a segmentation fault is a failed test and not the end of all tests.
"""

import subprocess
from collections.abc import Callable

import pytest

_CODE = """
    import faulthandler, os, pathlib, random, resource, sqlite3, sys, tempfile
    from tornpage import faults
    from tornpage.faults import Fault, FaultPlan, When

    faulthandler.enable()
    # A memory file system where there is one: what is tested is the process, and not the speed of a disk.
    memory = "/dev/shm"
    scratch = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
    os.chdir(scratch.name)
    seed, total = int(sys.argv[1]), int(sys.argv[2])
    random_ = random.Random(seed)
    kinds = (*faults.VFS_KINDS, "any")
    lines = [line for line in faults.possibilities() if line.kind in kinds and "KILL" not in line.effects]
    MODES = ("delete", "truncate", "persist", "memory", "wal")

    def one_fault():
        line = random_.choice(lines)
        first = random_.choice((1, 1, 1, 2, 3, 5, 9, 20))
        last = random_.choice((first, first, first + 3, None))
        effect, role = random_.choice(line.effects), random_.choice(("any", *line.roles))
        return Fault(line.kind, effect, role, When(first, last), line.timing)

    def plan():
        return FaultPlan(tuple(one_fault() for _ in range(random_.choice((1, 1, 2, 3)))))

    def attempt(step):
        try:
            step()
        except (sqlite3.Error, MemoryError):
            pass

    def run(number):
        for stale in pathlib.Path().glob("a.db*"):
            stale.unlink()
        connection = None
        with faults.install() as shim, faults.arm(plan()) as armed:
            try:
                connection = sqlite3.connect("a.db", timeout=0.01)
                attempt(lambda: connection.execute("PRAGMA journal_mode=" + random_.choice(MODES)).fetchall())
                attempt(lambda: connection.execute("CREATE TABLE t(a, b)"))
                attempt(lambda: connection.execute("INSERT INTO t VALUES(1, zeroblob(5000))"))
                attempt(connection.commit)
                attempt(lambda: connection.execute("UPDATE t SET a = 2").fetchall())
                attempt(connection.rollback)
                if number % 3 == 0:
                    attempt(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
                if number % 5 == 0:
                    attempt(lambda: connection.execute("VACUUM").fetchall())
            except sqlite3.Error:
                pass
            if number % 2 and connection is not None:
                connection.close()
        if connection is not None:
            # It outlives its scope half the time.
            attempt(connection.rollback) if not number % 2 else None
            connection.close()
        return armed.fired

    def descriptors():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def memory_kib():
        if os.path.exists("/proc/self/statm"):
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    fired = sum(bool(run(number)) for number in range(total // 5))
    before = descriptors(), memory_kib()
    fired += sum(bool(run(number)) for number in range(total // 5, total))
    after = descriptors(), memory_kib()
    assert not faults.shim_for().paths and not faults.shim_for().kept
    connection = sqlite3.connect("a.db")
    connection.execute("CREATE TABLE IF NOT EXISTS last(a)")
    connection.close()
    os.chdir("/")
    scratch.cleanup()
    print(fired, after[0] - before[0], after[1] - before[1])
""".replace('open("/proc/self/statm").read()', 'pathlib.Path("/proc/self/statm").read_text()')


@pytest.mark.slow
def test_ten_thousand_random_plans_harm_neither_the_process_nor_its_resources(
    child: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = child(_CODE, 20261121, 10_000, timeout_s=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    fired, descriptors, kib = map(int, ended.stdout.split())
    assert fired > 4_000  # Else the loop is a loop over nothing.
    assert descriptors == 0
    assert kib < 2_048


def test_a_few_hundred_random_plans_harm_nothing(child: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = child(_CODE, 7, 300)
    assert (ended.returncode, ended.stderr) == (0, "")
    fired, descriptors, _kib = map(int, ended.stdout.split())
    assert fired > 100
    assert descriptors == 0
