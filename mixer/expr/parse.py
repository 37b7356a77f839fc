"""From text to tree. The only module that knows the parser library.

Three steps: the lexer and the grammar in ``grammar.lark`` take what Go's expression grammar takes, the newline
rule is applied between the two, and the transformer keeps the shapes that make sense here. It runs while the
parser reduces, so no step recurses, however deep the text nests.

Source: spec language 1 and 4.4.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, NoReturn

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from mixer.attributes import ValueType
from mixer.errors import ExprSyntaxError
from mixer.expr import literals
from mixer.expr.tree import Attribute, Call, Constant, Node, alternatives_of, operands

MAX_SOURCE_BYTES: Final = 64 * 1024
"""Longer expressions are refused unread."""

MAX_DEPTH: Final = 50
"""How deep calls and operators may nest; chains (``a || b || ...``) and else-chains of ``conditional`` count once."""

_BINARY: Final = {
    "||": "LOR", "&&": "LAND", "==": "EQ", "!=": "NEQ", "<": "LT", "<=": "LEQ", ">": "GT", ">=": "GEQ", "+": "ADD",
    "-": "SUB", "|": "OR", "^": "XOR", "*": "MUL", "/": "QUO", "%": "REM", "&": "AND",
}  # fmt: skip
_UNARY: Final = {"+": "ADD", "-": "SUB", "!": "NOT", "^": "XOR", "&": "AND"}

_BAD_SHAPE = "unexpected expression: {}"


@functools.lru_cache(maxsize=4096)
def parse(source: str) -> Node:
    """Read an expression.

    Raises:
        ExprSyntaxError: The text is no expression, or of a shape that has no meaning, or too large.
    """
    if len(source) > MAX_SOURCE_BYTES or len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        message = f"expression too long: more than {MAX_SOURCE_BYTES} bytes"
        raise ExprSyntaxError(message, source=source[:80], offset=0)
    _refuse_illegal_characters(source)
    text = f" {source[1:]}" if source.startswith("\ufeff") else source
    try:
        root: Node | _Refused = _grammar().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as fault:
        offset, detail = _explain(fault, source)
        _fail(source, offset, detail)
    except _MalformedError as fault:
        _fail(source, fault.offset, str(fault))
    return _inspected(root, source)


def _fail(source: str, offset: int, detail: str) -> NoReturn:
    line_start = source.rfind("\n", 0, offset) + 1
    line = source.count("\n", 0, offset) + 1
    column = len(source[line_start:offset].encode("utf-8", "surrogatepass")) + 1
    message = f"unable to parse expression '{source}': {line}:{column}: {detail}"
    raise ExprSyntaxError(message, source=source, offset=offset) from None


def _refuse_illegal_characters(source: str) -> None:
    if source.isprintable():
        return
    for offset, char in enumerate(source):
        if char == "\0":
            _fail(source, offset, "illegal character NUL")
        if char == "\ufeff" and offset:
            _fail(source, offset, "illegal byte order mark")
        if "\ud800" <= char <= "\udfff":
            _fail(source, offset, "illegal UTF-8 encoding")


# Tokens


class _NewlineRule:
    """Refuses a line break after an operand unless the expression ends there. Source: spec language 1.1."""

    always_accept = ("KEYWORD", "FOREIGN")
    _ends_operand: Final = frozenset({"IDENT", "INT", "FLOAT", "IMAG", "STRING", "RAWSTRING", "RUNE", "_RPAR", "_RSQB"})

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        previous: Token | None = None
        for token in stream:
            if previous is not None and previous.type in self._ends_operand and token.line != previous.end_line:
                yield Token("NEWLINE", "newline", start_pos=previous.end_pos)
            if token.type == "IDENT" and not token.isascii() and not _is_identifier(token):
                token = Token.new_borrow_pos("FOREIGN", token.value, token)
            previous = token
            yield token


def _is_identifier(name: str) -> bool:
    return all(c == "_" or c.isalpha() or unicodedata.category(c) == "Nd" for c in name)


@functools.cache
def _grammar() -> Lark:
    return Lark.open(
        "grammar.lark",
        rel_to=__file__,
        parser="lalr",
        lexer="basic",
        postlex=_NewlineRule(),
        transformer=_Shapes(),
        maybe_placeholders=False,
    )


# Shapes


class _Refused(NamedTuple):
    """A shape without meaning; it stands in the tree until the whole text is known to be grammatical."""

    message: str
    offset: int


class _MalformedError(Exception):
    """A number that is not even grammatical; raised from within the parser, so what comes first is reported."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class _Chain(NamedTuple):
    """``base.name.name``, not yet known to be a name, or a method about to be called.

    ``base`` is None when the chain starts with an identifier, which then is the first of ``names``.
    """

    base: Node | _Refused | None
    names: list[Token]
    indexed: bool = False
    """Whether the base is an index expression, of which no method can be called."""


