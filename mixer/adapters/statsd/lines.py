"""From an instance to its line; what can be known before is put together before.

Texts of requests end up in names and tags, so whatever means something in the protocol is replaced in them: nobody may
forge a line. Source: spec adapters 4.12 and 5, "dogstatsd".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from mixer.adapters.statsd.nametemplate import NameTemplate
from mixer.adapters.statsd.params import MetricType
from mixer.attributes import Duration, stringify
from mixer.templates.metric import MetricInstance

_NAME_SIGNS: Final = re.compile(r"[:|@#\s\x00-\x1f\x7f\ud800-\udfff]")
_TAG_SIGNS: Final = re.compile(r"[|,\r\n\x00-\x1f\x7f\ud800-\udfff]")
_KEY_SIGNS: Final = re.compile(r"[:|,\r\n\x00-\x1f\x7f\ud800-\udfff]")


class LineError(ValueError):
    """An instance cannot be told in this protocol; the message says why."""


class LineEncoder(Protocol):
    """Makes the line of each instance of one name."""

    def __call__(self, instance: MetricInstance, /) -> bytes:
        """The line, without an end; with a second one in it where the protocol needs two to say one thing.

        Raises:
            LineError: The value is not of the metric's type.
        """
        ...


def statsd_encoder(metric: MetricType, name: NameTemplate | None, fixed: str, prefix: str, rate: float) -> LineEncoder:
    """The encoder of a metric whose name is a template, or else fixed; ``prefix`` ends with its dot."""
    suffix = _sampled(rate)
    whole = clean_name(prefix + fixed)

    def encode(instance: MetricInstance) -> bytes:
        value = _STATSD[metric](instance.value)
        if value is None:
            raise LineError(f"could not record {_told(instance.value)} as {metric.name}")
        called = whole
        if name is not None:
            texts = {key: stringify(text) for key, text in instance.dimensions.items()}
            try:
                called = clean_name(prefix + name.render(texts))
            except KeyError as exc:
                raise LineError(f"no dimension {exc.args[0]} for its name") from None
        line = f"{called}:{value}{suffix}"
        if metric is MetricType.GAUGE and value[0] == "-":
            # A sign makes it a difference; only from 0 can a gauge be set below it.
            line = f"{called}:0|g{suffix}\n{line}"
        return line.encode()

    return encode


def dogstatsd_encoder(metric: MetricType, name: str, tags: Mapping[str, str], rate: float) -> LineEncoder:
    """The encoder of a metric of that name, prefix included; ``global_tags`` come first, without being overlaid."""
    head, suffix = clean_name(name), _sampled(rate)

    def encode(instance: MetricInstance) -> bytes:
        value = _DOGSTATSD[metric](instance.value)
        if value is None:
            raise LineError(f"could not record {_told(instance.value)} as {metric.name}")
        own = {**tags, **{key: stringify(text) for key, text in instance.dimensions.items()}}
        listed = ",".join([f"{_KEY_SIGNS.sub('_', key)}:{_TAG_SIGNS.sub('_', text)}" for key, text in own.items()])
        return f"{head}:{value}{suffix}{'|#' if listed else ''}{listed}".encode()

    return encode


def clean_name(text: str) -> str:
    """A text that can be a name: what means something in the protocol, and blanks, become "_"."""
    return _NAME_SIGNS.sub("_", text)


def _sampled(rate: float) -> str:
    return f"|@{rate:.6f}" if rate < 1 else ""


def _told(value: object) -> str:
    return f"a value of type {type(value).__name__}"


_Form = Callable[[object], str | None]


def _integer(form: str) -> _Form:
    # Durations and times are integers to Python, and truth values, too.
    return lambda value: form.format(value) if type(value) is int else None


def _one_of(integer: _Form, milliseconds: Callable[[int], str]) -> _Form:
    return lambda value: milliseconds(value) if type(value) is Duration else integer(value)


def _exact_ms(ns: int) -> str:
    """Milliseconds with as many digits as it takes; no timer of StatsD takes a negative one."""
    whole, rest = divmod(max(ns, 0), 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".") + "|ms"


def _unknown(value: object) -> None:
    return None


_STATSD: Final[Mapping[MetricType, _Form]] = {
    MetricType.UNKNOWN: _unknown,
    MetricType.COUNTER: _integer("{}|c"),
    MetricType.GAUGE: _integer("{}|g"),
    MetricType.DISTRIBUTION: _one_of(_integer("{}|c"), _exact_ms),
}
_DOGSTATSD: Final[Mapping[MetricType, _Form]] = {
    MetricType.UNKNOWN: _unknown,
    MetricType.COUNTER: _integer("{}|c"),
    MetricType.GAUGE: _integer("{:d}.000000|g"),
    MetricType.DISTRIBUTION: _one_of(_integer("{:d}.000000|h"), lambda ns: f"{max(ns, 0) / 1e6:.6f}|ms"),
}
