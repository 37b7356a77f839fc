"""Stands in for Fluentd where there is none: reads a ``fluent.conf``, takes Forward messages, fills Elasticsearch.

``python -m tests.docs.fluentd -c fluent.conf`` does what Fluentd with its plugin ``elasticsearch`` does with the
plugins and settings below, and refuses a configuration that has any other, so that none is passed over in silence.
Settings whose effect cannot be seen from outside (how chunks are cut and when they are tried again) are checked and
have none. Names and types of settings follow the sources of Fluentd 1.17 and fluent-plugin-elasticsearch 5.4.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgpack

_TEXT = r".+"
_BOOL = r"true|false"
_NUMBER = r"\d+"
_SIZE = r"\d+[kmg]?"
_TIME = r"\d+[smhd]?"
SETTINGS: dict[str, dict[str, str]] = {
    "source/forward": {"bind": _TEXT, "port": _NUMBER},
    "filter/elasticsearch_genid": {"hash_id_key": _TEXT},
    "match/file": {"path": _TEXT},
    "match/elasticsearch": {
        "host": _TEXT,
        "port": _NUMBER,
        "scheme": "https?",
        "logstash_format": _BOOL,
        "logstash_prefix": _TEXT,
        "time_precision": "[0-9]",
        "include_tag_key": _BOOL,
        "tag_key": _TEXT,
        "id_key": _TEXT,
        "remove_keys": _TEXT,
        "template_name": _TEXT,
        "template_file": _TEXT,
        "template_overwrite": _BOOL,
        "use_legacy_template": _BOOL,
    },
    "buffer/file": {
        "path": _TEXT,
        "flush_mode": "default|lazy|interval|immediate",
        "flush_interval": _TIME,
        "flush_thread_count": _NUMBER,
        "chunk_limit_size": _SIZE,
        "total_limit_size": _SIZE,
        "retry_type": "exponential_backoff|periodic",
        "retry_max_interval": _TIME,
        "retry_forever": _BOOL,
        "overflow_action": "throw_exception|block|drop_oldest_chunk",
    },
}
"""What is understood: section and plugin -> setting -> the form of its value."""

_OPEN, _CLOSE, _SETTING = re.compile(r"<(\w+)(?:\s+(\S.*?))?>"), re.compile(r"</(\w+)>"), re.compile(r"(@?\w+)\s+(.*)")


class ConfigError(Exception):
    """A line that Fluentd would not take, or that nothing is known of here."""


@dataclass
class Section:
    """``<name argument>``, its settings, and the sections within."""

    name: str
    argument: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)

    @property
    def plugin(self) -> str:
        return self.settings.get("@type", "")

    def under(self, name: str) -> list[Section]:
        """The sections of a name, in order."""
        return [section for section in self.sections if section.name == name]


def parse(text: str) -> Section:
    """The sections of a configuration, in the syntax of Fluentd's version 1.

    Raises:
        ConfigError: With the line.
    """
    root = Section("")
    path = [root]
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if found := _OPEN.fullmatch(line):
            path[-1].sections.append(Section(found[1], found[2] or ""))
            path.append(path[-1].sections[-1])
        elif found := _CLOSE.fullmatch(line):
            if len(path) == 1 or path.pop().name != found[1]:
                raise ConfigError(f"line {number}: {line} closes nothing")
        elif (found := _SETTING.fullmatch(line)) and len(path) > 1:
            if found[1] in path[-1].settings:
                raise ConfigError(f"line {number}: {found[1]} is there twice")
            path[-1].settings[found[1]] = found[2]
        else:
            raise ConfigError(f"line {number}: {line} is neither a section nor a setting")
    if len(path) > 1:
        raise ConfigError(f"<{path[-1].name}> is not closed")
    check(root)
    return root


def check(section: Section) -> None:
    """Refuse what is not understood.

    Raises:
        ConfigError: With the section and the setting.
    """
    for each in section.sections:
        if each.name == "label":
            check(each)
            continue
        kind = f"{each.name}/{each.plugin}"
        if kind not in SETTINGS:
            raise ConfigError(f"<{each.name}> of @type {each.plugin!r} is unknown")
        for name, value in each.settings.items():
            form = SETTINGS[kind].get(name, "") if name != "@type" else _TEXT
            if not re.fullmatch(form, value):
                raise ConfigError(f"{kind}: {name} {value} is no setting of it")
        check(each)


def fits(patterns: str, tag: str) -> bool:
    """Whether a tag fits one of the patterns of a ``match`` or ``filter``: ``*`` is one part, ``**`` any number."""
    for pattern in patterns.split():
        expression = re.escape(pattern).replace(r"\.\*\*", r"(\..+)?").replace(r"\*\*", ".*").replace(r"\*", r"[^.]+")
        if re.fullmatch(expression, tag):
            return True
    return False


@dataclass(frozen=True)
class Document:
    """What goes to Elasticsearch for one record."""

    index: str
    id: str | None
    source: dict[str, Any]


def document(output: Section, tag: str, time_ns: int, record: Mapping[str, Any]) -> Document:
    """What an ``elasticsearch`` output with ``logstash_format`` makes of a record."""
    settings, source = output.settings, dict(record)
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    digits = int(settings.get("time_precision", "9"))
    fraction = f".{nanos:09d}"[: digits + 1] if digits else ""
    source.setdefault("@timestamp", f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}+00:00")
    if settings.get("include_tag_key") == "true":
        source[settings.get("tag_key", "tag")] = tag
    identity = source.get(settings["id_key"]) if "id_key" in settings else None
    for name in re.split(r"\s*,\s*", settings.get("remove_keys", "")):
        source.pop(name, None)
    return Document(f"{settings.get('logstash_prefix', 'logstash')}-{moment:%Y.%m.%d}", identity, source)


def entries(message: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Time (ns) and record of each entry of a PackedForward message."""
    unpacker = msgpack.Unpacker(ext_hook=lambda code, data: (code, data))
    unpacker.feed(message[1])
    for time, record in unpacker:
        if isinstance(time, tuple):
            code, data = time
            assert code == 0, f"extension {code}"
            yield int.from_bytes(data[:4], "big") * 1_000_000_000 + int.from_bytes(data[4:], "big"), record
        else:
            yield time * 1_000_000_000, record


