"""Building snapshots: parts that work, last good versions, signatures. Source: spec runtime 3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters import denier, memquota, noop, prometheus
from mixer.adapters.loading import by_name
from mixer.rules.build import SnapshotBuilder
from mixer.rules.snapshot import Snapshot
from mixer.store import Problem, Resource, ResourceKey, Severity, StoreContents

ADAPTERS = by_name([denier.INFO, memquota.INFO, noop.INFO, prometheus.INFO])
MANIFEST = """
kind: attributemanifest
name: attributes
spec: {attributes: {source.name: {valueType: STRING}, request.size: {valueType: INT64}, source.ip: {valueType: IP_ADDRESS}}}
"""
HANDLER = "{kind: handler, name: h, spec: {compiledAdapter: noop}}"
NOTHING = "{kind: instance, name: nothing, spec: {compiledTemplate: checknothing}}"
RULE = "{kind: rule, name: r, spec: {actions: [{handler: h, instances: [nothing]}]}}"


def contents(*documents: str) -> StoreContents:
    resources = list(read((MANIFEST, *documents)))
    return StoreContents({resource.key: resource for resource in resources})


def read(documents: Iterable[str]) -> Iterator[Resource]:
    for text in documents:
        for data in yaml.safe_load_all(text):
            if data:
                key = ResourceKey(data["kind"], data.get("namespace", "istio-system"), data["name"])
                yield Resource(key, data.get("spec") or {})


def build(*documents: str) -> Snapshot:
    return SnapshotBuilder(ADAPTERS).build(contents(*documents))


def rules(snapshot: Snapshot) -> dict[str, list[tuple[str, list[str]]]]:
    """Each rule's actions: handler, and instances by their short names."""
    return {
        rule.key.name: [(action.handler, [i.short_name for i in action.instances]) for action in rule.actions]
        for rule in snapshot.rules
    }


def faults(snapshot: Snapshot) -> list[str]:
    def line(problem: Problem) -> str:
        mark = "" if problem.severity is Severity.ERROR else "warning "
        return f"{mark}{problem.resource} {problem.field}"

    return [line(problem) for problem in snapshot.problems]


def test_sound_configuration_has_no_problems() -> None:
    snapshot = build(HANDLER, NOTHING, RULE)

    assert rules(snapshot) == {"r": [("h.handler.istio-system", ["nothing"])]}
    assert faults(snapshot) == []
    assert snapshot.revision == 1
    assert snapshot.counts == {
        "attributemanifest": 1, "handler": 1, "instance": 1, "rule": 1, "template": 0, "adapter": 0
    }  # fmt: skip


def test_kinds_of_other_systems_are_passed_over() -> None:
    assert faults(build("{kind: QuotaSpec, name: q, spec: {rules: 5}}", "{kind: VirtualService, name: v}")) == []


def test_legacy_kinds_are_found_by_their_kind_and_keep_it_in_their_names() -> None:
    snapshot = build(
        "{kind: denier, name: d, spec: {status: {code: 5}}}",
        "{kind: checknothing, name: nothing}",
        "{kind: rule, name: r, spec: {actions: [{handler: d.denier, instances: [nothing.checknothing]}]}}",
    )

    assert rules(snapshot) == {"r": [("d.denier.istio-system", ["nothing"])]}
    assert [config.name for config in snapshot.handlers.values()] == ["d.denier.istio-system"]
    assert list(snapshot.instances) == ["nothing.checknothing.istio-system"]


def test_handler_of_the_generic_kind_is_shown_without_it() -> None:
    assert [config.name for config in build(HANDLER, NOTHING, RULE).handlers.values()] == ["h.istio-system"]


def test_rule_keeps_its_sound_parts() -> None:
    snapshot = build(
        HANDLER,
        NOTHING,
        "{kind: instance, name: bad, spec: {compiledTemplate: listentry, params: {value: no.such}}}",
        """
        kind: rule
        name: r
        spec:
          actions:
          - {handler: lost, instances: [nothing]}
          - {handler: h, instances: [bad, nothing, gone]}
          - {handler: h, instances: [bad]}
        """,
    )

    assert rules(snapshot) == {"r": [("h.handler.istio-system", ["nothing"])]}
    assert faults(snapshot) == [
        "bad.instance.istio-system spec.params.value",
        "r.rule.istio-system spec.actions[0].handler",
        "warning r.rule.istio-system spec.actions[1].instances[0]",
        "r.rule.istio-system spec.actions[1].instances[2]",
        "warning r.rule.istio-system spec.actions[2].instances[0]",
    ]


