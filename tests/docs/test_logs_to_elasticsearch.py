"""The files of the fluentd sample agree with each other, with the task, and with what Mixer sends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import yaml

from mixer.adapters.fluentd import INFO
from mixer.attributes import Duration
from tests.adapters.spans.mesh import report, request
from tests.docs.elasticsearch import found, misfits
from tests.docs.fluentd import ConfigError, Document, Section, document, entries, fits, parse
from tests.docs.transcript import ROOT, blocks

SAMPLE = ROOT / "config/samples/fluentd"
TEMPLATE = json.loads((SAMPLE / "index-template.json").read_text())
PROPERTIES = TEMPLATE["template"]["mappings"]["properties"]
PAGE = (ROOT / "docs/tasks/logs-to-elasticsearch.md").read_text()
SEARCHES = [block.text.strip() for block in blocks(PAGE) if block.language == "kql"]
ADDED = {"@timestamp", "tag"}
"""Fields that Fluentd adds."""

_KQL_TERM = re.compile(r"([\w@.]+) *(:|>=|<=|>|<) *(\S+)")


@pytest.fixture
def config() -> Section:
    return parse((SAMPLE / "fluent.conf").read_text())


@pytest.fixture
def output(config: Section) -> Section:
    (match,) = config.under("match")
    return match


class Receiver:
    """Takes one message after the other and acknowledges each."""

    def __init__(self) -> None:
        self.messages: list[list[Any]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = msgpack.Unpacker()
        while data := await reader.read(1 << 16):
            unpacker.feed(data)
            for message in unpacker:
                self.messages.append(message)
                writer.write(msgpack.packb({"ack": message[2]["chunk"]}))
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    yield receiver
    server.close()
    await server.wait_closed()


@pytest.fixture
def indexed(receiver: Receiver, output: Section, tmp_path: Path):  # type: ignore[no-untyped-def]
    """What Elasticsearch would get for some requests, in order."""

    async def indexed(*requests: dict[str, Any]) -> list[Document]:
        objects = (SAMPLE / "fluentd-requests.yaml").read_text()
        assert "address: localhost:24224" in objects
        objects = objects.replace("localhost:24224", f"127.0.0.1:{receiver.port}")
        assert await report(tmp_path, INFO, objects, *requests) == []
        for message in receiver.messages:
            assert fits(output.argument, message[0])
        return [document(output, m[0], time, record) for m in receiver.messages for time, record in entries(m)]

    return indexed


def to_query(kql: str) -> str:
    """A search of the page in Elasticsearch's notation; no more of KQL than the page has."""
    terms = []
    for part in kql.split(" and "):
        term = _KQL_TERM.fullmatch(part.removeprefix("not "))
        assert term is not None, part
        terms.append(
            ("NOT " if part.startswith("not ") else "") + f"{term[1]}:{term[2] if term[2] != ':' else ''}{term[3]}"
        )
    return " AND ".join(terms)


FULL = {
    "source__labels": {"app": "productpage"},
    "destination__labels": {"app": "reviews"},
    "context__reporter__kind": "outbound",
    "request__id": "a1",
    "request__headers": {"end-user": "jason"},
    "context__proxy_error_code": "UH",
    "response__code": 503,
    "response__size": 1 << 40,
    "response__duration": Duration.parse("1500ms"),
}


async def test_every_field_has_the_type_of_the_template_and_no_type_is_left_over(indexed: Any) -> None:
    bare = dict.fromkeys(("request__method", "request__path", "response__code"))
    full, empty = await indexed(request(**FULL), request(**bare))

    for made in (full, empty):
        assert misfits(made.source, PROPERTIES) == []
        assert made.source.keys() == PROPERTIES.keys()
    assert full.source["latency"] == 1500
    assert full.source["tag"] == "newlog.instance.istio-system"
    assert full.source["@timestamp"] == "2026-01-31T12:00:00.000000000+00:00"
    assert full.index == "mixer-2026.01.31"
    assert all(re.fullmatch(p.replace("*", ".*"), full.index) for p in TEMPLATE["index_patterns"])


@pytest.mark.parametrize(
    ("code", "severity"), [(200, "info"), (302, "info"), (404, "warning"), (499, "warning"), (500, "error")]
)
async def test_severity_follows_the_code(indexed: Any, code: int, severity: str) -> None:
    (made,) = await indexed(request(response__code=code))

    assert made.source["severity"] == severity