class Fluentd:
    """One that runs until SIGTERM."""

    def __init__(self, config: Section, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._with_template = False

    async def run(self, session: aiohttp.ClientSession) -> None:
        (source,) = self._config.under("source")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            unpacker = msgpack.Unpacker()
            try:
                while data := await reader.read(1 << 16):
                    unpacker.feed(data)
                    for message in unpacker:
                        await self._take(session, message)
                        if "chunk" in message[2]:
                            writer.write(msgpack.packb({"ack": message[2]["chunk"]}))
            finally:
                writer.close()

        server = await asyncio.start_server(serve, source.settings["bind"], int(source.settings["port"]))
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        server.close()

    async def _take(self, session: aiohttp.ClientSession, message: list[Any]) -> None:
        tag = message[0]
        outputs = [section for section in self._config.under("match") if fits(section.argument, tag)]
        assert outputs, f"nothing matches {tag}"
        lines: list[object] = []
        for time_ns, record in entries(message):
            for each in self._config.under("filter"):
                if fits(each.argument, tag):
                    record[each.settings["hash_id_key"]] = str(uuid.uuid4())
            made = document(outputs[0], tag, time_ns, record)
            lines += ({"index": {"_index": made.index, "_id": made.id}}, made.source)
        await self._write(session, outputs[0].settings, "".join(f"{json.dumps(line)}\n" for line in lines))

    async def _write(self, session: aiohttp.ClientSession, settings: Mapping[str, str], body: str) -> None:
        url = f"{settings['scheme']}://{settings['host']}:{settings['port']}"
        kind = {"Content-Type": "application/x-ndjson"}
        if not self._with_template:
            template = (self._folder / settings["template_file"]).read_bytes()
            where = "_template" if settings.get("use_legacy_template", "true") == "true" else "_index_template"
            address = f"{url}/{where}/{settings['template_name']}"
            async with session.put(address, data=template, headers={"Content-Type": "application/json"}) as answer:
                assert answer.status == 200, await answer.text()
            self._with_template = True
        async with session.post(f"{url}/_bulk", data=body, headers=kind) as answer:
            done = await answer.json()
            assert not done["errors"], done


async def main(fluentd: Fluentd) -> None:
    async with aiohttp.ClientSession() as session:
        await fluentd.run(session)


if __name__ == "__main__":
    assert sys.argv[1] == "-c", "usage: fluentd -c FILE"
    asyncio.run(main(Fluentd(parse(Path(sys.argv[2]).read_text()), Path.cwd())))
