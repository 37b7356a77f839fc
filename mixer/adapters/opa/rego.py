"""Policies in this process: the one module that knows the interpreter, regorus.

An evaluation takes some ten microseconds and holds the event loop; Rego always comes to an end, but a policy can take
long, which the histogram of evaluations shows.

regorus makes an error of what OPA calls undefined: a built-in function that cannot work with its arguments, such as
``to_number("a")``. Behind an undefined expression there may be a default of false, so such an error must never admit;
`EvaluationError.certain` tells it from an error that OPA would report, too. An engine stays in the thread that made it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

MISSING: Final = "policies in this process need an interpreter that is not installed"
_PLACE: Final = re.compile(r"--> (\S+)")
_REASON: Final = re.compile(r"^error: *(.*)$", re.MULTILINE)
_QUERY: Final = "<query.rego>"
_CONFLICTS: Final = ("rule conflicts with", "must not produce multiple outputs", "complete rules")
"""What OPA calls a conflict error; it reports those as we do."""
_STATIC: Final = ("could not find function", "recursion detected", "cyclic evaluation")
"""What regorus finds only while it evaluates, and OPA before."""


class EvaluationError(Exception):
    """The query has no value because a rule failed; the message says where and why.

    Attributes:
        certain: OPA would say so, too.
    """

    def __init__(self, message: str, *, certain: bool) -> None:
        super().__init__(message)
        self.certain = certain


def is_installed() -> bool:
    """Whether there is an interpreter."""
    return importlib.util.find_spec("regorus") is not None


@dataclass(frozen=True, slots=True)
class Compiled:
    """Policies as they were read.

    Attributes:
        query: What evaluates them; None when something is wrong.
        faults: What is: the number of a module, -1 when it is none of them alone, None for the query; and the message.
    """

    query: Query | None
    faults: tuple[tuple[int | None, str], ...] = ()


class Query:
    """A query over policies."""

    def __init__(self, engine: Any, text: str) -> None:
        self._engine, self._text = engine, text

    def evaluate(self, document: str) -> bool | None:
        """The decision for an input document; None: undefined, several results, or no boolean.

        Raises:
            EvaluationError: A rule failed.
        """
        try:
            self._engine.set_input_json(document)
            results = self._engine.eval_query(self._text)["result"]
        except BaseException as exc:
            message = _message(exc)
            raise EvaluationError(message, certain=any(sign in message for sign in _CONFLICTS)) from exc
        if len(results) != 1 or len(results[0]["expressions"]) != 1:
            return None
        value = results[0]["expressions"][0]["value"]
        return value if isinstance(value, bool) else None


def compile_policies(policies: Sequence[str], query: str, *, v1: bool) -> Compiled:
    """Read modules and a query. What does not parse is reported alone, before the rest is looked at.

    An empty query is left for the caller to report.
    """
    if not is_installed():
        return Compiled(None, ((-1, MISSING),))
    engine = importlib.import_module("regorus").Engine()
    engine.set_rego_v0(not v1)
    faults: list[tuple[int | None, str]] = []
    for index, policy in enumerate(policies):
        try:
            engine.add_policy(f"opa_policy.{index}", policy)
        except BaseException as exc:  # noqa: BLE001  see _message
            faults.append((index, _message(exc)))
    if faults:
        return Compiled(None, tuple(faults))
    try:
        engine.eval_query("true")  # makes the engine check all modules
    except BaseException as exc:  # noqa: BLE001  see _message
        return Compiled(None, ((_module(exc), _message(exc)),))
    if not query:
        return Compiled(None)
    try:
        engine.set_input_json('{"action": {}, "subject": {}}')
        engine.eval_query(query)
    except BaseException as exc:  # noqa: BLE001  see _message
        message = _message(exc)
        if _QUERY in str(exc):
            return Compiled(None, ((None, message.removeprefix(f"{_QUERY}:")),))
        if any(sign in message for sign in _STATIC):
            return Compiled(None, ((_module(exc), message),))
    return Compiled(Query(engine, query))


def _message(exc: BaseException) -> str:
    """One line of the interpreter's several: place and reason, without source and stack.

    The interpreter's panics are no `Exception`, which is why its callers catch everything.

    Raises:
        BaseException: It is not the interpreter's: what asks the process or a task to end must go on.
    """
    if not isinstance(exc, Exception) and type(exc).__module__ != "pyo3_runtime":
        raise exc
    text = str(exc).partition("\n\nStack backtrace")[0]
    place, reason = _PLACE.search(text), _REASON.search(text)
    if place is None or reason is None:
        return " ".join(text.split()) or type(exc).__name__
    said = reason[1].rstrip(": ")
    return f"{place[1]}: {'syntax error' if said in ('', 'expecting') else said}"


def _module(exc: BaseException) -> int:
    number = re.search(r"--> opa_policy\.([0-9]+):", str(exc))
    return int(number[1]) if number else -1
