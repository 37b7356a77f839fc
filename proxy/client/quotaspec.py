"""QuotaSpec: which quotas a request is charged for, and how much.

Source: spec proxy 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, model_validator

from mixer.attributes import ABSENT, AttributeBag
from mixer.store.protojson import Int64, ProtoModel, bad_value
from proxy.client.patterns import AtLeastOne, NotEmpty, Pattern, compile_full_match

Requirements: TypeAlias = dict[str, int]
"""What a request needs: the amount by quota name, in the order of the specs; charges of one name are summed."""

Clause: TypeAlias = Callable[[AttributeBag], bool]


class StringMatch(ProtoModel):
    """How a text is matched; with nothing set, any text will do."""

    exact: NotEmpty | None = None
    prefix: NotEmpty | None = None
    regex: Pattern | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> StringMatch:
        if sum(kind is not None for kind in (self.exact, self.prefix, self.regex)) > 1:
            raise bad_value("more than one kind of match is set", "one of exact, prefix, regex")
        return self


class AttributeMatch(ProtoModel):
    """Clauses by attribute name, all of which must hold."""

    clause: dict[str, StringMatch] = {}


def _positive(charge: int) -> int:
    if charge <= 0:
        raise bad_value(f"a charge of {charge}", "a number above 0")
    return charge


class Quota(ProtoModel):
    """A quota and what a request costs."""

    quota: NotEmpty
    charge: Annotated[Int64, AfterValidator(_positive)]


class QuotaRule(ProtoModel):
    """Quotas for the requests that match; no match stands for all requests."""

    match: list[AttributeMatch] = []
    quotas: Annotated[list[Quota], AtLeastOne]


class QuotaSpec(ProtoModel):
    """Rules, each of which charges the requests that it matches."""

    rules: Annotated[list[QuotaRule], AtLeastOne]


class QuotaRules:
    """Specs made ready to be asked."""

    __slots__ = ("_rules",)

    def __init__(self, specs: Iterable[QuotaSpec]) -> None:
        self._rules: Final = tuple(
            (
                tuple(tuple(_clause(name, text) for name, text in match.clause.items()) for match in rule.match),
                tuple((quota.quota, quota.charge) for quota in rule.quotas),
            )
            for spec in specs
            for rule in spec.rules
        )

    def __bool__(self) -> bool:
        return bool(self._rules)

    def charge(self, bag: AttributeBag, into: Requirements) -> None:
        """Add what the request of a bag needs."""
        for matches, quotas in self._rules:
            if not matches or any(_holds(match, bag) for match in matches):
                for name, amount in quotas:
                    into[name] = into.get(name, 0) + amount


def requirements(rules: Sequence[QuotaRules], bag: AttributeBag) -> Requirements:
    """What the request of a bag needs by several sets of rules, in order."""
    found: Requirements = {}
    for one in rules:
        one.charge(bag, found)
    return found


def _holds(clauses: Sequence[Clause], bag: AttributeBag) -> bool:
    return all(clause(bag) for clause in clauses)


def _clause(name: str, match: StringMatch) -> Clause:
    test: Callable[[str], Any] | None = None
    if match.exact is not None:
        test = match.exact.__eq__
    elif match.prefix is not None:
        prefix = match.prefix

        def test(text: str) -> bool:
            return text.startswith(prefix)

    elif match.regex is not None:
        test = compile_full_match(match.regex)

    def clause(bag: AttributeBag) -> bool:
        value = bag.lookup(name, ABSENT)
        return isinstance(value, str) and (test is None or bool(test(value)))

    return clause
