r"""Names made of dimensions: the part of Go's text/template that metric names need.

::

    template = { text | "{{" pipeline "}}" }
    pipeline = command { "|" command }           each command gets the former's result as its last argument
    command  = operand | ("or" | "printf") operand*
    operand  = ".dimension" | "\"text\"" | "`text`" | number | "(" pipeline ")"

Whatever else Go can say is an error when the configuration is read. What Go finds out while it runs a template (no
such dimension, arguments that are missing) is found out by a trial, `NameTemplate.fault`, when the handler is built.
Source: spec adapters 4.12.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

Render = Callable[[Mapping[str, str]], str]

_TOKEN: Final = re.compile(
    r"""[ \t\r\n]*(?: (?P<field>\.[^\W\d]\w*) | (?P<text>"(?:[^"\\\n]|\\["\\tn])*"|`[^`]*`)
    | (?P<number>-?[0-9]+) | (?P<word>[^\W\d]\w*) | (?P<sign>[|()]) | (?P<end>}}) )""",
    re.VERBOSE,
)
_VERB: Final = re.compile(r"%(?:(%)|(-?)([0-9]{0,3})(?:\.([0-9]{1,3}))?([svq]))")
_ESCAPES: Final = {'\\"': '"', "\\\\": "\\", "\\t": "\t", "\\n": "\n"}


class NameTemplateError(ValueError):
    """The text is no template that we understand."""


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """A template that parsed.

    Attributes:
        fields: The dimensions that it names.
        fault: What will fail whenever it is rendered, empty when nothing will.
        render: The name, of dimensions as texts; each of ``fields`` must be there.
    """

    fields: frozenset[str]
    fault: str
    render: Render

    def trial(self, dimensions: Collection[str]) -> str:
        """Why it cannot be rendered with dimensions of these names; empty when it can."""
        missing = sorted(self.fields - set(dimensions))
        return self.fault or (f"no dimension {', '.join(missing)}" if missing else "")


def parse_template(source: str) -> NameTemplate:
    """Parse.

    Raises:
        NameTemplateError: It says where and what.
    """
    return _Parser(source).template()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._fields: set[str] = set()
        self._fault = ""

    def template(self) -> NameTemplate:
        parts: list[Render] = []
        while self._at < len(self._source):
            start = self._source.find("{{", self._at)
            text = self._source[self._at : start if start >= 0 else len(self._source)]
            if text:
                parts.append(_constant(text))
            if start < 0:
                break
            self._at = start + 2
            parts.append(self._pipeline("end"))
        pieces = tuple(parts)
        return NameTemplate(
            frozenset(self._fields), self._fault, lambda values: "".join([piece(values) for piece in pieces])
        )

    def _pipeline(self, closing: str) -> Render:
        """Everything up to ``closing``, which is a kind of token or a sign."""
        result: Render | None = None
        while True:
            result, stop = self._command(result, closing)
            if stop != "|":
                return result

    def _command(self, piped: Render | None, closing: str) -> tuple[Render, str]:
        function, operands, stop = "", list[Render](), ""
        first = True
        while not stop:
            kind, text = self._next()
            if kind == "word" and first:
                if text not in ("or", "printf"):
                    self._fail(f"{text!r} is not understood here")
                function = text
            elif kind == "field":
                self._fields.add(text[1:])
                operands.append(_field(text[1:]))
            elif kind == "text":
                operands.append(_constant(_unquoted(text)))
            elif kind == "number":
                operands.append(_constant(str(int(text))))
            elif text == "(":
                operands.append(self._pipeline(")"))
            elif text == "|" or closing in (kind, text):
                stop = text
            else:
                self._fail(f"{text!r} is out of place")
            first = False
        if piped is not None:
            if not function:
                self._fail("a pipe must lead into or or printf")
            operands.append(piped)
        if function:
            return self._call(function, operands), stop
        if len(operands) != 1:
            self._fail("expected one value" if operands else "missing value")
        return operands[0], stop

    def _call(self, function: str, operands: list[Render]) -> Render:
        if not operands:
            self._fault = self._fault or f"{function} lacks an argument"
            return _constant("")
        if function == "or":
            return lambda values: next((text for operand in operands if (text := operand(values))), "")
        format_, arguments = operands[0], tuple(operands[1:])
        if not isinstance(format_, _Constant):
            self._fail("the format of printf must be a quoted text")
        pieces, verbs = _format(format_.text)
        if pieces is None:
            self._fail(f"printf: {format_.text!r} has verbs other than %s, %v, %q and %%")
        if verbs != len(arguments):
            self._fault = self._fault or f"printf has {verbs} verbs and {len(arguments)} values"
            return _constant("")
        return functools.partial(_printed, pieces, arguments)

    def _next(self) -> tuple[str, str]:
        token = _TOKEN.match(self._source, self._at)
        if token is None or token.lastgroup is None:
            if "}}" not in self._source[self._at :]:
                self._fail("unclosed action")
            self._fail("not understood")
        self._at = token.end()
        return token.lastgroup, token[token.lastgroup]

    def _fail(self, message: str) -> NoReturn:
        raise NameTemplateError(f"{message}, at character {self._at}")


@dataclass(frozen=True, slots=True)
class _Constant:
    text: str

    def __call__(self, values: Mapping[str, str]) -> str:
        return self.text


_constant: Final = _Constant


def _field(name: str) -> Render:
    return lambda values: values[name]


def _unquoted(token: str) -> str:
    return token[1:-1] if token[0] == "`" else re.sub(r"\\.", lambda m: _ESCAPES[m[0]], token[1:-1])


_Piece = tuple[str, bool, int, int | None, bool]
"""Text before a verb, then the verb: left-adjusted, width, precision, quoted."""


def _format(text: str) -> tuple[tuple[_Piece | str, ...] | None, int]:
    pieces: list[_Piece | str] = []
    verbs = position = 0
    before = ""
    while (start := text.find("%", position)) >= 0:
        verb = _VERB.match(text, start)
        if verb is None:
            return None, 0
        before += text[position:start]
        if verb[1]:
            before += "%"
        else:
            precision = int(verb[4]) if verb[4] else None
            pieces.append((before, bool(verb[2]), int(verb[3] or 0), precision, verb[5] == "q"))
            before, verbs = "", verbs + 1
        position = verb.end()
    return (*pieces, before + text[position:]), verbs


def _printed(pieces: tuple[_Piece | str, ...], arguments: tuple[Render, ...], values: Mapping[str, str]) -> str:
    out: list[str] = []
    rest = iter(arguments)
    for piece in pieces:
        if isinstance(piece, str):
            out.append(piece)
            continue
        before, left, width, precision, quote = piece
        text = next(rest)(values)[:precision]
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if quote else text
        out += [before, text.ljust(width) if left else text.rjust(width)]
    return "".join(out)
