"""The compiled decoder; it is there only where the package was built with Cython and a C compiler."""

from mixer.api.wanted import Wanted
from mixer.attributes import AttributeValue

def read_report(data: bytes, wanted: Wanted | None) -> tuple[bool, list[dict[str, AttributeValue]], str] | None:
    """Whether the request is a delta, the attributes of each record, deduplication id; None when Python has to look at it.

    Of a delta, each record has what it says itself, and all of it, wanted or not.
    """

def read_check(
    data: bytes, wanted: Wanted | None
) -> tuple[dict[str, AttributeValue], int, str, dict[str, tuple[int, bool]], bool] | None:
    """Attributes, global word count, deduplication id, amount and best effort of each quota, quotas only; None as above."""
