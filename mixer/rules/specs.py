"""The specs of Mixer's own kinds, as strict models. Source: spec runtime 1.4 to 1.9."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixer.attributes import ValueType
from mixer.store.protojson import DurationField, Int64, ProtoEnum, ProtoModel, Uint32, enum_field


class HeaderOperationKind(ProtoEnum):
    """What to do with a header."""

    REPLACE = 0
    REMOVE = 1
    APPEND = 2


class HeaderOperationTemplate(ProtoModel):
    """An operation on one header; each value is an expression of type STRING."""

    name: str = ""
    values: list[str] = []
    operation: enum_field(HeaderOperationKind) = HeaderOperationKind.REPLACE  # type: ignore[valid-type]


class PercentDenominator(ProtoEnum):
    """What a sampling percentage's numerator counts."""

    HUNDRED = 0
    TEN_THOUSAND = 1


class FractionalPercent(ProtoModel):
    """A share, in hundredths or ten-thousandths."""

    numerator: Uint32 = 0
    denominator: enum_field(PercentDenominator) = PercentDenominator.HUNDRED  # type: ignore[valid-type]


class RandomSampling(ProtoModel):
    """Sampling by chance; the attribute's number, where given, replaces the numerator."""

    attribute_expression: str = ""
    percent_sampled: FractionalPercent = FractionalPercent()
    use_independent_randomness: bool = False


class RateLimitSampling(ProtoModel):
    """Sampling by count: so many of a period, then one of every ``sampling_rate``."""

    sampling_duration: DurationField | None = None
    max_unsampled_entries: Int64 = 0
    sampling_rate: Int64 = 0


class Sampling(ProtoModel):
    """Which of the matching requests a rule acts upon; both parts must select. Source: spec runtime 4.9."""

    random: RandomSampling | None = None
    rate_limit: RateLimitSampling | None = None


class ActionSpec(ProtoModel):
    """One handler and the instances that it gets."""

    handler: str = ""
    instances: list[str] = []
    name: str = ""


class RuleSpec(ProtoModel):
    """When a request matches: these actions, and these header operations."""

    match: str = ""
    actions: list[ActionSpec] = []
    request_header_operations: list[HeaderOperationTemplate] = []
    response_header_operations: list[HeaderOperationTemplate] = []
    sampling: Sampling | None = None


class InstanceSpec(ProtoModel):
    """Expressions that build an instance of a template."""

    name: str = ""
    compiled_template: str = ""
    template: str = ""
    params: Any = None
    attribute_bindings: dict[str, str] = {}


class HandlerSpec(ProtoModel):
    """An adapter and its params; ``connection`` is for out-of-process adapters only."""

    name: str = ""
    compiled_adapter: str = ""
    adapter: str = ""
    params: Any = None
    connection: dict[str, Any] | None = None


class AttributeInfo(ProtoModel):
    """What a manifest says of one attribute."""

    description: str = ""
    value_type: enum_field(ValueType) = ValueType.VALUE_TYPE_UNSPECIFIED  # type: ignore[valid-type]


class AttributeManifestSpec(ProtoModel):
    """Names and types of attributes."""

    revision: str = ""
    name: str = ""
    attributes: Mapping[str, AttributeInfo] = {}


class TemplateSpec(ProtoModel):
    """A template of an out-of-process adapter: a base64 FileDescriptorSet."""

    descriptor: str = ""


class AdapterSpec(ProtoModel):
    """An out-of-process adapter."""

    name: str = ""
    description: str = ""
    templates: list[str] = []
    config: str = ""
    session_based: bool = False
