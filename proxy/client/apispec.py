"""HTTPAPISpec: attributes and the key of the API that a request calls.

Proxies of 1.4 ignore it; ours gives quotas something to match. Attributes of a spec as such are added to every
request, as in 1.3, not only to those that match a pattern.

Source: spec proxy 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, NamedTuple

from pydantic import model_validator

from mixer.attributes import AttributeBag, AttributeValue
from mixer.store.protojson import ProtoModel, bad_value
from proxy.client.patterns import AtLeastOne, FullMatch, NotEmpty, Pattern, compile_full_match
from proxy.client.templates import TemplateError, TemplateTrie
from proxy.client.values import NOTHING, AttributesField, AttributeValues

API_KEY: Final = "request.api_key"


class HTTPAPISpecPattern(ProtoModel):
    """Attributes for requests of one method and a path that matches."""

    attributes: AttributesField = NOTHING
    http_method: NotEmpty
    uri_template: NotEmpty | None = None
    regex: Pattern | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> HTTPAPISpecPattern:
        if (self.uri_template is None) == (self.regex is None):
            raise bad_value("a pattern matches by a template or by an expression", "one of uriTemplate, regex")
        return self


class APIKey(ProtoModel):
    """Where a key may be."""

    query: NotEmpty | None = None
    header: NotEmpty | None = None
    cookie: NotEmpty | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> APIKey:
        if sum(kind is not None for kind in (self.query, self.header, self.cookie)) != 1:
            raise bad_value("a key is in one place", "one of query, header, cookie")
        return self


class HTTPAPISpec(ProtoModel):
    """Patterns of an API, and where its keys are."""

    attributes: AttributesField = NOTHING
    patterns: Annotated[list[HTTPAPISpecPattern], AtLeastOne]
    api_keys: list[APIKey] = []


_DEFAULT_KEYS: Final = (APIKey(query="key"), APIKey(query="api_key"), APIKey(header="x-api-key"))


class _Regex(NamedTuple):
    method: str
    matches: FullMatch
    attributes: AttributeValues


class HttpApi:
    """Specs made ready to be asked, as if they were one.

    ``names`` are all attributes that it can give; ``warnings`` tell of templates that were left out.
    """

    __slots__ = ("_always", "_keys", "_regexes", "_trie", "names", "warnings")

    def __init__(self, specs: Iterable[HTTPAPISpec] = ()) -> None:
        always: dict[str, AttributeValue] = {}
        keys: list[APIKey] = []
        regexes: list[_Regex] = []
        warnings: list[str] = []
        names = {API_KEY}
        self._trie: TemplateTrie[AttributeValues] = TemplateTrie()
        for spec in specs:
            always.update(spec.attributes)
            keys += spec.api_keys
            for pattern in spec.patterns:
                names.update(pattern.attributes)
                if pattern.regex is not None:
                    matches = compile_full_match(pattern.regex)
                    regexes.append(_Regex(pattern.http_method, matches, pattern.attributes))
                elif pattern.uri_template is not None:
                    try:
                        self._trie.add(pattern.http_method, pattern.uri_template, pattern.attributes)
                    except TemplateError as exc:
                        warnings.append(f"{pattern.http_method} {pattern.uri_template}: {exc}")
        self._always: Final = always
        self._keys: Final = tuple(keys) or _DEFAULT_KEYS
        self._regexes: Final = tuple(regexes)
        self.names: Final = frozenset(names | always.keys())
        self.warnings: Final = tuple(warnings)

    def attributes(self, bag: AttributeBag) -> dict[str, AttributeValue]:
        """What a request's method, path, headers and query say by the specs; later patterns overwrite."""
        found = dict(self._always)
        method, path = bag.peek("request.method"), bag.peek("request.path")
        if isinstance(method, str) and isinstance(path, str):
            matched = self._trie.find(method, path)
            if matched is not None:
                found.update(matched)
            for regex in self._regexes:
                if regex.method == method and regex.matches(path):
                    found.update(regex.attributes)
        key = self._key(bag)
        if key:
            found[API_KEY] = key
        return found

    def _key(self, bag: AttributeBag) -> str:
        query, headers = bag.peek("request.query_params"), bag.peek("request.headers")
        for place in self._keys:
            found: str | None = None
            if place.query is not None:
                found = query.get(place.query) if isinstance(query, Mapping) else None
            elif isinstance(headers, Mapping):
                if place.header is not None:
                    found = headers.get(place.header.lower())
                elif place.cookie is not None:
                    found = _cookie(headers.get("cookie", ""), place.cookie)
            if found:
                return found
        return ""


def _cookie(header: str, name: str) -> str | None:
    for part in header.split(";"):
        key, separator, value = part.strip().partition("=")
        if separator and key == name:
            return value.strip('"')
    return None