def test_two_part_reference_prefers_a_sound_object_of_its_own_namespace_to_a_broken_one_elsewhere() -> None:
    snapshot = build(
        "{kind: noop, name: h, namespace: bookinfo}",
        "{kind: handler, name: h, namespace: noop, spec: {compiledAdapter: lost}}",
        NOTHING,
        "{kind: rule, name: r, namespace: bookinfo, spec: {actions: [{handler: h.noop, instances: [nothing.istio-system]}]}}",
    )

    assert rules(snapshot) == {"r": [("h.noop.bookinfo", ["nothing"])]}


def test_blank_and_true_matches_always_hold() -> None:
    texts = ['""', '"  "', '"true"', '" true "', '"source.name == source.name"']
    snapshot = build(
        HANDLER, NOTHING,
        *(f"{{kind: rule, name: r{i}, spec: {{match: {text}, actions: [{{handler: h, instances: [nothing]}}]}}}}" for i, text in enumerate(texts)),
    )  # fmt: skip

    assert [rule.match is None for rule in snapshot.rules] == [True, True, True, True, False]
    assert faults(snapshot) == []


def test_rule_of_header_operations_alone_is_useful() -> None:
    snapshot = build("""{kind: rule, name: r, spec: {requestHeaderOperations: [{name: x, values: ['"a"']}]}}""")

    assert rules(snapshot) == {"r": []}
    assert faults(snapshot) == []


def test_rules_stand_in_order_of_declaration_default_namespace_first() -> None:
    order = [("zeta", "bookinfo"), ("b", "istio-system"), ("alpha", "bookinfo"), ("a", "istio-system"), ("x", "apps")]
    action = "{handler: h.istio-system, instances: [nothing.istio-system]}"
    texts = [f"{{kind: rule, name: {n}, namespace: {ns}, spec: {{actions: [{action}]}}}}" for n, ns in order]

    assert list(rules(build(HANDLER, NOTHING, *texts))) == ["b", "a", "x", "zeta", "alpha"]


def test_only_handlers_in_use_are_there_but_all_are_validated() -> None:
    snapshot = build(HANDLER, NOTHING, "{kind: denier, name: idle, spec: {validDuration: 5}}")

    assert dict(snapshot.handlers) == {}
    assert faults(snapshot) == ["idle.denier.istio-system spec.validDuration"]


def test_attributes_that_a_manifest_adds_are_known_at_once() -> None:
    """The reference checks instances against the vocabulary of its first configuration for ever."""
    builder = SnapshotBuilder(ADAPTERS)
    entry = "{kind: instance, name: i, spec: {compiledTemplate: listentry, params: {value: new.one}}}"
    assert faults(builder.build(contents(entry))) == ["i.instance.istio-system spec.params.value"]

    snapshot = builder.build(
        contents("{kind: attributemanifest, name: more, spec: {attributes: {new.one: {valueType: STRING}}}}", entry)
    )

    assert faults(snapshot) == []
    assert list(snapshot.instances) == ["i.instance.istio-system"]


# Instances that a handler cannot take

LIMIT = "{name: known.instance.istio-system, maxAmount: 5}"
QUOTAS = f"""
{{kind: handler, name: mq, spec: {{compiledAdapter: memquota, params: {{quotas: [{LIMIT}]}}}}}}
---
{{kind: instance, name: known, spec: {{compiledTemplate: quota}}}}
---
{{kind: instance, name: new, spec: {{compiledTemplate: quota}}}}
---
{{kind: rule, name: enforced, spec: {{actions: [{{handler: mq, instances: [known]}}]}}}}
"""


def test_instance_that_a_handler_cannot_take_does_not_turn_the_handler_off() -> None:
    snapshot = build(
        QUOTAS,
        "{kind: rule, name: hasty, spec: {actions: [{handler: mq, instances: [new]}]}}",
        "{kind: rule, name: mixed, spec: {actions: [{handler: mq, instances: [new, known]}]}}",
    )

    assert rules(snapshot) == {
        "enforced": [("mq.handler.istio-system", ["known"])],
        "mixed": [("mq.handler.istio-system", ["known"])],
    }
    assert faults(snapshot) == ["mq.handler.istio-system spec.params.quotas"]
    assert [i.name for i in snapshot.handlers["mq.handler.istio-system"].instances] == ["known.instance.istio-system"]


def test_handler_whose_new_version_cannot_take_its_instances_keeps_the_former_one() -> None:
    builder = SnapshotBuilder(ADAPTERS)
    first = builder.build(contents(QUOTAS))

    second = builder.build(contents(QUOTAS.replace(LIMIT, LIMIT.replace("known", "other"))))

    assert [str(key) for key in second.stale] == ["mq.handler.istio-system"]
    assert signatures(second) == signatures(first)


# Last good versions