class _Operand(NamedTuple):
    """A finished node, with what a following ``.method()`` has to know about it."""

    node: Node | _Refused
    indexed: bool = False


@v_args(inline=True)
class _Shapes(Transformer[Token, Any]):
    """Builds the tree bottom-up. Source: spec language 1.6."""

    def start(self, node: Node) -> Node:
        return node

    def binary(self, left: Node, sign: Token, right: Node) -> Node:
        return Call(_BINARY.get(sign, ""), None, (left, right), sign.start_pos or 0)

    def unary(self, sign: Token, operand: Node) -> Node:
        return Call(_UNARY.get(sign, ""), None, (operand,), sign.start_pos or 0)

    def dereference(self, sign: Token, operand: Node) -> _Refused:
        return _Refused(_BAD_SHAPE.format("'*' needs a left operand"), sign.start_pos or 0)

    def refuse(self, *parts: object) -> _Operand:
        sign = next(part for part in parts if isinstance(part, Token) and part.type in ("LSQB", "LPAR"))
        what = {"[": "a slice or a list of keys", "(": "a type assertion"}[sign]
        return _Operand(_Refused(_BAD_SHAPE.format(f"{what} has no meaning here"), sign.start_pos or 0))

    def finish(self, operand: _Operand | _Chain) -> Node | _Refused:
        return _finished(operand)

    def name(self, token: Token) -> _Chain:
        return _Chain(None, [token])

    def select(self, operand: _Operand | _Chain, name: Token) -> _Chain:
        if isinstance(operand, _Chain):
            operand.names.append(name)  # in place: nothing else holds it, and long chains stay linear
            return operand
        return _Chain(operand.node, [name], operand.indexed)

    def index(self, operand: _Operand | _Chain, bracket: Token, key: Node) -> _Operand:
        return _Operand(Call("INDEX", None, (_node(_finished(operand)), key), bracket.start_pos or 0), indexed=True)

    def args(self, *args: Node) -> list[Node]:
        return list(args)

    def call(self, callee: _Operand | _Chain, paren: Token, args: list[Node] | None = None) -> _Operand:
        arguments = tuple(args or ())
        if isinstance(callee, _Operand):
            message = _BAD_SHAPE.format("only a function or a method, by its name, can be called")
            return _Operand(_Refused(message, paren.start_pos or 0))
        *front, method = callee.names
        offset = method.start_pos or 0
        if callee.base is None:
            receiver = Attribute(".".join(front), front[0].start_pos or 0) if front else None
            return _Operand(Call(str(method), receiver, arguments, offset))
        if callee.indexed:
            message = _BAD_SHAPE.format(f"put the lookup in parentheses to call its method: (m[k]).{method}()")
            return _Operand(_Refused(message, offset))
        if front:
            return _Operand(_Refused(_BAD_SHAPE.format("a selector needs a plain name on its left"), offset))
        return _Operand(Call(str(method), _node(callee.base), arguments, offset))

    def group(self, paren: Token, node: Node) -> _Operand:
        return _Operand(node)

    def integer(self, token: Token) -> _Operand:
        return _literal(literals.integer, token)

    def double(self, token: Token) -> _Operand:
        return _literal(literals.double, token)

    def imaginary(self, token: Token) -> _Operand:
        return _literal(literals.imaginary, token)

    def string(self, token: Token) -> _Operand:
        return _literal(literals.string, token)