async def test_each_search_of_the_page_finds_what_it_says(indexed: Any) -> None:
    requests = {
        "failed": {**FULL, "destination__labels": {"app": "ratings"}, "request__headers": {}},
        "slow": {**FULL, "response__code": 200},
        "jason": {**FULL, "response__code": 404, "response__duration": Duration.parse("1s")},
        "fine": {**FULL, "response__code": 200, "response__duration": Duration.parse("5ms")},
    }
    made = await indexed(*(request(**{**given, "request__id": name}) for name, given in requests.items()))

    searches = [to_query(kql) for kql in SEARCHES]
    results = [{d.source["requestId"] for d in made if found(search, d.source)} for search in searches]

    assert results == [{"failed"}, {"slow"}, {"jason"}]


def test_searches_name_fields_that_are_there() -> None:
    named = {name for kql in SEARCHES for name, _, _ in _KQL_TERM.findall(kql)}

    assert named <= PROPERTIES.keys()
    assert len(SEARCHES) == 3


def test_fields_are_the_variables_of_the_instance_with_severity() -> None:
    (instance,) = (
        each
        for each in yaml.safe_load_all((SAMPLE / "fluentd-requests.yaml").read_text())
        if each["kind"] == "instance"
    )

    assert PROPERTIES.keys() - ADDED - {"severity"} == instance["spec"]["params"]["variables"].keys()


def test_fluentd_listens_where_the_handler_sends(config: Section) -> None:
    (source,) = config.under("source")

    assert source.plugin == "forward"
    assert source.settings["port"] == "24224"
    assert not source.sections  # <security> would ask the adapter to log in
    assert [each.argument for each in config.under("filter")] == [config.under("match")[0].argument]


def test_what_is_acknowledged_is_on_disk_and_ids_do_not_stay(config: Section, output: Section) -> None:
    (buffer,) = output.under("buffer")
    (ids,) = config.under("filter")

    assert (buffer.plugin, buffer.argument, buffer.settings["retry_forever"]) == ("file", "tag", "true")
    assert ids.settings["hash_id_key"] == output.settings["id_key"] == output.settings["remove_keys"]
    assert (SAMPLE / output.settings["template_file"]).exists()


def test_containers_are_on_the_ports_of_the_configuration(output: Section) -> None:
    (compose,) = (yaml.safe_load(block.text) for block in blocks(PAGE) if block.info == "compose.yaml")
    services = compose["services"]

    assert services["elasticsearch"]["ports"] == [f"127.0.0.1:{output.settings['port']}:9200"]
    assert services["fluentd"]["network_mode"] == "host"
    assert services["fluentd"]["command"] == ["fluentd", "-c", "fluent.conf"]
    versions = {services[name]["image"].rpartition(":")[2] for name in ("elasticsearch", "kibana")}
    assert len(versions) == 1
    assert f"elasticsearch -v {versions.pop()}" in services["fluentd"]["build"]["dockerfile_inline"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<source>\n@type forward\n", "<source> is not closed"),
        ("<source>\n</match>", "line 2: </match> closes nothing"),
        ("port 24224", "line 1: port 24224 is neither a section nor a setting"),
        ("<source>\n@type tail\n</source>", "<source> of @type 'tail' is unknown"),
        ("<source>\n@type forward\nport http\n</source>", "source/forward: port http is no setting of it"),
        ("<source>\n@type forward\nprot 1\n</source>", "source/forward: prot 1 is no setting of it"),
        ("<source>\n@type forward\nport 1\nport 2\n</source>", "line 4: port is there twice"),
    ],
)
def test_configuration_that_fluentd_would_refuse_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(fault)):
        parse(text)


@pytest.mark.parametrize(
    ("pattern", "tag", "expected"),
    [
        ("*.instance.*", "newlog.instance.istio-system", True),
        ("*.instance.*", "newlog.instance.istio-system.more", False),
        ("*.instance.*", "instance.istio-system", False),
        ("a.**", "a", True),
        ("a.**", "a.b.c", True),
        ("**", "anything.at.all", True),
        ("x a.*", "a.b", True),
        ("a.*", "ab", False),
    ],
)
def test_patterns_match_tags_as_in_fluentd(pattern: str, tag: str, expected: bool) -> None:
    assert fits(pattern, tag) is expected


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ({"responseCode": 200, "latency": 5}, []),
        ({"responseCode": "200"}, ["responseCode"]),
        ({"responseCode": 70_000}, ["responseCode"]),
        ({"latency": "5ms"}, ["latency"]),
        ({"latency": True}, ["latency"]),
        ({"path": 5}, ["path"]),
        ({"unheard": "of"}, ["unheard"]),
        ({"@timestamp": "today"}, ["@timestamp"]),
    ],
)
def test_stand_in_refuses_other_types_than_the_templates(source: dict[str, Any], wrong: list[str]) -> None:
    assert misfits(source, PROPERTIES) == wrong


def test_stand_in_refuses_queries_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="is no term"):
        found("a OR b", {})
