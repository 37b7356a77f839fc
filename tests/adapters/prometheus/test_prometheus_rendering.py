"""The text that large pages are made of is, to the byte, that of prometheus-client's encoders."""

import math
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from mixer.adapters.base import StreamedMetric
from mixer.adapters.prometheus.definitions import Definition
from mixer.adapters.prometheus.params import MetricKind
from mixer.adapters.prometheus.rendering import PIECE_CHARS
from mixer.adapters.prometheus.store import MetricStore, User
from mixer.server.scrape import pieces_of

ACCEPTED = [
    "",
    "application/openmetrics-text",
    *(
        f"{kind};version=1.0.0;escaping={escaping}"
        for kind in ("text/plain", "application/openmetrics-text")
        for escaping in ("underscores", "allow-utf-8", "dots", "values")
    ),
]
KINDS = [MetricKind.GAUGE, MetricKind.COUNTER, MetricKind.DISTRIBUTION]

names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}(_total|_created|_bucket|_sum|_info)?", fullmatch=True)
labels = st.lists(st.from_regex(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,4}", fullmatch=True), max_size=5, unique=True)
texts = st.text(st.one_of(st.sampled_from('\\\n"%{} é\r\u2028'), st.characters(codec="utf-8")), max_size=6)
numbers = st.one_of(
    st.floats(), st.sampled_from([0.0, -0.0, 999999.0, 1e6, 1234567.5, 1e21, math.inf, -math.inf, math.nan])
)
bounds = st.lists(st.floats(-1e9, 1e9), min_size=0, max_size=6, unique=True).map(sorted).map(tuple)


@st.composite
def definitions(draw):
    kind = draw(st.sampled_from(KINDS))
    told = tuple(label for label in draw(labels) if kind is not MetricKind.DISTRIBUTION or label != "le")
    limits = draw(bounds) if kind is MetricKind.DISTRIBUTION else ()
    return Definition(draw(names), draw(texts), kind, told, limits)


def store_of(*defined):
    store, registry = MetricStore(), CollectorRegistry()
    registry.register(store)
    made = {}
    for definition in defined:
        if not any(definition.sample_names & other.sample_names for other in made):
            made[definition] = store.bind(definition, User("h"))
    return registry, list(made.values())


def record(series, key, value, cap=0):
    kind = series.definition.kind
    if kind is not MetricKind.GAUGE and not math.isfinite(value):
        value = 1.0
    series.update(key, abs(value) if kind is MetricKind.COUNTER else value, 0.0, cap)


def streamed(registry, encode):
    return b"".join(pieces_of(registry, encode))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.lists(definitions(), max_size=4), st.integers(0, 3))
def test_streamed_pages_are_those_of_the_encoders(data, defined, cap):
    registry, all_series = store_of(*defined)
    for series in all_series:
        key = st.tuples(*(texts for _ in series.definition.labels))
        for values, number in data.draw(st.lists(st.tuples(key, numbers), max_size=6)):
            record(series, values, number, cap)
    for accept in ACCEPTED:
        encode, _ = choose_encoder(accept)
        assert streamed(registry, encode) == encode(registry)


@pytest.mark.parametrize("encode", [generate_latest, generate_openmetrics])
@pytest.mark.parametrize("told", [(), ("z",), ("a",), ("z", "a"), ("lf", "le_", "ld", "L")])
def test_le_stands_where_it_is_sorted(encode, told):
    registry, (series,) = store_of(Definition("a:b", "h", MetricKind.DISTRIBUTION, told, (0.5, 1e6)))
    for value in (0.1, 3.0, 2e6):
        series.update(tuple(f'"{label}%s' for label in told), value, 0.0, 0)
    assert streamed(registry, encode) == encode(registry)


@pytest.mark.parametrize("encode", [generate_latest, generate_openmetrics])
def test_counts_from_a_million_up_have_exponents(encode):
    registry, (series,) = store_of(Definition("a", "h", MetricKind.DISTRIBUTION, (), (1.0, 2.0)))
    series.update((), 0.5, 0.0, 0)
    series.cell(()).counts[:] = [999_999, 1, 1_234_566]
    assert streamed(registry, encode) == encode(registry)
    assert b'a_bucket{le="+Inf"} 2.234566e+06\n' in streamed(registry, encode)


@pytest.mark.parametrize("encode", [generate_latest, generate_openmetrics])
def test_collectors_of_others_go_through_the_encoder(encode):
    registry, (series,) = store_of(Definition("b", "h", MetricKind.GAUGE, ("l",)))
    series.update(("x",), 1.0, 0.0, 0)
    counter = Counter("a", "Many of them.", ("number",), registry=registry)
    Histogram("c", "Seconds.", registry=registry).observe(0.5)
    for number in range(1500):
        counter.labels(str(number)).inc(number)
    assert streamed(registry, encode) == encode(registry)


def test_large_families_of_others_are_encoded_in_parts():
    registry, (series,) = store_of(Definition("a_request_count", "h", MetricKind.COUNTER, ("l",)))
    for number in range(1500):
        series.update((str(number),), 1.0, 0.0, 0)

    class Plain:
        """The same, but without a text of its own, as totals of workers are."""

        def collect(self):
            for family in registry.collect():
                plain = type(family).__base__("x", "x", "unknown") if isinstance(family, StreamedMetric) else family
                plain.name, plain.documentation, plain.type = family.name, family.documentation, family.type
                plain.samples = family.samples
                yield plain

    for accept in ACCEPTED:
        encode, _ = choose_encoder(accept)
        pieces = list(pieces_of(Plain(), encode))
        assert b"".join(pieces) == encode(registry)
        assert len(pieces) > 3


@pytest.mark.parametrize("bounds", [tuple(map(float, range(12))), tuple(map(float, range(5000)))])
def test_pieces_are_bounded(bounds):
    told = tuple(f"label_{number:02d}" for number in range(20))
    registry, (series,) = store_of(Definition("a", "h", MetricKind.DISTRIBUTION, told, bounds))
    for number in range(20_000 // len(bounds)):
        series.update((f"workload-{number}",) * 20, 1.0, 0.0, 0)
    pieces = list(pieces_of(registry, generate_latest))
    assert b"".join(pieces) == generate_latest(registry)
    assert len(pieces) > 50
    assert max(map(len, pieces)) < 2 * PIECE_CHARS


def test_a_scrape_that_is_overtaken_by_values_is_consistent():
    registry, (series,) = store_of(Definition("a", "h", MetricKind.DISTRIBUTION, ("l",), (1.0, 2.0, 3.0)))
    done = threading.Event()

    def scrape():
        try:
            pages.extend(streamed(registry, generate_latest) for _ in range(30))
        finally:
            done.set()

    pages = []
    thread = threading.Thread(target=scrape)
    thread.start()
    number = 0
    while not done.is_set():
        number += 1
        series.update((str(number % 700),), float(number % 5), float(number), 0)
        if number % 1000 == 0:
            series.expire(number - 500.0)
    thread.join()

    assert len(pages) == 30
    for page in pages:
        found = {}
        for line in page.decode().splitlines():
            if line.startswith(("a_bucket", "a_count")):
                label = line.split('"')[1]
                found.setdefault(label, []).append(float(line.rsplit(" ", 1)[1]))
        for *buckets, count in found.values():
            assert buckets == sorted(buckets)
            assert len(buckets) == 4
            assert buckets[-1] == count
