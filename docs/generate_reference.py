"""Writes the tables of docs/reference from the code, so that the reference is what the code does.

    python -m docs.generate_reference [--check]

A page keeps its prose; what stands between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->`` is written anew.
``--check`` writes nothing and exits 1 when a page is out of date.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import importlib
import json
import re
import sys
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin

import click
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mixer.adapters.base import AdapterInfo
from mixer.adapters.fluentd.ledger import FluentdMetrics
from mixer.adapters.keychecker.handler import KeyMetrics
from mixer.adapters.kubernetesenv.handler import KubernetesEnvMetrics
from mixer.adapters.opa.ledger import OpaMetrics
from mixer.adapters.prometheus.definitions import Definition
from mixer.adapters.prometheus.exposition import families
from mixer.adapters.prometheus.params import MetricKind
from mixer.adapters.prometheus.series import new_series
from mixer.adapters.rbac.handler import RbacMetrics
from mixer.adapters.redisquota.ledger import RedisQuotaMetrics
from mixer.adapters.remote.backend import RemoteMetrics
from mixer.adapters.servicegraph.handler import GraphMetrics
from mixer.adapters.spans.ledger import SpanMetrics
from mixer.adapters.statsd.ledger import StatsdMetrics
from mixer.adapters.testing import FakeClock, RecordingEnv
from mixer.attributes import Duration, ValueType
from mixer.cli.agent import RemoteCollector
from mixer.cli.mixc import main as mixc
from mixer.cli.mixproxy import main as mixproxy
from mixer.cli.mixs import main as mixs
from mixer.expr.functions import FUNCTIONS, Function, Generic
from mixer.expr.jsonform import evaluate_case
from mixer.runtime.metrics import RuntimeMetrics
from mixer.templates import TEMPLATES, Field, Template, Variety
from proxy.client import HttpClientConfig, SidecarClient, TcpClientConfig
from proxy.client.remote import RemoteMixer, RemoteOptions
from proxy.envoy.access_log import AccessLogMetrics
from proxy.envoy.check_bag import HTTP_SOURCES, TCP_SOURCES, Source
from proxy.envoy.metrics import PolicyMetrics
from proxy.envoy.otlp import OtlpMetrics
from proxy.envoy.values import WELL_KNOWN
from proxy.middleware.metrics import MiddlewareMetrics

ROOT: Final = Path(__file__).parents[1]
REFERENCE: Final = ROOT / "docs" / "reference"

Row = Iterable[str]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def code(text: object) -> str:
    """Text as code."""
    plain = str(text).replace("\n", " ")
    return f"`` {plain} ``" if "`" in plain else f"`{plain}`"


def prose(text: str | None) -> str:
    """A docstring in one line of Markdown; paragraphs are parted by a break."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "<br>".join(re.sub(r"\s+", " ", p).replace("``", "`") for p in paragraphs)


# Adapters


def adapters() -> list[AdapterInfo]:
    """Every adapter of this repository, whatever happens to be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = (target.split(":") for target in project["entry-points"]["mixer.adapters"].values())
    infos = [getattr(importlib.import_module(module), name) for module, name in targets]
    return sorted(infos, key=lambda info: info.name)


def adapter_index() -> str:
    """Which adapter takes which templates."""
    rows = ([f"[{i.name}](#{i.name})", ", ".join(t.name for t in i.templates), i.description] for i in adapters())
    return table(("adapter", "templates", "what it does"), rows)


def adapter_params() -> str:
    """The params of each adapter."""
    parts = []
    for info in adapters():
        parts.append(f"## {info.name}\n\n{info.description} Takes {', '.join(code(t.name) for t in info.templates)}.")
        if not info.params.model_fields:
            parts.append("It has no params.")
            continue
        for path, model in models(info.params, "params"):
            heading = f"### {info.name}: `{path}`\n\n" if path != "params" else ""
            about = "" if path == "params" else f"{prose(model.__doc__)}\n\n"
            fields = (field_row(field, name) for name, field in model.model_fields.items())
            parts.append(heading + about + table(("field", "type", "default", "what it does"), fields))
    return "\n\n".join(parts)


def models(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """A model and those within it, with the path of each."""
    yield path, model
    for name, field in model.model_fields.items():
        inner, suffix = nested(field.annotation)
        if inner is not None:
            yield from models(inner, f"{path}.{field.alias or name}{suffix}")


def nested(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model that a field holds, and how its path shows that there are many."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    many = "[]" if get_origin(annotation) in (list, tuple) else ""
    for argument in get_args(annotation):
        inner, suffix = nested(argument)
        if inner is not None:
            return inner, many + suffix
    return None, ""


def field_row(field: FieldInfo, name: str) -> Row:
    """One field of a params model."""
    return code(field.alias or name), type_name(field.annotation), default_text(field), prose(field.description)


_NAMES: Final = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    Duration: "duration",
    Any: "anything",
}


def type_name(annotation: Any) -> str:
    """A type in the words of YAML."""
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (list, tuple):
        return f"list of {plural(type_name(arguments[0]))}"
    if origin in (dict, Mapping):
        return f"map of text to {type_name(arguments[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments if argument is not type(None))
    if origin is not None:  # Annotated
        return type_name(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(code(member) for member in annotation.__members__)
    return "object"


def plural(name: str) -> str:
    """The plural of a type's name."""
    return {"text": "texts", "object": "objects", "whole number": "whole numbers", "number": "numbers"}.get(name, name)


def default_text(field: FieldInfo) -> str:
    """What a field is when it is not written."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "unset"
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, enum.Enum):
        declared = isinstance(field.annotation, type) and issubclass(field.annotation, enum.Enum)
        return code(value.name if declared else int(value.value))
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, Mapping) and len(value) > 3:
        return f"{len(value)} entries"
    return {"": '`""`', "[]": "`[]`", "{}": "`{}`"}.get(str(value), code(value))


# Templates

_VARIETIES: Final = {
    Variety.CHECK: "check",
    Variety.REPORT: "report",
    Variety.QUOTA: "quota",
    Variety.ATTRIBUTE_GENERATOR: "attribute generator",
}


def template_index() -> str:
    """All templates."""

    def takers(template: Template) -> str:
        names = (f"[{i.name}](adapters.md#{i.name})" for i in adapters() if template in i.templates)
        return ", ".join(names) or "none yet"

    rows = ([f"[{t.name}](#{t.name})", _VARIETIES[t.variety], takers(t)] for t in TEMPLATES.values())
    return table(("template", "variety", "adapters that take it"), rows)


def template_fields() -> str:
    """The fields of each template."""
    parts = []
    for template in TEMPLATES.values():
        about = prose((sys.modules[template.instance_type.__module__].__doc__ or "").split("\n")[0])
        parts.append(f"## {template.name}\n\n{_about(about, template.name)}")
        rows = list(_field_rows(template.fields))
        parts.append(table(("field", "type of the expression"), rows) if rows else "It has no fields.")
        if template.outputs:
            parts.append("Outputs, which attribute bindings read as `$out.NAME`:")
            parts.append(table(("output", "type"), ([code(n), t.name] for n, t in template.outputs.items())))
    return "\n\n".join(parts)


def _about(text: str, name: str) -> str:
    text = re.sub(r"\s*Source: .*", "", text)
    text = re.sub(rf"^[\w ]*\b{name}\b[\w ]*: ", "", text)
    return text[:1].upper() + text[1:]


def _field_rows(fields: Iterable[Field], prefix: str = "") -> Iterator[Row]:
    for field in fields:
        name = prefix + field.title[:1].lower() + field.title[1:]
        if field.fields:
            yield from _field_rows(field.fields, f"{name}.")
            continue
        kind = "any" if field.type is None else field.type.name
        yield code(name), f"map of text to expressions, {kind}" if field.is_map else kind


# Expressions

_FUNCTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "EQ": ("a == b", "Equal. DNS names, e-mail addresses and URIs compare by their own rules, see below."),
    "NEQ": ("a != b", "Not equal."),
    "LT": ("a < b", "Less. Texts compare by bytes; maps have no order."),
    "LEQ": ("a <= b", "Less or equal."),
    "GT": ("a > b", "Greater."),
    "GEQ": ("a >= b", "Greater or equal."),
    "LAND": ("a && b", "And; `b` is not looked at when `a` is false."),
    "LOR": ("a || b", "Or; `b` is not looked at when `a` is true."),
    "OR": ("a | b", "`a` if it is there, else `b`. Binds like `+`, tighter than `==`."),
    "INDEX": ("m[k]", 'The value of a key; without `|` a missing key gives `""`.'),
    "ADD": (
        "a + b",
        "Sum or concatenation: texts (also DNS names, e-mail addresses, URIs), INT64 and DURATION "
        "(both wrap at 64 bits), DOUBLE.",
    ),
    "size": ("size(s)", "Length in bytes of UTF-8."),
    "conditional": ("conditional(c, a, b)", "`a` if `c` holds, else `b`; the other one is not looked at."),
    "conditionalString": ("conditionalString(c, a, b)", "The same for texts, but both are evaluated."),
    "match": (
        "match(s, p)",
        "`s` equals `p`; or starts, or ends, with what a `*` at the end, or the start, of `p` leaves.",
    ),
    "matches": ("p.matches(s)", "The RE2 pattern `p` matches anywhere in `s`. The pattern is the receiver."),
    "startsWith": ("s.startsWith(t)", "`s` starts with `t`."),
    "endsWith": ("s.endsWith(t)", "`s` ends with `t`."),
    "toLower": ("toLower(s)", "Small letters, one for one."),
    "ip": ("ip(s)", "An IPv4 or IPv6 address."),
    "timestamp": ("timestamp(s)", "An instant in RFC 3339."),
    "dnsName": ("dnsName(s)", "A DNS name; labels are checked, Punycode is decoded."),
    "email": ("email(s)", "An e-mail address without a display name."),
    "uri": ("uri(s)", "A URI or relative reference."),
    "emptyStringMap": ("emptyStringMap()", "A map with nothing in it."),
}


def functions() -> str:
    """The table of functions; a new function without a description here is a KeyError."""
    rows = ([code(_FUNCTIONS[f.name][0]), signature(f), _FUNCTIONS[f.name][1]] for f in FUNCTIONS.values())
    return table(("write", "types", "meaning"), rows)


def signature(function: Function) -> str:
    """The types that a function takes and gives; T is one type, the same at each place."""

    def name(kind: ValueType | Generic) -> str:
        return kind.name

    receiver = f"{function.receiver.name}." if function.receiver else ""
    return code(f"{receiver}({', '.join(map(name, function.params))}) -> {name(function.returns)}")


_EXAMPLES: Final = (
    'source.labels["app"] | "unknown"',
    'source.labels["zone"] | "unknown"',
    'source.labels["zone"]',
    'destination.service.host.endsWith(".local") && response.code >= 500',
    'request.path.startsWith("/api/") || match(request.path, "*.html")',
    '"^/api/v[0-9]+/".matches(request.path)',
    'conditional(response.code >= 500, "bad", "good")',
    '(request.headers["cookie"] | "").startsWith("session=")',
    'response.duration > "100ms"',
    'response.duration + "750ms"',
    'source.ip == ip("10.0.0.1")',
    'request.time < timestamp("2026-02-01T00:00:00Z")',
    "response.code",
    "request.size | 0",
    "request.size",
    '"status " + response.code',
    'request.path == "/" | true',
    "request.pth",
)
_BAG: Final[Mapping[str, Mapping[str, object]]] = {
    "source.labels": {"type": "STRING_MAP", "value": {"app": "cart", "version": "v2"}},
    "source.ip": {"type": "IP_ADDRESS", "value": "10.0.0.1"},
    "destination.service.host": {"type": "STRING", "value": "pay.shop.svc.cluster.local"},
    "request.path": {"type": "STRING", "value": "/api/v1/pay"},
    "request.headers": {"type": "STRING_MAP", "value": {"user-agent": "curl"}},
    "request.time": {"type": "TIMESTAMP", "value": "2026-01-31T12:00:00Z"},
    "response.code": {"type": "INT64", "value": 503},
    "response.duration": {"type": "DURATION", "value": "1.25s"},
}


def example_bag() -> str:
    """The attributes of the examples."""
    rows = [[code(n), str(a["type"]), code(json.dumps(a["value"]))] for n, a in _BAG.items()]
    return table(("attribute", "type", "value"), [*rows, ["`request.size`", "INT64", "absent"]])


def examples() -> str:
    """What expressions give, by asking the very code that evaluates them."""
    vocabulary = {name: str(attribute["type"]) for name, attribute in _BAG.items()} | {"request.size": "INT64"}
    rows = []
    for expression in _EXAMPLES:
        result = evaluate_case({"expr": expression, "attrs": _BAG, "vocab": vocabulary}, None)
        if "compile_error" in result:
            outcome = f"does not compile: {result['compile_error']}"
        elif "error" in result:
            outcome = f"fails: {result['error']}"
        else:
            outcome = f"{result['type']} {code(json.dumps(result['value']))}"
        rows.append([code(expression), outcome, ", ".join(map(str, result.get("referenced", ())))])
    return table(("expression", "result", "referenced"), rows)


# Metrics and commands


def metric_rows(metrics: Iterable[object]) -> Iterator[Row]:
    """One row for each metric of prometheus_client."""
    for metric in metrics:
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            suffix = "_total" if family.type == "counter" else ""
            labels = ", ".join(map(code, metric._labelnames))
            yield code(family.name + suffix), family.type, labels, family.documentation


_METRIC_HEAD: Final = ("metric", "type", "labels", "meaning")


def self_metrics() -> str:
    """Mixer's metrics of itself."""
    return table(_METRIC_HEAD, metric_rows(vars(RuntimeMetrics()).values()))


def _metrics_made_by(make: Callable[[RecordingEnv], object]) -> str:
    """What an adapter registers when it makes its metrics."""
    env = RecordingEnv(FakeClock())
    made = make(env)
    rows = metric_rows(env.metrics._collector_to_names)
    del made  # some unregister when they go
    return table(_METRIC_HEAD, rows)


_ADAPTER_METRICS: Final[Mapping[str, Callable[[RecordingEnv], object]]] = {
    "fluentd": lambda env: FluentdMetrics(env.metrics),
    "redisquota": lambda env: RedisQuotaMetrics(env.metrics),
    "otlp and zipkin": lambda env: [SpanMetrics(name, env) for name in ("otlp", "zipkin")],
    "statsd and dogstatsd": lambda env: [StatsdMetrics(name, env) for name in ("statsd", "dogstatsd")],
    "rbac": RbacMetrics,
    "opa": OpaMetrics,
    "keychecker": KeyMetrics,
    "kubernetesenv": KubernetesEnvMetrics,
    "servicegraph": GraphMetrics,
    "adapters in other processes": lambda env: RemoteMetrics(env.metrics),
}
_NOTES: Final[Mapping[str, str]] = {
    "fluentd": "For each handler, at any time: accepted + recovered = delivered + dropped + left in the spool + buffered.",
    "otlp and zipkin": "For each handler, at any time: accepted = skipped + delivered + dropped + buffered.",
    "statsd and dogstatsd": "For each handler, at any time: accepted = unsampled + sent + dropped + buffered.",
}


def adapter_metrics() -> str:
    """Those of the adapters, one section each."""
    parts = []
    for name, make in _ADAPTER_METRICS.items():
        note = f"{_NOTES[name]}\n\n" if name in _NOTES else ""
        parts.append(f"## Of {name}\n\n{note}{_metrics_made_by(make)}")
    return "\n\n".join(parts)


def envoy_metrics() -> str:
    """Those of Envoy's services, in mixs and in mixproxy."""
    registry = CollectorRegistry()
    made = [PolicyMetrics(registry), AccessLogMetrics(registry), OtlpMetrics(registry)]
    return table(_METRIC_HEAD, (row for each in made for row in metric_rows(vars(each).values())))


def middleware_metrics() -> str:
    """Those of the middleware of Python services."""
    return table(_METRIC_HEAD, metric_rows(vars(MiddlewareMetrics(CollectorRegistry())).values()))


def mixproxy_metrics() -> str:
    """Those of the sidecar client and of its delivery, as a new mixproxy shows them."""

    async def families() -> list[Metric]:
        registry = CollectorRegistry()
        remote = RemoteMixer(RemoteOptions("127.0.0.1:1"))
        registry.register(RemoteCollector(remote))
        client = SidecarClient(remote, HttpClientConfig(), TcpClientConfig(), registry=registry)
        try:
            return list(registry.collect())
        finally:
            await client.aclose()
            await remote.aclose()

    rows = []
    for family in asyncio.run(families()):
        suffix = "_total" if family.type == "counter" else ""
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
        rows.append([code(family.name + suffix), family.type, ", ".join(map(code, labels)), family.documentation])
    return table(_METRIC_HEAD, rows)


def prometheus_metrics() -> str:
    """Those of the prometheus adapter."""
    definition = Definition(name="example", help="", kind=MetricKind.COUNTER)
    rows = (
        [code(sample.name), family.type, ", ".join(map(code, sample.labels)), family.documentation]
        for family in families([new_series(definition)])
        for sample in family.samples
    )
    return table(_METRIC_HEAD, rows)


def commands() -> str:
    """The help of every command."""
    parts = []
    for name, group in (("mixs", mixs), ("mixproxy", mixproxy), ("mixc", mixc)):
        top = click.Context(group, info_name=name, **_WIDE)
        parts.append(f"## {name}\n\n```text\n{group.get_help(top)}\n```")
        for sub in sorted(group.list_commands(top)):
            command = group.get_command(top, sub)
            if command is None or command.hidden:
                continue
            context = click.Context(command, info_name=sub, parent=top, **_WIDE)
            parts.append(f"### {name} {sub}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts)


_WIDE: Final[dict[str, Any]] = {
    "terminal_width": 110,
    "max_content_width": 110,
    "help_option_names": ["-h", "--help"],
}

# Envoy


def envoy_requests() -> str:
    """Where each attribute of a request comes from."""
    return _envoy_sources(HTTP_SOURCES, http_form=True)


def envoy_connections() -> str:
    """Where each attribute of a connection comes from."""
    return _envoy_sources(TCP_SOURCES, http_form=False)


def _envoy_sources(sources: Mapping[str, Source], *, http_form: bool) -> str:
    head = ("attribute", "type", "`CheckRequest`", *(("HTTP form",) if http_form else ()))
    rows = (
        (code(name), source.type.name, source.grpc, *((source.http or "–",) if http_form else ()))
        for name, source in sources.items()
    )
    return table(head, rows)


def envoy_names() -> str:
    """Names whose texts are not strings."""
    kinds = sorted(set(WELL_KNOWN.values()))
    rows = ((kind, ", ".join(code(name) for name in sorted(WELL_KNOWN) if WELL_KNOWN[name] == kind)) for kind in kinds)
    return table(("type", "names"), rows)


SECTIONS: Final[Mapping[str, Callable[[], str]]] = {
    "adapter index": adapter_index,
    "adapter params": adapter_params,
    "template index": template_index,
    "template fields": template_fields,
    "functions": functions,
    "example attributes": example_bag,
    "examples": examples,
    "self metrics": self_metrics,
    "adapter metrics": adapter_metrics,
    "envoy metrics": envoy_metrics,
    "mixproxy metrics": mixproxy_metrics,
    "middleware metrics": middleware_metrics,
    "prometheus metrics": prometheus_metrics,
    "commands": commands,
    "envoy requests": envoy_requests,
    "envoy connections": envoy_connections,
    "envoy names": envoy_names,
}

_SECTION: Final = re.compile(r"(<!-- begin: ([a-z ]+) -->\n)(?:.*?\n)?(<!-- end: \2 -->)", re.DOTALL)


def generated(page: str) -> str:
    """A page with its generated parts written anew; a part of an unknown name is a KeyError."""
    return _SECTION.sub(lambda m: f"{m[1]}\n{SECTIONS[m[2]]()}\n\n{m[3]}", page)


def pages() -> list[Path]:
    """All pages of the reference."""
    return sorted(REFERENCE.glob("*.md"))


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is out of date")
    args = parser.parse_args()
    stale = [page for page in pages() if generated(page.read_text()) != page.read_text()]
    for page in stale:
        print(f"{page.relative_to(ROOT)} {'is out of date; run make docs' if args.check else 'written'}")
        if not args.check:
            page.write_text(generated(page.read_text()))
    sys.exit(1 if args.check and stale else 0)


if __name__ == "__main__":
    main()
