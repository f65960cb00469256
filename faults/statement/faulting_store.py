"""`FaultingStore`: a proxy around any store object, whose methods fail before, in the middle of or after they commit.

Method. The proxy uses only the store's public methods, and maps each call to operations:

- every call of a public method is a ``statement``;
- outside a transaction, a call of a method that is not in `reads` is a complete transaction: ``begin``, ``statement``,
  then ``commit``. *Before* means that the store was not called; *after* means that the call was made and succeeded, but
  the caller gets an error instead of the result;
- a method in `transactions` returns a context manager: entering it is ``begin``, leaving it normally is ``commit``.
  *Before*: the inner context manager exits with the error, so that it rolls back. *After*: it has really committed,
  then the error is raised. Calls in between, on the store from the same thread or on the object that the ``with``
  yields, are ``statement`` only; so is a transaction inside a transaction.

The methods in `untouched` (``close``) and a ``with`` on the store itself are not operations.

Not covered: ``rollback``, because the proxy can't see the rollback of a store that exits with an exception; ``async``
methods, whose call only creates a coroutine; whether the store's journal mode allows the changes of a COMMIT that
raised to be visible: for a store in WAL mode pass ``ambiguous=False``, so that only KILL matches ``commit/after``.
"""

import functools
import threading
from collections.abc import Callable, Collection
from types import ModuleType, TracebackType
from typing import Any, Final, NamedTuple

from tornpage.faults.injector import BEGIN_LOCK, COMMIT_END, COMMIT_LOCK, Injector
from tornpage.faults.plan import KILL, FaultPlan
from tornpage.faults.result_codes import die
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.statement.depth import StatementDepth, depth_of

# Python looks these up on the class, bypassing __getattr__: methods that only read, and methods that write.
_READING: Final = ("__len__", "__iter__", "__contains__", "__getitem__", "__reversed__", "__bool__")
_CHANGING: Final = ("__setitem__", "__delitem__", "__ior__", "__iadd__", "__isub__", "__call__")
_PLAIN: Final = (str, bytes, int, float, tuple, list, dict, set, frozenset)


class FaultingStore:
    """A proxy for `inner` that asks this injector, plan or depth about each call.

    `reads` names the methods that change nothing; `transactions` those that return a transaction's context manager;
    `untouched` those that are not operations. Errors are those of `module`, as at the statement depth.
    """

    # Only this name is the proxy's: all others are the inner store's.
    __slots__ = ("__weakref__", "_proxy")

    def __new__(cls, inner: Any, *_: Any, **__: Any) -> "FaultingStore":
        """Make an instance of a subclass that has the special methods of `inner`."""
        names = [name for name in (*_READING, *_CHANGING) if hasattr(type(inner), name)]
        made = type(cls.__name__, (cls,), {"__slots__": (), **{name: _special(name) for name in names}})
        return object.__new__(made)

    def __init__(
        self,
        inner: Any,
        source: StatementDepth | Injector | FaultPlan | str,
        *,
        reads: Collection[str] = (),
        transactions: Collection[str] = ("transaction", "batch"),
        untouched: Collection[str] = ("close",),
        ambiguous: bool = True,
        module: ModuleType = sqlite3,
    ) -> None:
        asker = _Asker(depth_of(source, module), ambiguous=ambiguous)
        rule = _Rule(frozenset((*reads, *_READING)), frozenset(transactions), frozenset(untouched))
        object.__setattr__(self, "_proxy", _Proxy(self, inner, asker, rule))

    def __getattr__(self, name: str) -> Any:
        return _proxy_of(self).attribute(name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_proxy_of(self).inner, name, value)

    def __enter__(self) -> Any:
        proxy = _proxy_of(self)
        return proxy.own(proxy.inner.__enter__())

    def __exit__(self, *raised: Any) -> Any:
        return _proxy_of(self).inner.__exit__(*raised)

    def __repr__(self) -> str:
        return f"FaultingStore({_proxy_of(self).inner!r})"


def _proxy_of(store: FaultingStore) -> "_Proxy":
    proxy: _Proxy = object.__getattribute__(store, "_proxy")
    return proxy


def _special(name: str) -> Callable[..., Any]:
    def method(self: FaultingStore, *args: Any) -> Any:
        proxy = _proxy_of(self)
        return proxy.method(name, getattr(proxy.inner, name))(*args)

    return method


