"""What a policy sees of an authorization instance, as JSON. Source: spec adapters 4.11, "Input document"."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mixer.attributes import Duration, Timestamp
from mixer.attributes.values import format_double, format_ip
from mixer.templates.authorization import Action, AuthorizationInstance, Subject


def input_document(instance: AuthorizationInstance) -> str:
    """The input document. Empty texts and maps are left out; a part that is not configured is an empty object."""
    return json.dumps({"action": _action(instance.action), "subject": _subject(instance.subject)})


def _action(action: Action | None) -> dict[str, Any]:
    if action is None:
        return {}
    texts = {
        "namespace": action.namespace,
        "service": action.service,
        "method": action.method,
        "path": action.path,
    }
    return _present({**texts, "properties": _properties(action.properties)})


def _subject(subject: Subject | None) -> dict[str, Any]:
    if subject is None:
        return {}
    groups = [subject.groups] if subject.groups else []
    return _present({"user": subject.user, "groups": groups, "properties": _properties(subject.properties)})


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _properties(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Addresses, times and durations become texts, and numbers that JSON lacks, too."""
    if isinstance(value, Duration | Timestamp):
        return str(value)
    if isinstance(value, bytes):
        return format_ip(value)
    if isinstance(value, float) and not math.isfinite(value):
        return format_double(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value
