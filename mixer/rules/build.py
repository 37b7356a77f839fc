"""Resources -> Snapshot: everything is decoded, resolved and compiled here, and nothing at request time.

Building never fails. What is wrong is reported and left out, the rest runs; and where a resource was right
before, its last good version goes on until it is right again or deleted.

Source: spec runtime 3.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from mixer.adapters.base import AdapterInfo, InstanceInfo, Params
from mixer.adapters.remote import RemoteParams, RemoteTemplate
from mixer.attributes import Vocabulary
from mixer.rules.dynamic import (
    RemoteAdapter,
    compile_adapter,
    compile_dynamic,
    compile_handler,
    compile_template,
    template_warnings,
)
from mixer.rules.names import GENERIC_KINDS, display_name
from mixer.rules.objects import NO_OBJECTS, CompiledObjects, compile_objects, decode_object
from mixer.rules.reads import wanted_by
from mixer.rules.resolve import Scope, resolve_rule
from mixer.rules.routes import build_routes
from mixer.rules.snapshot import HandlerConfig, Rule, Snapshot, empty_snapshot
from mixer.rules.specs import AttributeManifestSpec, HandlerSpec, InstanceSpec, RuleSpec
from mixer.rules.vocabulary import build_vocabulary
from mixer.store import FieldError, Problem, Resource, ResourceKey, Severity, StoreContents
from mixer.store.protojson import ProtoModel, decode
from mixer.templates import TEMPLATES, Template
from mixer.templates.builder import CompiledInstance, compile_instance

_LANGUAGE = "policy.istio.io/lang"

T = TypeVar("T")
M = TypeVar("M", bound=ProtoModel)


@dataclass(slots=True)
class _Build:
    """One run of the builder."""

    resources: Mapping[ResourceKey, Resource]
    problems: list[Problem]
    stale: set[ResourceKey] = field(default_factory=set)
    good: dict[ResourceKey, Resource] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    objects: dict[str, CompiledObjects] = field(default_factory=dict)
    templates: dict[str, RemoteTemplate] = field(default_factory=dict)
    adapters: dict[str, RemoteAdapter] = field(default_factory=dict)

    def of_kind(self, *kinds: str) -> Iterator[Resource]:
        return (resource for key, resource in self.resources.items() if key.kind in kinds)


class SnapshotBuilder:
    """Builds one snapshot after another and remembers the last good version of each resource."""

    def __init__(
        self,
        adapters: Mapping[str, AdapterInfo],
        *,
        templates: Mapping[str, Template] = TEMPLATES,
        default_namespace: str = "istio-system",
    ) -> None:
        self._adapters = adapters
        self._templates = templates
        self._default_namespace = default_namespace
        self._good: Mapping[ResourceKey, Resource] = {}
        self._revision = 0
        self._with_objects = {name: info.objects for name, info in adapters.items() if info.objects is not None}
        self._counted = (*GENERIC_KINDS, *(kind for objects in self._with_objects.values() for kind in objects.kinds))
        self.kinds: Final = frozenset({*self._counted, *templates, *adapters})
        """Every kind that means something here; resources of other kinds are passed over."""

    def build(self, contents: StoreContents) -> Snapshot:
        """The snapshot of a store's contents; its ``problems`` include the store's own."""
        known = {key: resource for key, resource in contents.resources.items() if key.kind in self.kinds}
        run = _Build(MappingProxyType(known), list(contents.problems))
        run.problems += self._misspelt(contents)
        vocabulary = self._vocabulary(run)
        self._languages(run)
        self._dynamic(run)
        self._objects(run)
        handlers = self._handlers(run)
        instances = self._instances(run, vocabulary)
        rules = self._rules(run, Scope(vocabulary, handlers, instances, frozenset(run.broken)))
        handlers, rules = self._route(run, handlers, rules)
        self._good = run.good
        self._revision += 1
        counts: dict[str, int] = dict.fromkeys(self._counted, 0)
        for key in known:
            kind = "instance" if key.kind in self._templates else "handler" if key.kind in self._adapters else key.kind
            counts[kind] += 1
        return Snapshot(
            self._revision,
            vocabulary,
            handlers,
            instances,
            rules,
            build_routes(rules, self._default_namespace, vocabulary),
            tuple(run.problems),
            frozenset(run.stale),
            counts,
            wanted_by(rules),
        )

    def _misspelt(self, contents: StoreContents) -> list[Problem]:
        """Warnings for kinds that are probably meant to be ours; all others belong to somebody else."""
        meant = {
            kind: close[0]
            for kind in {key.kind for key in contents.resources} - self.kinds
            if (close := difflib.get_close_matches(kind.lower(), self.kinds, n=1, cutoff=0.87))
        }
        return [
            Problem.of(
                resource,
                ("kind",),
                f"kind '{key.kind}' is none of Mixer's, so this object is passed over",
                expected=f"probably {meant[key.kind]}",
                severity=Severity.WARNING,
            )
            for key, resource in contents.resources.items()
            if key.kind in meant
        ]

    # Each step tries a resource as it stands, then its last good version.

    def _attempt(
        self, run: _Build, resource: Resource, compile_: Callable[[Resource], tuple[T | None, list[Problem]]]
    ) -> T | None:
        result, problems = compile_(resource)
        if result is not None and not problems:
            run.good[resource.key] = resource
            return result
        run.problems += problems
        former = self._good.get(resource.key)
        if former is not None:
            run.good[resource.key] = former  # also while something else keeps it from working
            if former != resource:
                kept, faults = compile_(former)
                if kept is not None and not faults:
                    run.stale.add(resource.key)
                    return kept
        if result is None:
            run.broken.add(str(resource.key))
        return result

    def _vocabulary(self, run: _Build) -> Vocabulary:
        manifests = []
        for resource in run.of_kind("attributemanifest"):
            pair = self._attempt(run, resource, lambda r: _paired(r, *_decode(r, AttributeManifestSpec)))
            if pair is not None:
                manifests.append(pair)
        return build_vocabulary(manifests, self._templates.values(), run.problems)

    def _languages(self, run: _Build) -> None:
        """Warn of annotations that ask for another expression language than ours. Source: spec runtime 1.1."""
        for resource in run.of_kind("rule", "instance", *self._templates):
            language = resource.annotations.get(_LANGUAGE)
            if language in ("CEL", "COMPAT"):
                message = f"expressions are read as CEXL, {language} is not served"
                path = ("metadata", "annotations", _LANGUAGE)
                run.problems.append(Problem.of(resource, path, message, severity=Severity.WARNING))

    def _dynamic(self, run: _Build) -> None:
        for resource in run.of_kind("template"):
            template = self._attempt(run, resource, compile_template)
            if template is not None:
                run.templates[str(resource.key)] = template
                run.problems += template_warnings(resource, template)
        for resource in run.of_kind("adapter"):
            adapter = self._attempt(run, resource, lambda r: compile_adapter(r, run.templates, run.broken))
            if adapter is not None:
                run.adapters[str(resource.key)] = adapter

    def _objects(self, run: _Build) -> None:
        for name, objects in self._with_objects.items():
            decoded = []
            for resource in run.of_kind(*objects.kinds):
                pair = self._attempt(run, resource, lambda r, objects=objects: decode_object(r, objects))  # type: ignore[misc]
                if pair is not None:
                    decoded.append(pair)
            run.objects[name], problems = compile_objects(objects, decoded)
            run.problems += problems

    def _handlers(self, run: _Build) -> dict[str, HandlerConfig]:
        handlers = {}
        for resource in run.of_kind("handler", *self._adapters):
            handler = self._attempt(run, resource, lambda r: self._handler(run, r))
            if handler is not None:
                handlers[str(resource.key)] = handler
        return handlers

    def _handler(self, run: _Build, resource: Resource) -> tuple[HandlerConfig | None, list[Problem]]:
        if resource.key.kind != "handler":
            return self._handler_of(resource, self._adapters[resource.key.kind], resource.spec, ("spec",))
        spec, problems = _decode(resource, HandlerSpec)
        if spec is None:
            return None, problems
        if spec.compiled_adapter:
            info = self._adapters.get(spec.compiled_adapter)
            if info is None:
                message = f"adapter '{spec.compiled_adapter}' not found"
                expected = f"one of {', '.join(self._adapters)}"
                return None, [Problem.of(resource, ("spec", "compiledAdapter"), message, expected=expected)]
            return self._handler_of(resource, info, spec.params, ("spec", "params"))
        remote, problems = compile_handler(resource, spec, run.adapters, run.broken)
        if remote is None:
            return None, problems
        return HandlerConfig(resource.key, display_name(resource.key), *remote, resource), problems

    def _handler_of(
        self, resource: Resource, info: AdapterInfo, data: object, path: tuple[str, ...]
    ) -> tuple[HandlerConfig | None, list[Problem]]:
        params, faults = decode(info.params, data)
        if not isinstance(params, Params):
            return None, _problems(resource, faults, path)
        faults = list(info.validate(params, ()))
        if faults:
            return None, _problems(resource, faults, path)
        return HandlerConfig(resource.key, display_name(resource.key), info, params, resource), []

    def _instances(self, run: _Build, vocabulary: Vocabulary) -> dict[str, CompiledInstance]:
        instances = {}
        for resource in run.of_kind("instance", *self._templates):
            instance = self._attempt(run, resource, lambda r: self._instance(run, r, vocabulary))
            if instance is not None:
                instances[str(resource.key)] = instance
        return instances

    def _instance(
        self, run: _Build, resource: Resource, vocabulary: Vocabulary
    ) -> tuple[CompiledInstance | None, list[Problem]]:
        key = resource.key
        if key.kind != "instance":
            found = compile_instance(str(key), key.name, self._templates[key.kind], resource.spec, {}, vocabulary)
            return found[0], _problems(resource, found[1], ("spec",))
        spec, problems = _decode(resource, InstanceSpec)
        if spec is None:
            return None, problems
        if spec.compiled_template:
            template = self._templates.get(spec.compiled_template)
            if template is None:
                expected = f"one of {', '.join(self._templates)}"
                message = f"missing compiled template: '{spec.compiled_template}' not found"
                return None, [Problem.of(resource, ("spec", "compiledTemplate"), message, expected=expected)]
            bindings = spec.attribute_bindings
            instance, faults = compile_instance(str(key), key.name, template, spec.params, bindings, vocabulary)
            return instance, _problems(resource, faults, ("spec", "params"))
        return compile_dynamic(resource, spec, run.templates, run.broken, vocabulary)

    def _rules(self, run: _Build, scope: Scope) -> tuple[Rule, ...]:
        rules = []
        for resource in run.of_kind("rule"):
            rule = self._rule(run, resource, scope)
            if rule is not None:
                rules.append(rule)
        # Within a namespace the order of declaration holds; it decides between several denials.
        return tuple(
            sorted(rules, key=lambda rule: (rule.key.namespace != self._default_namespace, rule.key.namespace))
        )

    def _rule(self, run: _Build, resource: Resource, scope: Scope) -> Rule | None:
        """A rule's own faults call for its last good version; faults of what it refers to cost that part only."""
        spec, problems = _decode(resource, RuleSpec)
        rule, own_fault = None, True
        if spec is not None:
            rule, problems, own_fault = resolve_rule(resource, spec, scope)
        run.problems += problems
        if not own_fault:
            run.good[resource.key] = resource
            return rule
        former = self._good.get(resource.key)
        if former is None:
            return rule
        run.good[resource.key] = former
        former_spec, _ = _decode(former, RuleSpec)
        if former_spec is not None and former != resource:
            kept, _, faulty = resolve_rule(former, former_spec, scope)
            if kept is not None and not faulty:
                run.stale.add(resource.key)
                return kept
        return rule

    def _route(
        self, run: _Build, handlers: Mapping[str, HandlerConfig], rules: tuple[Rule, ...]
    ) -> tuple[dict[str, HandlerConfig], tuple[Rule, ...]]:
        """Give each handler the instances routed to it, and leave out of the rules what it cannot take."""
        routed: dict[str, dict[str, CompiledInstance]] = {}
        for rule in rules:
            for action in rule.actions:
                routed.setdefault(action.handler, {}).update({i.name: i for i in action.instances})
        used: dict[str, HandlerConfig] = {}
        for name, instances in routed.items():
            config = self._with_instances(run, handlers[name], instances)
            if config is not None:
                used[name] = config
        taken = {name: {instance.name for instance in config.instances} for name, config in used.items()}
        if all(len(instances) == len(taken.get(name, ())) for name, instances in routed.items()):
            return used, rules
        kept = []
        for rule in rules:
            actions = []
            for action in rule.actions:
                wanted = tuple(i for i in action.instances if i.name in taken.get(action.handler, ()))
                if wanted:
                    actions.append(replace(action, instances=wanted))
            if actions or rule.header_operations:
                kept.append(replace(rule, actions=tuple(actions)))
        return used, tuple(kept)

    def _with_instances(
        self, run: _Build, config: HandlerConfig, routed: Mapping[str, CompiledInstance]
    ) -> HandlerConfig | None:
        """A handler with its instances: with all, in its last good version with all, or with those it can take."""
        ordered = [routed[name] for name in sorted(routed)]
        infos = tuple(InstanceInfo(i.name, i.template, i.types) for i in ordered)
        faults = list(config.info.validate(config.params, infos))
        if faults:
            path = ("spec", "params") if config.key.kind == "handler" else ("spec",)
            run.problems += _problems(config.resource, faults, path)
            former = self._good.get(config.key)
            kept = self._handler(run, former)[0] if former is not None and former != config.resource else None
            if former is not None and kept is not None and not list(kept.info.validate(kept.params, infos)):
                run.good[config.key] = former
                run.stale.add(config.key)
                config = kept
            else:
                infos = tuple(info for info in infos if not list(config.info.validate(config.params, (info,))))
                if not infos or list(config.info.validate(config.params, infos)):
                    return None
        taken = {info.name for info in infos}
        config = replace(config, objects=run.objects.get(config.info.name, NO_OBJECTS))
        signature = _signature(config, [instance for instance in ordered if instance.name in taken])
        return replace(config, signature=signature, instances=infos)


