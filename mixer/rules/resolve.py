"""One rule: its match, its references and its header operations, or every reason why not.

Source: spec runtime 3.6, 3.7 and 3.9.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from mixer.attributes import ValueType, Vocabulary
from mixer.errors import ExprError
from mixer.expr import Program, compile_expr
from mixer.rules.names import candidates, short_name
from mixer.rules.snapshot import Action, HandlerConfig, HeaderOperation, Rule
from mixer.rules.specs import ActionSpec, HeaderOperationKind, HeaderOperationTemplate, RuleSpec
from mixer.store import Problem, Resource, Severity
from mixer.store.resource import Path
from mixer.templates.builder import CompiledInstance
from mixer.templates.hints import expected_at


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule may refer to.

    ``broken`` holds full names of resources that exist and are wrong: they have a problem of their own, and
    rules that use them need no second one.
    """

    vocabulary: Vocabulary
    handlers: Mapping[str, HandlerConfig]
    instances: Mapping[str, CompiledInstance]
    broken: frozenset[str] = frozenset()


def resolve_rule(resource: Resource, spec: RuleSpec, scope: Scope) -> tuple[Rule | None, list[Problem], bool]:
    """Resolve a rule's names and compile its expressions; never raises on bad configuration.

    Returns:
        The rule, or None when nothing of it can run; the problems; and whether the fault is the rule's own
        (its expressions) rather than that of something it refers to.
    """
    problems: list[Problem] = []
    match, sound = _compile_match(resource, spec, scope.vocabulary, problems)
    operations = _compile_header_operations(resource, spec, scope.vocabulary, problems)
    own_fault = not sound or operations is None
    actions = tuple(
        action
        for index, action_spec in enumerate(spec.actions)
        if (action := _resolve_action(resource, index, action_spec, scope, problems)) is not None
    )
    if not sound:
        return None, problems, True
    if not actions and not operations:
        if not problems and not spec.actions:
            problems.append(
                Problem.of(resource, ("spec",), "No valid actions found in rule", expected="at least one action")
            )
        return None, problems, own_fault
    return Rule(resource.key, match, actions, operations or (), spec.sampling), problems, own_fault


def _compile_match(
    resource: Resource, spec: RuleSpec, vocabulary: Vocabulary, problems: list[Problem]
) -> tuple[Program | None, bool]:
    text = spec.match.strip()
    if text in ("", "true"):
        return None, True
    path: Path = ("spec", "match")
    try:
        program = compile_expr(text, vocabulary)
    except ExprError as exc:
        problems.append(Problem.of(resource, path, str(exc), expected=expected_at(exc, vocabulary)))
        return None, False
    if program.type is not ValueType.BOOL:
        message = f"expression '{text}' evaluated to type {program.type.name}, expected type BOOL"
        problems.append(Problem.of(resource, path, message))
        return None, False
    return program, True


def _meant(reference: str, known: Iterable[str]) -> str:
    """The full names of what a reference that leads nowhere may have meant; empty when nothing is like it."""
    wanted = short_name(reference).split(".", 1)[0]
    alike = set(difflib.get_close_matches(wanted, {short_name(name) for name in known}, n=3))
    return " or ".join(sorted(name for name in known if short_name(name) in alike)[:3])


def _find(reference: str, kind: str, namespace: str, sound: Container[str], broken: Container[str]) -> str | None:
    """The full name that a reference means among all resources, sound or not."""
    names = candidates(reference, kind, namespace)
    return next((name for name in names if name in sound or name in broken), None)


