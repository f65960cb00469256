"""`FaultingStore`: a proxy round any store object, whose methods fail before, in the middle of or after they commit.

Method. The proxy knows nothing of the store but its public methods, and a simple rule says what a call is:

- every call of a public method is a ``statement``;
- outside a transaction, a call of a method that is not in `reads` is a whole transaction by itself: ``begin``,
  ``statement``, then ``commit``. *Before* means that the store was never called, *after* that the call was made and
  succeeded, and its answer is lost;
- a method in `transactions` gives a context manager: entering it is ``begin``, leaving it normally is ``commit``.
  *Before*: the inner one is left with the error, so that it rolls back. *After*: it has really committed, then the
  error is raised. Calls in between, on the store from the same thread or on what the ``with`` yields, are
  ``statement`` only; a transaction inside a transaction is one as well.

The methods in `untouched` (``close``) and a ``with`` on the store itself are no operations.

Not covered: ``rollback``, because a store that is left with an exception offers no place to fail it; ``async`` methods,
whose call only makes a coroutine; whether the store's journal mode allows a COMMIT that raised to be visible: for
one in WAL mode say ``ambiguous=False``, and ``commit/after`` matches nothing but KILL.
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

# Python looks these up on the class, past __getattr__; those that only read, and those that change something.
_READING: Final = ("__len__", "__iter__", "__contains__", "__getitem__", "__reversed__", "__bool__")
_CHANGING: Final = ("__setitem__", "__delitem__", "__ior__", "__iadd__", "__isub__", "__call__")
_PLAIN: Final = (str, bytes, int, float, tuple, list, dict, set, frozenset)


class FaultingStore:
    """A stand-in for `inner` that asks this injector, plan or depth about each call.

    `reads` names the methods that change nothing; `transactions` those that give a transaction's context manager;
    `untouched` those that are no operation. Raised errors are those of `module`, as at the statement depth.
    """

    # One name only: everything else is the inner store's.
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
    """Which methods are what, by name."""

    reads: frozenset[str]
    transactions: frozenset[str]
    untouched: frozenset[str]


class _Asker:
    """Asks, and raises what was decided; knows which thread is inside a transaction."""

    def __init__(self, depth: StatementDepth, *, ambiguous: bool) -> None:
        self._depth = depth
        self._endings = (COMMIT_END,) if ambiguous else ()
        self._local = threading.local()

    @property
    def inside(self) -> int:
        """How many transactions this thread is in, one within the other."""
        return getattr(self._local, "inside", 0)

    @inside.setter
    def inside(self, count: int) -> None:
        self._local.inside = count

    def perform(self, kinds: tuple[str, ...], run: Callable[[], Any]) -> Any:
        """Ask about each kind, run, and ask how a commit ended; raises what a watcher decided."""
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
    """What a call on one object is: on the store itself, or on what its transaction yields."""

    def __init__(self, outer: FaultingStore, inner: Any, asker: _Asker, rule: _Rule) -> None:
        self._outer = outer
        self.inner = inner
        self._asker = asker
        self._rule = rule

    def attribute(self, name: str) -> Any:
        """The inner attribute; a public method comes behind the questions."""
        value = getattr(self.inner, name)
        # A callable that was put on the instance, such as a clock or an observer, is no method.
        is_method = callable(value) and not isinstance(value, type) and name not in getattr(self.inner, "__dict__", ())
        if name.startswith("_") or name in self._rule.untouched or not is_method:
            return value
        return self.method(name, value)

    def method(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The inner method behind the questions."""

        def transaction(*args: Any, **named: Any) -> Any:
            return _Transaction(self, self._asker, call(*args, **named))

        def operation(*args: Any, **named: Any) -> Any:
            whole = not self._asker.inside and name not in self._rule.reads
            kinds = ("begin", BEGIN_LOCK, "statement", "commit", COMMIT_LOCK) if whole else ("statement",)
            return self.own(self._asker.perform(kinds, functools.partial(call, *args, **named)))

        return functools.wraps(call)(transaction if name in self._rule.transactions else operation)

    def own(self, value: Any) -> Any:
        """The proxy in place of the inner object, wherever the store hands itself out."""
        return self._outer if value is self.inner else value

    def within(self, value: Any) -> Any:
        """What a transaction yields, behind the same questions; None and plain values as they are."""
        if value is None or isinstance(value, _PLAIN):
            return value
        if value is self.inner:
            return self._outer
        view = FaultingStore.__new__(FaultingStore, value)
        object.__setattr__(view, "_proxy", _Proxy(view, value, self._asker, self._rule))
        return view


class _Transaction:
    """A transaction's context manager behind the questions."""

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
        """Leave the inner one with the error, which its caller is told of even if the inner one would swallow it."""
        try:
            self._manager.__exit__(type(error), error, error.__traceback__)
        except BaseException as raised:
            # What the store makes of the error is what its caller would be told.
            if raised is not error:
                raise
