"""Ten thousand random legal plans in one process: no crash, no leaked descriptor, no growing memory, and no trace.

Beside them a thread works on a database of its own, garbage is collected at random moments, and connections outlive
their scope. In the end each VFS of the library is byte for byte what it was.

It runs in a child, so that a segmentation fault is a failed test and not the end of all tests.
"""

import importlib.util
import subprocess
from collections.abc import Callable

import pytest

_CODE = """
    import ctypes, faulthandler, gc, importlib, os, pathlib, random, resource, sys, tempfile, threading
    from tornpage import faults
    from tornpage.faults import Fault, FaultPlan, When

    faulthandler.enable()
    # A memory file system where there is one: what is tested is the process, and not the speed of a disk.
    memory = "/dev/shm"
    scratch = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
    os.chdir(scratch.name)
    seed, total, binding = int(sys.argv[1]), int(sys.argv[2]), importlib.import_module(sys.argv[3])
    errors = (*faults.sqlite_errors(), MemoryError)

    def opened(path):
        if not hasattr(binding, "connect"):
            return binding.Connection(path)
        return binding.connect(path, timeout=0.01, isolation_level=None, check_same_thread=False)

    def bytes_of_vfss():
        vfss = faults.shim_for(binding).library.vfss
        return [ctypes.string_at(one.address, ctypes.sizeof(faults.reach.proof.Vfs)) for one in vfss]

    untouched = bytes_of_vfss()
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
        except errors:
            pass

    ended = threading.Event()

    def beside():
        while not ended.is_set():
            try:
                mine = opened("beside.db")
            except errors:
                continue
            attempt(lambda: list(mine.execute("PRAGMA journal_mode=wal")))
            attempt(lambda: list(mine.execute("CREATE TABLE IF NOT EXISTS t(a)")))
            attempt(lambda: list(mine.execute("DELETE FROM t")))
            for number in range(20):
                attempt(lambda: list(mine.execute("INSERT INTO t VALUES(?)", (number,))))
            mine.close()
            ended.wait(0.02)

    thread = threading.Thread(target=beside)
    thread.start()

    def run(number):
        for stale in pathlib.Path().glob("a.db*"):
            stale.unlink()
        connection = None
        with faults.install() as shim, faults.arm(plan()) as armed:
            try:
                connection = opened("a.db")
                steps = ["PRAGMA journal_mode=" + random_.choice(MODES), "CREATE TABLE t(a, b)", "BEGIN"]
                steps += ["INSERT INTO t VALUES(1, zeroblob(5000))", "COMMIT", "BEGIN", "UPDATE t SET a = 2"]
                steps += ["ROLLBACK"] if number % 4 else []
                steps += ["PRAGMA wal_checkpoint(TRUNCATE)"] if number % 3 == 0 else []
                steps += ["VACUUM"] if number % 5 == 0 else []
                for step in steps:
                    attempt(lambda: list(connection.execute(step)))
                    if random_.random() < 0.05:
                        gc.collect(0)
            except errors:
                pass
            if number % 2 and connection is not None:
                connection.close()
        if connection is not None:
            # It outlives its scope half the time.
            attempt(lambda: list(connection.execute("ROLLBACK")) if not number % 2 else None)
            connection.close()
        return armed.fired

    def descriptors():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def memory_kib():
        if os.path.exists("/proc/self/statm"):
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def descriptors_alone():
        # Those of the thread beside come and go.
        return min(descriptors() for _ in range(200))

    fired = sum(bool(run(number)) for number in range(total // 5))
    before = descriptors_alone(), memory_kib()
    fired += sum(bool(run(number)) for number in range(total // 5, total))
    ended.set()
    thread.join()
    gc.collect()
    after = descriptors(), memory_kib()
    assert bytes_of_vfss() == untouched
    assert not faults.shim_for(binding).paths and not faults.shim_for(binding).kept
    connection = opened("a.db")
    list(connection.execute("CREATE TABLE IF NOT EXISTS last(a)"))
    connection.close()
    os.chdir("/")
    scratch.cleanup()
    print(fired, after[0] - before[0], after[1] - before[1])
""".replace('open("/proc/self/statm").read()', 'pathlib.Path("/proc/self/statm").read_text()')


@pytest.mark.slow
def test_ten_thousand_random_plans_harm_neither_the_process_nor_its_resources(
    child: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = child(_CODE, 20261121, 10_000, "sqlite3", timeout_s=400)
    assert (ended.returncode, ended.stderr) == (0, "")
    fired, descriptors, kib = map(int, ended.stdout.split())
    assert fired > 4_000  # Else the loop is a loop over nothing.
    assert descriptors <= 0
    assert kib < 2_048


@pytest.mark.parametrize("binding", ["sqlite3", "pysqlite3", "sqlean", "apsw"])
def test_a_few_hundred_random_plans_harm_nothing(
    binding: str, child: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    if importlib.util.find_spec(binding) is None:
        pytest.skip(f"{binding} is not installed")
    ended = child(_CODE, 7, 300, binding)
    assert (ended.returncode, ended.stderr) == (0, "")
    fired, descriptors, _kib = map(int, ended.stdout.split())
    assert fired > 100
    assert descriptors <= 0