GOOD: Mapping[str, str] = {
    "handler": "{kind: handler, name: h, spec: {compiledAdapter: denier, params: {status: {message: good}}}}",
    "instance": "{kind: instance, name: i, spec: {compiledTemplate: listentry, params: {value: source.name}}}",
    "rule": "{kind: rule, name: r, spec: {match: request.size == 1, actions: [{handler: h, instances: [i]}]}}",
}
BAD: Mapping[str, list[str]] = {
    "handler": [
        "{kind: handler, name: h, spec: {compiledAdapter: denier, params: {statu: {}}}}",
        "{kind: handler, name: h, spec: {compiledAdapter: lost}}",
        "{kind: handler, name: h, spec: {compiledAdapters: denier}}",
    ],
    "instance": [
        "{kind: instance, name: i, spec: {compiledTemplate: listentry, params: {value: 5}}}",
        "{kind: instance, name: i, spec: {compiledTemplate: lost}}",
        "{kind: instance, name: i, spec: {template: lost}}",
    ],
    "rule": [
        "{kind: rule, name: r, spec: {match: request.size, actions: [{handler: h, instances: [i]}]}}",
        "{kind: rule, name: r, spec: {action: []}}",
        "{kind: rule, name: r, spec: {match: no.such, actions: [{handler: h, instances: [i]}]}}",
    ],
}


def served(snapshot: Snapshot) -> list[str]:
    """What of the three resources is at work, each with what tells its version."""
    return [
        *(config.params.status.message for config in snapshot.handlers.values()),  # type: ignore[attr-defined]
        *(f"{name} {sorted(i.attributes)}" for name, i in snapshot.instances.items()),
        *(f"{rule.key} {rule.match.source if rule.match else ''}" for rule in snapshot.rules),
    ]


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_last_good_version_goes_on_while_the_present_one_is_broken(kind: str, position: int) -> None:
    builder = SnapshotBuilder(ADAPTERS)
    good = builder.build(contents(*GOOD.values()))

    for bad in (BAD[kind][position], *BAD[kind]):
        snapshot = builder.build(contents(*{**GOOD, kind: bad}.values()))

        assert served(snapshot) == served(good)
        assert [key.kind for key in snapshot.stale] == [kind]
        assert len(faults(snapshot)) == 1

    repaired = builder.build(contents(*GOOD.values()))
    assert (served(repaired), repaired.stale, faults(repaired)) == (served(good), frozenset(), [])


@pytest.mark.parametrize("kind", GOOD)
def test_deleted_resource_has_no_last_good_version(kind: str) -> None:
    builder = SnapshotBuilder(ADAPTERS)
    builder.build(contents(*GOOD.values()))
    builder.build(contents(*(text for other, text in GOOD.items() if other != kind)))

    snapshot = builder.build(contents(*{**GOOD, kind: BAD[kind][0]}.values()))

    assert snapshot.stale == frozenset()
    assert snapshot.rules == ()


@pytest.mark.parametrize("kind", GOOD)
def test_broken_resource_without_a_good_version_is_left_out(kind: str) -> None:
    snapshot = build(*{**GOOD, kind: BAD[kind][0]}.values())

    assert snapshot.rules == ()
    assert [fault for fault in faults(snapshot) if not fault.startswith("warning")] == faults(snapshot)[:1]


def test_last_good_version_survives_a_time_in_which_it_could_not_work() -> None:
    """A broken instance, and for a while also a manifest without the attribute that its good version reads."""
    builder = SnapshotBuilder(ADAPTERS)
    good = builder.build(contents(*GOOD.values()))
    broken = {**GOOD, "instance": BAD["instance"][0]}
    poor = "{kind: attributemanifest, name: attributes, spec: {attributes: {request.size: {valueType: INT64}}}}"

    assert builder.build(contents(*broken.values(), poor)).rules == ()
    snapshot = builder.build(contents(*broken.values()))

    assert served(snapshot) == served(good)


def test_manifest_keeps_its_last_good_version() -> None:
    builder = SnapshotBuilder(ADAPTERS)
    good = builder.build(contents(*GOOD.values()))

    snapshot = builder.build(
        contents(*GOOD.values(), "{kind: attributemanifest, name: attributes, spec: {attributes: 5}}")
    )

    assert served(snapshot) == served(good)
    assert snapshot.vocabulary.fingerprint == good.vocabulary.fingerprint


def test_fault_of_what_a_rule_refers_to_does_not_bring_back_its_former_version() -> None:
    """The rule itself is right, and what can run of it runs."""
    builder = SnapshotBuilder(ADAPTERS)
    builder.build(contents(*GOOD.values()))
    newer = "{kind: rule, name: r, spec: {match: request.size == 2, actions: [{handler: h, instances: [i, lost]}]}}"

    snapshot = builder.build(contents(*{**GOOD, "rule": newer}.values()))

    assert [rule.match.source for rule in snapshot.rules if rule.match] == ["request.size == 2"]
    assert snapshot.stale == frozenset()


