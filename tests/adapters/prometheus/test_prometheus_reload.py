"""Handlers come and go, their metrics stay; and series that nothing updates go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.prometheus.definitions import Definition
from mixer.adapters.prometheus.params import MetricKind
from mixer.adapters.prometheus.store import MetricStore, User
from mixer.adapters.testing import settle
from mixer.errors import AdapterError
from mixer.templates.metric import MetricInstance


def counter(name, *labels, **fields):
    return {"name": name, "instance_name": name, "kind": "COUNTER", "label_names": list(labels), **fields}


def add(handler, name, value=1, **dimensions):
    handler.handle_report([MetricInstance(name, value, dimensions)])


async def replace(process, old, params, **kwargs):
    """What the runtime does on a config change: the new handler is there before the old one is closed."""
    new = await process.build(params, **kwargs)
    await old.aclose()
    return new


async def test_counter_goes_on_when_its_definition_is_the_same(process):
    """Source: spec adapters 4.1, scenario 8."""
    old = await process.build({"metrics": [counter("a", "x", "y")]})
    add(old, "a", x="1", y="2")
    new = await replace(process, old, {"metrics": [counter("a", "y", "x"), counter("b")]})
    add(new, "a", x="1", y="2")
    assert process.samples() == {'istio_a{x="1",y="2"}': 2}


@pytest.mark.parametrize("dimension", [{}, {"c": "1"}], ids=["labels lost", "labels changed"])
async def test_redefinition_starts_that_metric_anew_and_no_other(process, dimension):
    """Source: spec adapters 4.1, scenario 7, with the reset scoped to the metric."""
    old = await process.build({"metrics": [counter("special_counter", "a", "b"), counter("other")]})
    add(old, "special_counter", a="1", b="2")
    add(old, "other")
    new = await replace(process, old, {"metrics": [counter("special_counter", *dimension), counter("other")]})
    add(new, "special_counter", **dimension)
    add(new, "other")
    text = '{c="1"}' if dimension else ""
    assert process.samples() == {f"istio_special_counter{text}": 1, "istio_other": 2}


async def test_last_handler_may_close_before_the_next_is_built(process):
    old = await process.build({"metrics": [counter("a")]})
    add(old, "a")
    await old.aclose()
    add(await process.build({"metrics": [counter("a")]}), "a")
    assert process.samples() == {"istio_a": 2}


async def test_removed_metric_stays_until_it_is_defined_anew(process):
    handler = await process.build({"metrics": [counter("a"), counter("b")]})
    add(handler, "a")
    handler = await replace(process, handler, {"metrics": [counter("b")]})
    assert process.samples() == {"istio_a": 1}
    handler = await replace(process, handler, {"metrics": [counter("a", "new")]})
    assert process.samples() == {}


async def test_removed_metric_stays_until_it_expires(process):
    policy = {"metrics_expiration_policy": {"metrics_expiry_duration": "10s"}}
    handler = await process.build({"metrics": [counter("a"), counter("b")], **policy})
    add(handler, "a")
    await replace(process, handler, {"metrics": [counter("b")], **policy})
    await process.clock.advance(9)
    assert process.samples() == {"istio_a": 1}
    await process.clock.advance(7)
    assert process.samples() == {}
    assert process.sample("mixer_prometheus_series", metric="istio_a") is None


async def test_metric_without_series_leaves_with_its_handler(process):
    handler = await process.build({"metrics": [counter("a")]})
    assert process.sample("mixer_prometheus_series", metric="istio_a") == 0
    await handler.aclose()
    assert process.sample("mixer_prometheus_series", metric="istio_a") is None


async def test_two_handlers_share_a_metric_they_agree_on(process):
    one = await process.build({"metrics": [counter("a")]}, name="one.ns")
    two = await process.build({"metrics": [counter("a", instance_name="another")]}, name="two.ns")
    add(one, "a", 1)
    add(two, "another", 2)
    await one.aclose()
    add(two, "another", 4)
    assert process.samples() == {"istio_a": 7}


async def test_metric_of_another_handler_cannot_be_redefined(process):
    one = await process.build({"metrics": [counter("a")]}, name="one.ns")
    two = await process.build({"metrics": [counter("a", "x"), counter("b")]}, name="two.ns")
    (line,) = process.recording.logged
    assert (line["event"], line["instance"]) == ("metric_left_out", "a")
    with pytest.raises(AdapterError, match=r"a: istio_a has other labels in one\.ns"):
        two.handle_report([MetricInstance("a", 1, {"x": "1"}), MetricInstance("b", 1)])
    add(one, "a")
    assert process.samples() == {"istio_a": 1, "istio_b": 1}


async def test_metric_of_another_handler_keeps_its_sample_names(process):
    await process.build({"metrics": [counter("a_count")]}, name="one.ns")
    two = await process.build({"metrics": [{**counter("a"), "kind": "DISTRIBUTION"}]}, name="two.ns")
    with pytest.raises(AdapterError, match=r"istio_a would expose the same names as istio_a_count of one\.ns"):
        add(two, "a")


async def test_handlers_changed_together_agree_once_their_predecessors_are_closed(process):
    old = [await process.build({"metrics": [counter("a")]}, name=name) for name in ("one.ns", "two.ns")]
    new = [await process.build({"metrics": [counter("a", "x")]}, name=name) for name in ("one.ns", "two.ns")]
    for handler in old:
        await handler.aclose()
    for handler in new:
        add(handler, "a", x="1")
    assert process.samples() == {'istio_a{x="1"}': 2}


@pytest.mark.parametrize(
    "policy", [{"expiry_check_interval_duration": "10ms"}, {}], ids=["interval", "default interval"]
)
async def test_series_goes_after_silence_and_an_updated_one_stays(process, policy):
    """Source: spec adapters 4.1, scenarios 14 and 15."""
    policy = {"metrics_expiry_duration": "50ms", **policy}
    handler = await process.build({"metrics": [counter("a", "x")], "metrics_expiration_policy": policy})
    add(handler, "a", x="silent")
    for _ in range(10):
        add(handler, "a", x="busy")
        await process.clock.advance(0.02)
    assert process.samples() == {'istio_a{x="busy"}': 10}


async def test_series_lives_for_the_expiry_and_one_interval_at_most(process):
    policy = {"metrics_expiry_duration": "10s", "expiry_check_interval_duration": "4s"}
    handler = await process.build({"metrics": [counter("a")], "metrics_expiration_policy": policy})
    add(handler, "a")
    await process.clock.advance(10)
    assert process.samples() == {"istio_a": 1}
    await process.clock.advance(4)
    assert process.samples() == {}


async def test_no_policy_keeps_series_for_good(process):
    handler = await process.build({"metrics": [counter("a")]})
    add(handler, "a")
    await process.clock.advance(1e6)
    assert process.samples() == {"istio_a": 1}


async def test_series_of_a_predecessor_expire_too(process):
    policy = {"metrics_expiration_policy": {"metrics_expiry_duration": "10s"}}
    old = await process.build({"metrics": [counter("a")], **policy})
    add(old, "a")
    await replace(process, old, {"metrics": [counter("a"), counter("b")], **policy})
    await process.clock.advance(20)
    assert process.samples() == {}


async def test_most_patient_handler_decides_over_a_shared_metric(process):
    for name, expiry in (("one.ns", "10s"), ("two.ns", "100s")):
        policy = {"metrics_expiry_duration": expiry}
        handler = await process.build({"metrics": [counter("a")], "metrics_expiration_policy": policy}, name=name)
    add(handler, "a")
    await process.clock.advance(90)
    assert process.samples() == {"istio_a": 1}
    await handler.aclose()
    await process.clock.advance(20)
    assert process.samples() == {}


async def test_expiry_makes_room_under_the_cap(process):
    policy = {"metrics_expiry_duration": "10s", "expiry_check_interval_duration": "1s"}
    handler = await process.build(
        {"metrics": [counter("a", "x")], "metrics_expiration_policy": policy, "max_series_per_metric": 1}
    )
    add(handler, "a", x="1")
    add(handler, "a", x="2")
    await process.clock.advance(12)
    add(handler, "a", x="3")
    assert process.samples() == {'istio_a{x="3"}': 1}


async def test_close_ends_the_sweep(process):
    handler = await process.build({"metrics": [], "metrics_expiration_policy": {"metrics_expiry_duration": "10s"}})
    await settle()
    assert process.recording.running == 1
    await handler.aclose()
    await settle()
    assert process.recording.running == 0


steps = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20), st.booleans()), max_size=60)


@given(steps=steps, expiry_s=st.floats(0.5, 30))
def test_expiry_never_takes_a_series_that_was_updated_within_it(steps, expiry_s):
    store = MetricStore()
    definition = Definition("m", "", MetricKind.COUNTER, ("x",))
    series = store.bind(definition, User("h", expiry_s))
    now, updated = 0.0, {}
    for label, pause, sweeps in steps:
        now += pause
        if sweeps:
            store.expire(now)
            kept = {key[0] for key, _ in series.snapshot()}
            assert {x for x, at in updated.items() if now - at < expiry_s} <= kept
            assert kept <= {x for x, at in updated.items() if now - at <= expiry_s * 1.000001}
        series.update((label,), 1.0, now, 0)
        updated[label] = now
