"""The series of a metric as text, for pages too large to be made of samples.

prometheus-client's encoders escape and sort the labels of every sample. Here that is done once for a cell, and its
lines share the outcome. What a line looks like is not decided here: the encoder in use is given one sample of each
name with empty label values, and the values are set into what comes back. So any format and any escaping of names
that it knows is written as it would write it.

Rendering may run in a thread while cells are written: the counts of a histogram are those of one moment, of which
its count is the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from mixer.adapters.base import Encode
from mixer.adapters.prometheus.series import AnySeries, DistributionSeries, GaugeSeries, LabelValues

PIECE_CHARS: Final = 64 * 1024
"""A piece is given away once it has so much text."""

_LINES: Final = 64
"""Lines of one cell that are made at once; few metrics have as many bounds."""

_PLAIN_BELOW: Final = 1_000_000
"""Whole numbers from here up are printed with an exponent."""

_NEEDING_ESCAPE: Final = ("\\", "\n", '"')
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_SLOT: Final = '"%s"'
_number: Final[Callable[[float], str]] = floatToGoString


class _Only:
    """Looks like a registry to an encoder: one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def render(series: AnySeries, family: Metric, bounds: Sequence[str], encode: Encode) -> Iterator[bytes]:
    """A family with all its series, in pieces, without what the format puts at the end of a page.

    Args:
        series: Where the numbers are.
        family: The family as the encoder wants it, without samples; of no use afterwards.
        bounds: Those of a distribution as they are printed, the infinite one included.
        encode: An encoder of prometheus-client's.
    """
    definition = series.definition
    if isinstance(series, DistributionSeries):
        names, extra = [definition.name + suffix for suffix in ("_bucket", "_sum", "_count")], "le"
    else:
        names, extra = [definition.name], ""
    blank = dict.fromkeys(definition.labels, "")
    family.samples = [Sample(name, {**blank, "le": ""} if name == names[0] and extra else blank, 0.0) for name in names]
    lines = encode(_Only(family)).decode().split("\n")
    shapes = [line for line in lines if line and not line.startswith("#")]
    head = "".join(f"{line}\n" for line in lines[: lines.index(shapes[0])])
    values_of = _values_of(definition.labels)
    if isinstance(series, DistributionSeries):
        before = sum(label < extra for label in definition.labels)
        texts = _histogram_texts(series, bounds, _HistogramShape.of(shapes, before), values_of)
    else:
        texts = _scalar_texts(series, _split(shapes[0]), values_of)
    return _pieces(head, texts)


def _pieces(head: str, texts: Iterator[str]) -> Iterator[bytes]:
    gathered, chars = [head], len(head)
    for text in texts:
        gathered.append(text)
        chars += len(text)
        if chars >= PIECE_CHARS:
            yield "".join(gathered).encode()
            gathered, chars = [], 0
    if gathered:
        yield "".join(gathered).encode()


def _values_of(labels: Sequence[str]) -> Callable[[LabelValues], LabelValues]:
    """What makes of a key the escaped values in the order of sorted labels."""
    order = sorted(range(len(labels)), key=labels.__getitem__)
    is_sorted = order == list(range(len(labels)))

    def values(key: LabelValues) -> LabelValues:
        if not is_sorted:
            key = tuple([key[index] for index in order])
        joined = "".join(key)
        for special in _NEEDING_ESCAPE:
            if special in joined:
                return tuple([value.translate(_ESCAPES) for value in key])
        return key

    return values


def _split(shape: str) -> list[str]:
    """What stands between the values of labels in a line, the last one being what comes before the number."""
    return shape.removesuffix(_number(0.0)).split('""')


def _scalar_texts(
    series: GaugeSeries, parts: list[str], values_of: Callable[[LabelValues], LabelValues]
) -> Iterator[str]:
    line = _SLOT.join(parts) + "%s\n"
    for key, cell in series.snapshot():
        yield line % (*values_of(key), _number(cell.value))


@dataclass(frozen=True, slots=True)
class _HistogramShape:
    """Parts of a histogram's lines, with ``%s`` for label values.

    Attributes:
        until_le: A bucket's line as far as the value of ``le``.
        after_le: From there to the number.
        sum: The beginning of the line of the sum.
        count: And of that of the count.
        rest: What follows either beginning, up to the number.
        before: How many labels stand before ``le``.
    """

    until_le: str
    after_le: str
    sum: str
    count: str
    rest: str
    before: int

    @classmethod
    def of(cls, shapes: Sequence[str], before: int) -> _HistogramShape:
        bucket, total, count = map(_split, shapes)
        return cls(
            until_le=_SLOT.join(bucket[: before + 1]),
            after_le=_SLOT.join(bucket[before + 1 :]),
            sum=total[0],
            count=count[0],
            rest=_SLOT.join(["", *total[1:]]) if len(total) > 1 else "",
            before=before,
        )


def _histogram_texts(
    series: DistributionSeries,
    bounds: Sequence[str],
    shape: _HistogramShape,
    values_of: Callable[[LabelValues], LabelValues],
) -> Iterator[str]:
    quoted = [f'"{bound}"' for bound in bounds]
    for key, cell in series.snapshot():
        total, counts = cell.sum, list(accumulate(cell.counts[:]))
        values = values_of(key)
        head, tail = shape.until_le % values[: shape.before], shape.after_le % values[shape.before :]
        texts = (
            [f"{count}.0" for count in counts] if counts[-1] < _PLAIN_BELOW else [_number(count) for count in counts]
        )
        for at in range(0, len(quoted), _LINES):
            until = at + _LINES
            yield "".join(
                [f"{head}{bound}{tail}{text}\n" for bound, text in zip(quoted[at:until], texts[at:until], strict=True)]
            )
        rest = shape.rest % values
        yield f"{shape.sum}{rest}{_number(total)}\n{shape.count}{rest}{texts[-1]}\n"