@given(st.permutations([*GOOD, "other"]), st.data())
def test_changes_of_different_resources_commute(order: list[str], data: st.DataObject) -> None:
    """Whatever sequence of versions each resource goes through, what counts is where each of them ends."""
    versions = {
        "other": ["{kind: denier, name: other}", "{kind: denier, name: other, spec: 5}"],
        **{kind: [GOOD[kind], *BAD[kind][:2]] for kind in GOOD},
    }
    state = {name: texts[0] for name, texts in versions.items()}
    changes = {name: data.draw(st.sampled_from(["", *versions[name]]), label=name) for name in order}

    def run(sequence: Iterable[str]) -> tuple[Any, ...]:
        builder, now = SnapshotBuilder(ADAPTERS), dict(state)
        builder.build(contents(*(now[name] for name in versions)))
        snapshot = None
        for name in sequence:
            now[name] = changes[name]
            snapshot = builder.build(contents(*(now[name] for name in versions if now[name])))
        assert snapshot is not None
        return served(snapshot), snapshot.stale, faults(snapshot), signatures(snapshot)

    assert run(order) == run(sorted(order))


# Signatures


def signatures(snapshot: Snapshot) -> dict[str, str]:
    return {name: config.signature for name, config in snapshot.handlers.items()}


METRICS = """
kind: handler
name: h
spec: {compiledAdapter: noop, params: {}}
---
kind: instance
name: i
spec:
  compiledTemplate: metric
  params:
    value: request.size
    dimensions: {a: source.name, b: request.size, c: source.ip}
---
kind: rule
name: r
spec: {actions: [{handler: h, instances: [i]}]}
"""
REORDERED = "dimensions: {c: source.ip, b: request.size, a: source.name}\n    value: request.size"
ORDERED = "value: request.size\n    dimensions: {a: source.name, b: request.size, c: source.ip}"


@pytest.mark.parametrize(
    ("old", "new", "more", "same"),
    [
        pytest.param("", "", "", True, id="nothing"),
        pytest.param(ORDERED, REORDERED, "", True, id="order of keys"),
        pytest.param("actions:", "match: request.size == 5, actions:", "", True, id="match of a rule"),
        pytest.param("params: {}", "name: a name that means nothing", "", True, id="ignored name"),
        pytest.param(", params: {}", "", "", True, id="no params instead of empty ones"),
        pytest.param("", "", "{kind: rule, name: s, spec: {actions: [{handler: h, instances: [i]}]}}", True, id="another rule"),
        pytest.param("", "", "{kind: instance, name: j, spec: {compiledTemplate: metric}}", True, id="instance for nobody"),
        pytest.param(
            "", "",
            "{kind: attributemanifest, name: more, spec: {attributes: {new.one: {valueType: STRING}}}}", True,
            id="unrelated attribute",
        ),
        pytest.param("compiledAdapter: noop, params: {}", "compiledAdapter: prometheus, params: {metrics: []}", "", False, id="adapter"),
        pytest.param("c: source.ip", "c: request.size", "", False, id="expression"),
        pytest.param(", c: source.ip", "", "", False, id="dimension less"),
        pytest.param(
            "", "",
            "{kind: attributemanifest, name: attributes, spec: {attributes: {source.name: {valueType: URI}, "
            "request.size: {valueType: INT64}, source.ip: {valueType: IP_ADDRESS}}}}", False,
            id="type of an attribute",
        ),
        pytest.param("instances: [i]", "instances: [i, j]", "{kind: instance, name: j, spec: {compiledTemplate: metric}}", False, id="one more instance"),
    ],
)  # fmt: skip
def test_signature_changes_with_what_the_handler_depends_on(old: str, new: str, more: str, same: bool) -> None:
    changed = METRICS.replace(old, new) if old else METRICS

    before, after = build(METRICS), build(changed, more)

    assert not faults(before)
    assert not faults(after)
    assert (signatures(before) == signatures(after)) is same


def test_signature_changes_with_params() -> None:
    one, other, again = (
        build(GOOD["handler"].replace("good", text), GOOD["instance"], GOOD["rule"]) for text in ("a", "b", "a")
    )

    assert signatures(one) != signatures(other)
    assert signatures(one) == signatures(again)


def test_builder_never_raises_on_odd_specs() -> None:
    odd: list[Any] = [
        {},
        {"params": 5},
        {"actions": [None]},
        {"attributes": {"a": None}},
        {"templates": [None]},
        {"x": []},
    ]
    resources = [
        Resource(ResourceKey(kind, "istio-system", f"o{i}"), spec)
        for kind in (*SnapshotBuilder(ADAPTERS).kinds,)
        for i, spec in enumerate(odd)
    ]

    snapshot = SnapshotBuilder(ADAPTERS).build(StoreContents({r.key: r for r in resources}))

    assert snapshot.rules == ()
    assert snapshot.problems