def _resolve_action(
    resource: Resource, index: int, spec: ActionSpec, scope: Scope, problems: list[Problem]
) -> Action | None:
    path: Path = ("spec", "actions", index)
    namespace = resource.key.namespace
    handler_name = _find(spec.handler, "handler", namespace, scope.handlers, scope.broken)
    if handler_name in scope.broken:
        problems.append(_left_out(resource, (*path, "handler"), f"handler '{spec.handler}'"))
        return None
    if handler_name is None:
        message = f"Handler not found: handler='{spec.handler}'"
        expected = _meant(spec.handler, scope.handlers) or "the name of a handler, name.namespace or name.kind"
        problems.append(Problem.of(resource, (*path, "handler"), message, expected=expected))
        return None
    handler = scope.handlers[handler_name]
    instances: dict[str, CompiledInstance] = {}
    excused = False
    for position, reference in enumerate(spec.instances):
        where = (*path, "instances", position)
        name = _find(reference, "instance", namespace, scope.instances, scope.broken)
        if name in scope.broken:
            problems.append(_left_out(resource, where, f"instance '{reference}'"))
            excused = True
            continue
        if name is None:
            expected = _meant(reference, scope.instances) or "the name of an instance, name.namespace or name.kind"
            problems.append(
                Problem.of(resource, where, f"Instance not found: instance='{reference}'", expected=expected)
            )
            continue
        instance = scope.instances[name]
        if name in instances:
            message = f"action specified the same instance multiple times: instance='{name}',"
            problems.append(Problem.of(resource, where, message, expected="each instance once"))
            continue
        if all(template.name != instance.template.name for template in handler.info.templates):
            message = (
                f"instance '{name}' is of template '{instance.template.name}' "
                f"which is not supported by handler '{handler_name}'"
            )
            supported = ", ".join(template.name for template in handler.info.templates)
            problems.append(Problem.of(resource, where, message, expected=f"an instance of {supported}"))
            continue
        instances[name] = instance
    if not instances:
        if not excused and not any(p.field.startswith(f"spec.actions[{index}]") for p in problems):
            expected = "at least one instance"
            problems.append(Problem.of(resource, (*path, "instances"), "No valid instances found", expected=expected))
        return None
    return Action(handler_name, tuple(instances.values()), spec.name)


def _left_out(resource: Resource, path: Path, what: str) -> Problem:
    message = f"{what} is wrong, so this is left out"
    return Problem.of(resource, path, message, severity=Severity.WARNING)


def _compile_header_operations(
    resource: Resource, spec: RuleSpec, vocabulary: Vocabulary, problems: list[Problem]
) -> tuple[HeaderOperation, ...] | None:
    """All operations of a rule, request before response; None when one is wrong, which costs the others too."""
    operations: list[HeaderOperation] = []
    before = len(problems)
    for on_request, field, templates in (
        (True, "requestHeaderOperations", spec.request_header_operations),
        (False, "responseHeaderOperations", spec.response_header_operations),
    ):
        for index, template in enumerate(templates):
            path: Path = ("spec", field, index)
            if not template.name:
                problems.append(
                    Problem.of(resource, (*path, "name"), "header name is missing", expected="a header name")
                )
            operations += _operations(resource, template, vocabulary, path, on_request, problems)
    return tuple(operations) if len(problems) == before else None


def _operations(
    resource: Resource,
    template: HeaderOperationTemplate,
    vocabulary: Vocabulary,
    path: Path,
    on_request: bool,
    problems: list[Problem],
) -> list[HeaderOperation]:
    kind: HeaderOperationKind = template.operation
    if kind is HeaderOperationKind.REMOVE:
        return [HeaderOperation(template.name, kind, None, on_request)]
    operations = []
    for index, value in enumerate(template.values):
        where = (*path, "values", index)
        try:
            program = compile_expr(value, vocabulary)
        except ExprError as exc:
            problems.append(Problem.of(resource, where, str(exc), expected=expected_at(exc, vocabulary)))
            continue
        if program.type is not ValueType.STRING:
            message = f"header operation value expression is not of string type: '{value}' is {program.type.name}"
            problems.append(Problem.of(resource, where, message, expected="an expression of type STRING"))
            continue
        operations.append(HeaderOperation(template.name, kind, program, on_request))
    return operations
