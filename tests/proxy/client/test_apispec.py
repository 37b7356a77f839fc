from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.attributes import MappingBag
from mixer.store import Resource, ResourceKey, Severity
from mixer.store.protojson import decode
from proxy.client import SpecIndex
from proxy.client.apispec import HttpApi, HTTPAPISpec
from proxy.client.templates import TemplateError, TemplateTrie, parse_template


def trie(*templates: str) -> TemplateTrie[str]:
    made: TemplateTrie[str] = TemplateTrie()
    for template in templates:
        method, _, path = template.rpartition(" ")
        made.add(method or "GET", path, template)
    return made


PRECEDENCE = trie("/**", "/c/f/d/e", "/c/*/d/e", "/c/*/d/**", "/c/**/z", "/b/{id}", "/b/{id}:undo", "/b/*/x")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/**"),
        ("", None),
        ("c/f", None),
        ("/c/f/d/e", "/c/f/d/e"),
        ("/c/g/d/e", "/c/*/d/e"),
        ("/c/g/d/x/y", "/c/*/d/**"),
        ("/c/g/d", "/c/*/d/**"),
        ("/c/q/r/z", "/c/**/z"),
        ("/c/z", "/c/**/z"),
        ("/c//x", "/**"),
        ("/b/7", "/b/{id}"),
        ("/b/7/", "/b/{id}"),
        ("/b/7//", "/b/{id}"),
        ("/b/7?a=/x", "/b/{id}"),
        ("/b/7:undo", "/b/{id}:undo"),
        ("/b/7:redo", "/b/{id}"),
        ("/b/7/x", "/b/*/x"),
        ("/b/7/y", "/**"),
    ],
)
def test_most_literal_template_matches(path: str, expected: str | None) -> None:
    assert PRECEDENCE.find("GET", path) == expected


def test_method_of_its_own_comes_before_the_star() -> None:
    made = trie("GET /a", "* /a")
    assert [made.find(method, "/a") for method in ("GET", "PUT")] == ["GET /a", "* /a"]
    assert PRECEDENCE.find("POST", "/b/7") is None


def test_search_goes_back_when_a_literal_leads_nowhere() -> None:
    made = trie("/a/b/c", "/a/*/d", "/**/e/f")
    assert [made.find("GET", p) for p in ("/a/b/d", "/a/b/e/f", "/e/e/f", "/e/f/x")] == [
        "/a/*/d", "/**/e/f", "/**/e/f", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "segments", "verb"),
    [
        ("/", [], ""),
        ("/a/{x}", ["a", "*"], ""),
        ("/{x=a/*/b}/c", ["a", "*", "b", "c"], ""),
        ("/{a.b.c=**}", ["**"], ""),
        ("/a/{x}:v", ["a", "*"], "v"),
        ("/a:b/c", ["a:b", "c"], ""),
    ],
)
def test_template_is_parsed(template: str, segments: list[str], verb: str) -> None:
    assert parse_template(template) == (segments, verb)


@pytest.mark.parametrize(
    "template",
    ["a", "", "/a//b", "/a/", "/a*", "/***", "/**/*", "/**/{x}", "/{x=**}/**", "/{x", "/x}", "/{x={y}}", "/a{x}", "/{x}b",
     "/{x=}", "/{?q}", "/{term:1}", "/a:", "/" + "a/" * 200 + "b"],
)  # fmt: skip
def test_unusable_template_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(template)


@given(st.lists(st.sampled_from(["a", "b", "*", "**"]), max_size=5), st.lists(st.sampled_from("abc"), max_size=7))
def test_trie_agrees_with_a_slow_and_obvious_matcher(template: list[str], path: list[str]) -> None:
    def matches(pattern: list[str], segments: list[str]) -> bool:
        if not pattern:
            return not segments
        if pattern[0] == "**":
            return any(matches(pattern[1:], segments[n:]) for n in range(len(segments) + 1))
        return bool(segments) and pattern[0] in ("*", segments[0]) and matches(pattern[1:], segments[1:])

    text = "/" + "/".join(template)
    try:
        made = trie(text)
    except TemplateError:
        assert any("*" in segment for segment in template[template.index("**") + 1 :])
        return
    assert (made.find("GET", "/" + "/".join(path)) is not None) == matches(template, path)


def test_search_of_a_long_path_is_quick() -> None:
    made = trie(*("/" + "/".join("*" if n >> k & 1 else "a" for k in range(10)) + "/end" for n in range(1024)))
    assert made.find("GET", "/" + "a/" * 10 + "no") is None


