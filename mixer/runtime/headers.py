"""Header operations of matching rules, for a request that may pass. Source: spec runtime 4.6."""

from __future__ import annotations

from collections.abc import Callable

from mixer.api.answer import AppliedHeader, RouteDirective
from mixer.attributes import AttributeBag
from mixer.errors import EvalError
from mixer.rules.routes import Conditional, Directive


def header_directive(
    directives: Conditional[Directive], bag: AttributeBag, on_error: Callable[[Exception], None]
) -> RouteDirective | None:
    """The operations in the order of the rules; None when there are none.

    An operation whose value cannot be evaluated, or is empty, is passed over.
    """
    request: list[AppliedHeader] = []
    response: list[AppliedHeader] = []
    for position in directives.index.matching(bag.lookup, on_error):
        directive = directives.things[position]
        for operation in directive.operations:
            value = ""
            if operation.value is not None:
                try:
                    value = str(operation.value.evaluate(bag))
                except EvalError:
                    continue
                if not value:
                    continue
            (request if operation.on_request else response).append(AppliedHeader(operation.name, value, operation.kind))
    if not request and not response:
        return None
    return RouteDirective(tuple(request), tuple(response))