def _literal(read: Any, token: Token) -> _Operand:
    offset = token.start_pos or 0
    try:
        return _Operand(read(str(token), offset))
    except literals.LiteralError as fault:
        return _Operand(_Refused(str(fault), offset))
    except literals.MalformedNumberError as fault:
        raise _MalformedError(str(fault), offset + fault.index) from None


def _finished(operand: _Operand | _Chain) -> Node | _Refused:
    if isinstance(operand, _Operand):
        return operand.node
    offset = operand.names[0].start_pos or 0
    if operand.base is not None:
        return _Refused(_BAD_SHAPE.format("a selector needs a plain name on its left"), offset)
    lowered = operand.names[0].lower()
    if len(operand.names) == 1 and lowered in ("true", "false"):
        return Constant(lowered == "true", ValueType.BOOL, lowered, offset)
    return Attribute(".".join(operand.names), offset)


def _node(node: Node | _Refused) -> Node:
    return node  # type: ignore[return-value]  # a refusal is found by _inspected before anyone sees the tree


def _inspected(root: Node | _Refused, source: str) -> Node:
    """The tree, once it is known to hold no refusal and not to nest too deeply."""
    pending: list[tuple[Node | _Refused | None, int]] = [(root, 1)]
    too_deep: int | None = None
    while pending:
        node, depth = pending.pop()
        if isinstance(node, _Refused):
            raise ExprSyntaxError(node.message, source=source, offset=node.offset)
        if not isinstance(node, Call):
            continue
        if depth > MAX_DEPTH and too_deep is None:
            too_deep = node.offset
        inner: list[Node] = []
        if node.name == "conditional" and node.receiver is None:
            links = alternatives_of(node)
            for link in links[:-1]:
                inner += link.args[:2]
            inner += links[-1].args
        else:
            inner += operands(node)
        if node.receiver is not None:
            inner.insert(0, node.receiver)
        pending.extend((child, depth + 1) for child in reversed(inner))
    if too_deep is not None:
        message = f"expression nested too deeply: more than {MAX_DEPTH} levels"
        raise ExprSyntaxError(message, source=source, offset=too_deep)
    return _node(root)


# Explanations


def _explain(fault: UnexpectedInput, source: str) -> tuple[int, str]:
    """Where the grammar broke, and in human words what should have been there."""
    if isinstance(fault, UnexpectedCharacters):
        offset = fault.pos_in_stream or 0
        char = source[offset]
        if char in "\"'`":
            name = {'"': "string", "'": "character", "`": "raw string"}[char]
            return offset, f"{name} literal not terminated, or with an escape that does not exist"
        if source.startswith("/*", offset):
            return offset, "comment not terminated"
        return offset, f"illegal character U+{ord(char):04X} {char!r}"
    if not isinstance(fault, UnexpectedToken):
        return 0, "expected an expression"
    token: Token = fault.token
    wanted = _wanted(fault)
    if token.type == "$END":  # its position is that of the last token
        return len(source), f"expected {wanted}, found end of expression"
    offset = token.start_pos or 0
    if token == "=":
        return offset, "expected '==', found '='"
    if token.type == "NEWLINE":
        return offset, f"expected {wanted}, found a line break (only an operator, '(', '[', ',' or '.' may end a line)"
    if token.type == "KEYWORD":
        return offset, f"expected {wanted}, found '{token}' (a reserved word, which no name may contain)"
    if token.type == "IDENT" and token.lower() in ("and", "or", "not"):
        sign = {"and": "&&", "or": "||", "not": "!"}[token.lower()]
        return offset, f"expected {wanted}, found '{token}' (the operator is written {sign})"
    return offset, f"expected {wanted}, found '{token}'"


def _wanted(fault: UnexpectedToken) -> str:
    accepted = fault.accepts or set()
    if "INT" in accepted:
        return "a value (a name, a literal, a call or '(')"
    if accepted <= {"IDENT", "LPAR"}:
        return "a name after '.'"
    words = ["an operator"]
    words += [sign for name, sign in (("_COMMA", "','"), ("_RPAR", "')'"), ("_RSQB", "']'")) if name in accepted]
    if "$END" in accepted:
        words.append("the end")
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