def _signature(config: HandlerConfig, instances: list[CompiledInstance]) -> str:
    """Equal for equal adapter, params and instances, whatever order their keys are written in."""
    # The raw params: a model's own text would hide a changed secret.
    params = config.resource.spec.get("params") if config.key.kind == "handler" else config.resource.spec
    if isinstance(config.params, RemoteParams):
        params = [(config.params.config or b"").hex(), config.resource.spec.get("connection"), config.params.digest]
    what = [config.info.name, params or {}, [[i.name, i.fingerprint, i.types] for i in instances]]
    if config.objects.fingerprint:
        what.append(config.objects.fingerprint)
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _decode(resource: Resource, model: type[M]) -> tuple[M | None, list[Problem]]:
    spec, faults = decode(model, resource.spec)
    return spec, _problems(resource, faults, ("spec",))


def _paired(
    resource: Resource, spec: M | None, problems: list[Problem]
) -> tuple[tuple[Resource, M] | None, list[Problem]]:
    return (None if spec is None else (resource, spec)), problems


def _problems(resource: Resource, faults: list[FieldError], path: tuple[str, ...]) -> list[Problem]:
    def whole(fault: FieldError) -> tuple[Any, ...]:
        if fault.path[:1] == ("attributeBindings",) and path == ("spec", "params"):
            return ("spec", *fault.path)  # the uniform form writes bindings beside the params
        return (*path, *fault.path)

    return [Problem.of(resource, whole(fault), fault.message, expected=fault.expected) for fault in faults]


__all__ = ["SnapshotBuilder", "empty_snapshot"]
