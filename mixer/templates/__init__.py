"""Templates: one module for each kind of instance, and the table of them all."""

from collections.abc import Mapping
from types import MappingProxyType

from mixer.templates.apikey import APIKEY
from mixer.templates.authorization import AUTHORIZATION
from mixer.templates.base import Field, InferredTypes, Instance, Template, Variety
from mixer.templates.edge import EDGE
from mixer.templates.kubernetes import KUBERNETES
from mixer.templates.listentry import LISTENTRY
from mixer.templates.logentry import LOGENTRY
from mixer.templates.metric import METRIC
from mixer.templates.nothing import CHECKNOTHING, REPORTNOTHING
from mixer.templates.quota import QUOTA
from mixer.templates.tracespan import TRACESPAN

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        template.name: template
        for template in (
            APIKEY,
            AUTHORIZATION,
            CHECKNOTHING,
            EDGE,
            KUBERNETES,
            LISTENTRY,
            LOGENTRY,
            METRIC,
            QUOTA,
            REPORTNOTHING,
            TRACESPAN,
        )
    }
)
"""Every compiled-in template, by name."""

__all__ = [
    "APIKEY",
    "AUTHORIZATION",
    "CHECKNOTHING",
    "EDGE",
    "KUBERNETES",
    "LISTENTRY",
    "LOGENTRY",
    "METRIC",
    "QUOTA",
    "REPORTNOTHING",
    "TEMPLATES",
    "TRACESPAN",
    "Field",
    "InferredTypes",
    "Instance",
    "Template",
    "Variety",
]