def api(*specs: dict[str, Any]) -> HttpApi:
    found = []
    for data in specs:
        spec, faults = decode(HTTPAPISpec, data)
        assert spec is not None, faults
        found.append(spec)
    return HttpApi(found)


BOOKS = {
    "attributes": {"api.service": "books", "api.version": 1},
    "patterns": [
        {"httpMethod": "GET", "uriTemplate": "/books/{id}", "attributes": {"api.operation": "read", "a": "template"}},
        {"httpMethod": "GET", "regex": "/books/.*[?]full", "attributes": {"a": "full"}},
        {"httpMethod": "GET", "regex": "/books/.*", "attributes": {"b": "regex"}},
    ],
}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/books/1", {"api.operation": "read", "a": "template", "b": "regex"}),
        ("GET", "/books/1?full", {"api.operation": "read", "a": "full", "b": "regex"}),
        ("PUT", "/books/1", {}),
        ("GET", "/films/1", {}),
    ],
)
def test_one_template_and_every_expression_give_attributes(method: str, path: str, expected: dict[str, str]) -> None:
    found = api(BOOKS).attributes(MappingBag({"request.method": method, "request.path": path}))
    assert found == {"api.service": "books", "api.version": 1, **expected}


def test_specs_are_one_in_order() -> None:
    other = {"attributes": {"api.version": 2}, "patterns": [{"httpMethod": "GET", "uriTemplate": "/books/*"}]}
    made = api(BOOKS, other)
    assert made.attributes(MappingBag({}))["api.version"] == 2
    assert len(made.warnings) == 1
    assert made.names == {"api.service", "api.version", "api.operation", "a", "b", "request.api_key"}


@pytest.mark.parametrize(
    ("keys", "bag", "expected"),
    [
        ([], {"request.query_params": {"key": "1", "api_key": "2"}}, "1"),
        ([], {"request.query_params": {"api_key": "2"}, "request.headers": {"x-api-key": "3"}}, "2"),
        ([], {"request.headers": {"x-api-key": "3"}}, "3"),
        ([], {"request.headers": {"key": "3"}}, None),
        ([{"header": "X-Key"}], {"request.headers": {"x-key": "4", "x-api-key": "3"}}, "4"),
        ([{"header": "X-Key"}], {"request.headers": {"x-api-key": "3"}}, None),
        ([{"cookie": "k"}], {"request.headers": {"cookie": 'a=b; k="5"; c'}}, "5"),
        ([{"cookie": "k"}], {"request.headers": {}}, None),
        ([{"cookie": "k"}, {"query": "q"}], {"request.query_params": {"q": "6"}, "request.headers": {"cookie": "k"}}, "6"),
        ([], {"request.query_params": "key", "request.headers": 1}, None),
    ],
)  # fmt: skip
def test_first_api_key_that_is_there_is_taken(
    keys: list[dict[str, str]], bag: dict[str, Any], expected: str | None
) -> None:
    spec = {"patterns": [{"httpMethod": "GET", "uriTemplate": "/"}], "apiKeys": keys}
    for made in [api(spec)] + ([HttpApi()] if not keys else []):
        assert made.attributes(MappingBag(bag)).get("request.api_key") == expected


@pytest.mark.parametrize("key", [{}, {"query": "a", "header": "b"}, {"query": ""}])
def test_api_key_is_in_one_place(key: dict[str, str]) -> None:
    spec = {"patterns": [{"httpMethod": "GET", "uriTemplate": "/"}], "apiKeys": [key]}
    found = Resource(ResourceKey("HTTPAPISpec", "ns", "a"), spec)
    _, (problem,) = SpecIndex.build([found])
    assert problem.field.startswith("spec.apiKeys[0]")


def test_template_that_is_left_out_is_a_warning() -> None:
    patterns = [{"httpMethod": "GET", "uriTemplate": t} for t in ("/a/{x}", "/a/*", "/a/{?x}")]
    _, problems = SpecIndex.build([Resource(ResourceKey("HTTPAPISpec", "ns", "a"), {"patterns": patterns})])
    assert [(p.severity, p.field, p.message.split(":")[0]) for p in problems] == [
        (Severity.WARNING, "spec.patterns", "GET /a/*"),
        (Severity.WARNING, "spec.patterns", "GET /a/{?x}"),
    ]
