"""Python's functions are watched in place: under whatever name they are called, and only while somebody watches."""

import functools
import gc
import inspect
import io
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from os import fsync as bound_before
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults
from tornpage.faults.files import recording
from tornpage.faults.files.in_place import IMMUTABLE_TYPE, BuiltinFunction, BuiltinMethods, is_supported, never_replaced
from tornpage.faults.vfs.operation_log import Tape

pytestmark = pytest.mark.skipif(not is_supported(), reason="built-in functions of this interpreter are out of reach")


def _as_default(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
    sync(descriptor)


class _Holder:
    sync = staticmethod(os.fsync)
    partial = functools.partial(os.fsync)


def _in_a_closure() -> Callable[[int], None]:
    sync = os.fsync

    def inner(descriptor: int) -> None:
        sync(descriptor)

    return inner


@pytest.mark.parametrize(
    "sync", [bound_before, _as_default, _Holder.sync, _Holder.partial, _in_a_closure()], ids=lambda one: str(type(one))
)
def test_a_name_that_was_bound_before_leads_to_the_recorder(sync: Callable[[int], None], tmp_path: Path) -> None:
    with faults.install(), faults.record(tmp_path) as tape, (tmp_path / "a").open("w") as file:
        sync(file.fileno())
    assert [operation.kind for operation in tape.operations] == ["create", "sync"]


def test_what_the_harness_itself_polls_leads_to_none(tmp_path: Path) -> None:
    sync = never_replaced(os.fsync)
    with faults.install(), faults.record(tmp_path) as tape, (tmp_path / "a").open("w") as file:
        sync(file.fileno())
        os.fsync(file.fileno())
    assert [operation.kind for operation in tape.operations] == ["create", "sync"]


def test_a_call_site_that_the_interpreter_has_specialised_does_so_too(tmp_path: Path) -> None:
    def write(descriptor: int, times: int) -> None:
        for _ in range(times):
            os.write(descriptor, b"x")

    descriptor = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    write(descriptor, 1_000)
    with recording(Tape(tmp_path)), recording(tape := Tape(tmp_path)):
        write(descriptor, 10)
    write(descriptor, 1_000)
    os.close(descriptor)
    assert len(tape) == 10


def test_the_functions_look_as_ever() -> None:
    before = repr(os.write), str(inspect.signature(os.write)), os.write.__doc__, os.write.__module__
    with recording(Tape(".")):
        assert (repr(os.write), str(inspect.signature(os.write)), os.write.__doc__, os.write.__module__) == before
        assert pickle.loads(pickle.dumps(os.write)) is os.write  # noqa: S301 - our own
        assert open is io.open
        with open(__file__) as file:  # noqa: PTH123 - the built-in is what is tested
            assert type(file.buffer.raw) is io.FileIO  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            os.write("no", "sense", "at all")  # type: ignore[call-arg, arg-type]


def test_after_the_scope_all_is_as_it_was(tmp_path: Path) -> None:
    attributes = {name: vars(io.FileIO)[name] for name in ("__init__", "write", "truncate", "close")}
    flags = io.FileIO.__flags__
    for _ in range(3):
        with faults.install(), faults.count_operations(tmp_path):
            assert vars(io.FileIO)["write"] is not attributes["write"]
    assert {name: vars(io.FileIO)[name] for name in attributes} == attributes
    assert io.FileIO.__flags__ & IMMUTABLE_TYPE == flags & IMMUTABLE_TYPE
    with pytest.raises(TypeError, match="immutable"):
        io.FileIO.write = None  # type: ignore[method-assign, assignment]


def test_a_scope_without_plain_files_leaves_them_alone(tmp_path: Path) -> None:
    write = vars(io.FileIO)["write"]
    with faults.install(), faults.arm("write:wal@1=FULL", tmp_path):
        assert vars(io.FileIO)["write"] is write


def test_other_threads_may_call_while_it_comes_and_goes(tmp_path: Path) -> None:
    stop = threading.Event()
    wrong: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while not stop.is_set():
                (tmp_path / name).write_text(name)
                assert (tmp_path / name).read_text() == name
        except BaseException as error:  # noqa: BLE001 - told by the test
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for _ in range(300):
        with recording(Tape(tmp_path / "elsewhere")):
            (tmp_path / "mine").write_text("x")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_collector_counts_right() -> None:
    body = BuiltinFunction(os.getppid, lambda original: -original())
    body.put_in()
    try:
        for _ in range(3):
            gc.collect()
        assert os.getppid() < 0
    finally:
        body.take_out()
    gc.collect()
    assert os.getppid() > 0


def test_weak_references_to_a_function_stay() -> None:
    body = BuiltinFunction(os.getppid, lambda original: original())
    body.put_in()
    reference = weakref.ref(os.getppid)
    body.take_out()
    assert reference() is os.getppid
    del reference
    gc.collect()


def test_a_method_that_a_type_does_not_have_is_gone_again() -> None:
    heard: list[Any] = []
    methods = BuiltinMethods(io.BytesIO, {"fileno": lambda original, file: heard.append(file) or original(file)})
    methods.put_in()
    try:
        with pytest.raises(io.UnsupportedOperation):
            io.BytesIO().fileno()
    finally:
        methods.take_out()
    assert len(heard) == 1
    assert "fileno" not in vars(io.BytesIO)
