"""Roles are found by an index: it changes nothing but the time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.adapters.rbac.patterns import PatternIndex, compile_patterns
from mixer.adapters.rbac.policies import Policies, Semantics
from mixer.adapters.rbac.roles import Grant, NamespaceGrants, Roles
from mixer.adapters.rbac.specs import AccessRule, RbacConfig, RbacMode, Subject
from tests.adapters.rbac.conftest import request

WORDS = st.text("ab", max_size=3)
PATTERNS = st.one_of(WORDS, WORDS.map("{}*".format), WORDS.map("*{}".format))
RULES = st.builds(
    AccessRule,
    services=st.lists(PATTERNS, max_size=2),
    paths=st.lists(PATTERNS, max_size=2),
    methods=st.lists(st.sampled_from(["GET", "*", "POST"]), max_size=2),
)
SUBJECTS = st.builds(
    Subject,
    user=st.one_of(st.just(""), PATTERNS, st.sampled_from(["allUsers", "allAuthenticatedUsers"])),
    group=st.sampled_from(["", "g"]),
    names=st.lists(PATTERNS, max_size=2),
).filter(lambda subject: subject != Subject())
GRANTS = st.builds(
    Grant,
    role=st.just("r"),
    rules=st.lists(RULES, min_size=1, max_size=2).map(tuple),
    subjects=st.lists(SUBJECTS, min_size=1, max_size=2).map(tuple),
)


def simple(pattern: str, text: str) -> bool:
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text.endswith(pattern[1:]) if pattern.startswith("*") else text == pattern


@given(patterns=st.lists(PATTERNS), text=WORDS)
def test_patterns_match_as_each_does(patterns: list[str], text: str) -> None:
    assert compile_patterns(patterns)(text) is any(simple(pattern, text) for pattern in patterns)


@given(entries=st.lists(st.one_of(st.none(), st.lists(PATTERNS, max_size=3)), max_size=6), text=WORDS)
def test_index_finds_every_entry_that_is_concerned(entries: list[list[str] | None], text: str) -> None:
    found = {number for numbers in PatternIndex(entries).concerned(text) for number in numbers}

    concerned = {n for n, e in enumerate(entries) if e is None or any(simple(pattern, text) for pattern in e)}
    assert found == concerned


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    grants=st.lists(GRANTS, max_size=5),
    semantics=st.sampled_from(Semantics),
    asked=st.lists(
        st.fixed_dictionaries(
            {"service": WORDS, "path": WORDS, "method": st.sampled_from(["GET", "PUT"]), "user": WORDS, "groups": st.sampled_from(["", "g"])}
        ),
        max_size=5,
    ),
)  # fmt: skip
def test_many_roles_decide_as_each_does_alone(
    grants: list[Grant], semantics: Semantics, asked: list[dict[str, Any]]
) -> None:
    named = [Grant(f"r{n}", grant.rules, grant.subjects) for n, grant in enumerate(grants)]

    def policies(found: list[Grant]) -> Policies:
        config = RbacConfig(mode=RbacMode.ON)
        return Policies(Roles({"default": NamespaceGrants(tuple(found))}, config), semantics)

    together, alone = policies(named), [policies([grant]) for grant in named]
    for fields in asked:
        first = next((p.decide(request(**fields)).role for p in alone if p.decide(request(**fields)).allowed), "")
        assert together.decide(request(**fields)).role == first