class _Rule(NamedTuple):
    """The roles of methods, by name."""

    reads: frozenset[str]
    transactions: frozenset[str]
    untouched: frozenset[str]


class _Asker:
    """Asks the depth, and raises its error; tracks which threads are inside a transaction."""

    def __init__(self, depth: StatementDepth, *, ambiguous: bool) -> None:
        self._depth = depth
        self._endings = (COMMIT_END,) if ambiguous else ()
        self._local = threading.local()

    @property
    def inside(self) -> int:
        """The nesting depth of this thread's transactions."""
        return getattr(self._local, "inside", 0)

    @inside.setter
    def inside(self, count: int) -> None:
        self._local.inside = count

    def perform(self, kinds: tuple[str, ...], run: Callable[[], Any]) -> Any:
        """Ask about each kind, run, and ask about the end of a commit; raises a watcher's error."""
        for kind in kinds:
            ruling = self._depth.ask(kind)
            if ruling is not None:
                if ruling.fault.timing == "after":
                    run()
                if ruling.fault.effect == KILL:
                    die()
                raise ruling.error
        result = run()
        for ending in self._endings if "commit" in kinds else ():
            ruling = self._depth.ask(ending)
            if ruling is not None:
                raise ruling.error
        return result


class _Proxy:
    """The proxy of one object: of the store itself, or of the object that its transaction yields."""

    def __init__(self, outer: FaultingStore, inner: Any, asker: _Asker, rule: _Rule) -> None:
        self._outer = outer
        self.inner = inner
        self._asker = asker
        self._rule = rule

    def attribute(self, name: str) -> Any:
        """The inner attribute; a public method is wrapped."""
        value = getattr(self.inner, name)
        # A callable that was set on the instance, such as a clock or an observer, is not a method.
        is_method = callable(value) and not isinstance(value, type) and name not in getattr(self.inner, "__dict__", ())
        if name.startswith("_") or name in self._rule.untouched or not is_method:
            return value
        return self.method(name, value)

    def method(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The inner method, wrapped so that it asks before it runs."""

        def transaction(*args: Any, **named: Any) -> Any:
            return _Transaction(self, self._asker, call(*args, **named))

        def operation(*args: Any, **named: Any) -> Any:
            whole = not self._asker.inside and name not in self._rule.reads
            kinds = ("begin", BEGIN_LOCK, "statement", "commit", COMMIT_LOCK) if whole else ("statement",)
            return self.own(self._asker.perform(kinds, functools.partial(call, *args, **named)))

        return functools.wraps(call)(transaction if name in self._rule.transactions else operation)

    def own(self, value: Any) -> Any:
        """The value; the proxy if the store returns itself."""
        return self._outer if value is self.inner else value

    def within(self, value: Any) -> Any:
        """The object that a transaction yields, as a proxy; None and plain values unchanged."""
        if value is None or isinstance(value, _PLAIN):
            return value
        if value is self.inner:
            return self._outer
        view = FaultingStore.__new__(FaultingStore, value)
        object.__setattr__(view, "_proxy", _Proxy(view, value, self._asker, self._rule))
        return view


class _Transaction:
    """A transaction's context manager that asks at its begin and commit."""

    def __init__(self, proxy: _Proxy, asker: _Asker, manager: Any) -> None:
        self._proxy = proxy
        self._asker = asker
        self._manager = manager
        self._left = False

    def __enter__(self) -> Any:
        kinds = ("statement",) if self._asker.inside else ("begin", BEGIN_LOCK)
        value = self._asker.perform(kinds, self._manager.__enter__)
        self._asker.inside += 1
        return self._proxy.within(value)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        self._asker.inside -= 1
        if kind is not None or self._asker.inside:
            return self._manager.__exit__(kind, value, traceback)
        try:
            return self._asker.perform(("commit", COMMIT_LOCK), self._commit)
        except BaseException as error:
            if not self._left:
                self._roll_back(error)
            raise

    def _commit(self) -> Any:
        self._left = True
        return self._manager.__exit__(None, None, None)

    def _roll_back(self, error: BaseException) -> None:
        """Exit the inner context manager with the error; the caller gets the error even if that suppresses it."""
        try:
            self._manager.__exit__(type(error), error, error.__traceback__)
        except BaseException as raised:
            # If the store raises another error instead, its caller would get that one.
            if raised is not error:
                raise
