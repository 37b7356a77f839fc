"""checknothing and reportnothing: instances without content. Source: spec adapters 2.5 and 2.6."""

from __future__ import annotations

from dataclasses import dataclass

from mixer.templates.base import Template, Variety


@dataclass(slots=True)
class CheckNothingInstance:
    """Asks a handler for its opinion of any request at all."""

    name: str


@dataclass(slots=True)
class ReportNothingInstance:
    """Tells a handler that there was a request."""

    name: str


CHECKNOTHING = Template(name="checknothing", variety=Variety.CHECK, instance_type=CheckNothingInstance)
REPORTNOTHING = Template(name="reportnothing", variety=Variety.REPORT, instance_type=ReportNothingInstance)
