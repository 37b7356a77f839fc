"""From a checked tree to Python source: any expression as one Python expression.

An expression is evaluated some hundred thousand times a second, so ordinary things (reading an attribute, ``|``,
``&&``, comparing, looking up a key) cost no Python call of ours: the generated text does them in place, with
assignment expressions for what is used twice. Two ways of generating mirror the two ways of evaluating: a node
that is *needed* (absence is an error) becomes an expression of its value; a node that is *tried* (it stands left
of ``|``) becomes a condition that, when true, has put the value into a variable.

Long chains come out flat, since Python's parser nests some hundred levels and no more.

Source: spec language 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mixer.attributes import ABSENT, Duration, Timestamp, ValueType
from mixer.errors import EvalError, ExprTypeError
from mixer.expr import netnames, regex, runtime
from mixer.expr.functions import ORDERING
from mixer.expr.tree import Attribute, Call, Constant, Node, alternatives_of, operands, walk
from mixer.expr.typecheck import static_type

_TERNARY, _OR, _AND, _COMPARE, _SUM, _ATOM = range(6)

_TEXTS: Final = frozenset({ValueType.STRING, ValueType.DNS_NAME, ValueType.EMAIL_ADDRESS, ValueType.URI})

_CHECKS: Final[Mapping[ValueType, tuple[str, str]]] = {
    **dict.fromkeys(_TEXTS, ("str", "as_string")),
    ValueType.INT64: ("int", "as_int"),
    ValueType.DOUBLE: ("float", "as_double"),
    ValueType.BOOL: ("bool", "as_bool"),
    ValueType.DURATION: ("Duration", "as_duration"),
}
"""Class and slow path of the types that are checked when an attribute is read. Source: spec language 5.2."""

_FLAT_FROM: Final = 16
"""Chains that Python has no flat form for get a flattened one from this length on."""

_HELPERS: Final = {
    "ABSENT": ABSENT,
    "Duration": Duration,
    "Timestamp": Timestamp,
    "MAP_CLASSES": runtime.MAP_CLASSES,
    **{
        function.__name__: function
        for function in (
            runtime.absent, runtime.as_string, runtime.as_int, runtime.as_double, runtime.as_bool,
            runtime.as_duration, runtime.as_map, runtime.bad_instants, runtime.ips_equal, runtime.ip_keys,
            runtime.maps_equal, runtime.as_bytes, runtime.add_ints, runtime.add_durations, runtime.add_doubles,
            runtime.join_raw, runtime.size, runtime.match, runtime.match_raw, runtime.starts_with_raw,
            runtime.ends_with_raw, runtime.to_lower, runtime.choose, regex.search, netnames.dns_names_equal,
            netnames.emails_equal, netnames.uris_equal,
        )
    },
}  # fmt: skip

_CONVERSIONS: Final[Mapping[str, Callable[[str], object]]] = {
    "ip": netnames.ip,
    "timestamp": netnames.timestamp,
    "dnsName": netnames.dns_name,
    "email": netnames.email,
    "uri": netnames.uri,
}
_NAME_EQUALITY: Final = {
    ValueType.DNS_NAME: "dns_names_equal",
    ValueType.EMAIL_ADDRESS: "emails_equal",
    ValueType.URI: "uris_equal",
    ValueType.IP_ADDRESS: "ips_equal",
    ValueType.STRING_MAP: "maps_equal",
}


class _Code(NamedTuple):
    """A piece of Python and how tightly its outermost operator binds."""

    text: str
    level: int

    def within(self, level: int) -> str:
        """The text, in parentheses where something that binds at ``level`` surrounds it."""
        return self.text if self.level >= level else f"({self.text})"


def read_from_bag(name: str) -> str:
    """The default way to read an attribute: ``get("name", ABSENT)``, with ``get`` the bag's ``lookup``."""
    return f"get({name!a}, ABSENT)"


class CodeBuilder:
    """Generates one Python function that may evaluate many expressions.

    The texts that `expression` gives belong together in one function: their temporaries are local variables of
    it, with names that start with ``_t`` and are unique within the builder; so they may stand neither in a
    comprehension nor at module level. Names that start with ``_c`` are bound objects.

    Args:
        vocabulary: The types of the attributes; every expression must have passed `typecheck` with it.
        read: Python text that reads an attribute, giving its value or ``ABSENT``. When the text is a mere
            name (the caller has read the attribute into a local variable), no temporary is made for it.
    """

    def __init__(self, vocabulary: Mapping[str, ValueType], *, read: Callable[[str], str] = read_from_bag) -> None:
        self._vocabulary = vocabulary
        self._read = read
        self._namespace: dict[str, object] = dict(_HELPERS)
        self._bound: dict[int, str] = {}
        self._temporaries = 0
        self._raw = False

    def expression(self, node: Node) -> str:
        """Python text, in parentheses where need be, whose value is that of the expression.

        Evaluating it raises EvalError, if anything.
        """
        self._raw = any(
            isinstance(n, Constant) and isinstance(n.value, str) and not regex.is_text(n.value) for n in walk(node)
        )
        return self._need(node).within(_ATOM)

    def bind(self, value: object) -> str:
        """A name for an object, for use in the function's body."""
        name = self._bound.get(id(value))
        if name is None:
            name = f"_c{len(self._bound)}"
            self._bound[id(value)] = name
            self._namespace[name] = value
        return name

    def temporary(self) -> str:
        """The name of a local variable that nothing else uses."""
        self._temporaries += 1
        return f"_t{self._temporaries}"

    def function(self, name: str, params: Sequence[str], body_lines: Sequence[str]) -> Callable[..., Any]:
        """Compile a function of these lines, which are not indented yet and see everything that was bound.

        Raises:
            ExprTypeError: An expression in it is beyond what Python's own compiler can take.
        """
        lines = [f"def {name}({', '.join(params)}):", *(f"    {line}" for line in body_lines)]
        source = "\n".join(lines)
        namespace = dict(self._namespace)
        try:
            exec(compile(source, f"<mixer expression {name}>", "exec"), namespace)
        except (MemoryError, RecursionError, SyntaxError) as fault:
            raise ExprTypeError("expression nested too deeply", source="", offset=0) from fault
        made = namespace[name]
        assert callable(made)
        return made

    # Needed: absence is an error

    def _type(self, node: Node) -> ValueType:
        return static_type(node, self._vocabulary)

    def _need(self, node: Node) -> _Code:
        if isinstance(node, Constant):
            return self._constant(node)
        if isinstance(node, Attribute):
            return self._attribute(node)
        return _CALLS[node.name](self, node)

    def _constant(self, node: Constant) -> _Code:
        if isinstance(node.value, Duration):
            return _Code(self.bind(node.value), _ATOM)
        text = ascii(node.value)
        return _Code(text, _ATOM if isinstance(node.value, str | bool) else _SUM)

    def _value_of(self, text: str) -> tuple[str, str]:
        """A name for the value of ``text``: one text for its first use, which assigns it, and one for later uses."""
        if text.isidentifier():
            return text, text
        name = self.temporary()
        return f"({name} := {text})", name

    def _attribute(self, node: Attribute) -> _Code:
        first, value = self._value_of(self._read(node.name))
        name = ascii(node.name)
        check = _CHECKS.get(self._vocabulary[node.name])
        if check is None:
            return _Code(f"{value} if {first} is not ABSENT else absent({name})", _TERNARY)
        kind, convert = check
        return _Code(f"{value} if {first}.__class__ is {kind} else {convert}({value}, {name})", _TERNARY)

    def _map(self, node: Node) -> str:
        """A node of type STRING_MAP, for a lookup in it."""
        if isinstance(node, Attribute):
            first, value = self._value_of(self._read(node.name))
            name = ascii(node.name)
        elif isinstance(node, Call) and node.name == "emptyStringMap":
            return self._need(node).text
        else:
            first, value = self._value_of(self._need(node).within(_TERNARY))
            name = "''"
        return f"({value} if {first}.__class__ in MAP_CLASSES else as_map({value}, {name}))"

    def _index(self, node: Call) -> _Code:
        container, key = node.args
        return _Code(f"{self._map(container)}.get({self._need(key).text}, '')", _ATOM)

    def _or(self, node: Call) -> _Code:
        target = self.temporary()
        tried, last = self._alternatives(node)
        if not tried:
            return self._need(last)
        conditions = [self._try(alternative, target).within(_OR) for alternative in tried]
        return _Code(f"{target} if {' or '.join(conditions)} else {self._need(last).within(_TERNARY)}", _TERNARY)

    def _alternatives(self, node: Call) -> tuple[list[Node], Node]:
        """The alternatives that can be absent, and the one after them; what follows that one is dead."""
        flat: list[Node] = []
        pending: list[Node] = [node]
        while pending:
            alternative = pending.pop()
            if isinstance(alternative, Call) and alternative.name == "OR":
                pending.extend(reversed(operands(alternative)))
            else:
                flat.append(alternative)
        for i, alternative in enumerate(flat):
            if not _can_be_absent(alternative):
                return flat[:i], alternative
        return flat[:-1], flat[-1]

    def _and(self, node: Call) -> _Code:
        return _Code(" and ".join(self._need(term).within(_AND + 1) for term in operands(node)), _AND)

    def _either(self, node: Call) -> _Code:
        return _Code(" or ".join(self._need(term).within(_OR + 1) for term in operands(node)), _OR)

    def _conditional(self, node: Call) -> _Code:
        links = alternatives_of(node)
        otherwise = self._need(links[-1].args[2])
        pairs = [(self._need(link.args[0]), self._need(link.args[1])) for link in links]
        if len(pairs) < _FLAT_FROM:
            steps = "".join(f"{value.within(_OR)} if {test.within(_OR)} else " for test, value in pairs)
            return _Code(steps + otherwise.text, _TERNARY)
        steps = "".join(f"{test.within(_AND + 1)} and ({value.text},) or " for test, value in pairs)
        return _Code(f"({steps}({otherwise.text},))[0]", _ATOM)

    def _equal(self, node: Call) -> _Code:
        negated = node.name == "NEQ"
        kind = self._type(node.args[0])
        if kind is ValueType.TIMESTAMP:
            return self._instants(node, "!=" if negated else "==")
        left, right = (self._need(arg) for arg in node.args)
        helper = _NAME_EQUALITY.get(kind)
        if helper is None:
            return _Code(f"{left.within(_SUM)} {'!=' if negated else '=='} {right.within(_SUM)}", _COMPARE)
        call = f"{helper}({left.text}, {right.text})"
        return _Code(f"{call} is False", _COMPARE) if negated else _Code(call, _ATOM)

    def _ordered(self, node: Call) -> _Code:
        sign = ORDERING[node.name]
        kind = self._type(node.args[0])
        if kind is ValueType.TIMESTAMP:
            return self._instants(node, sign)
        left, right = (self._need(arg) for arg in node.args)
        if kind is ValueType.IP_ADDRESS:
            pair = self.temporary()
            return _Code(f"({pair} := ip_keys({left.text}, {right.text}))[0] {sign} {pair}[1]", _COMPARE)
        if self._raw and kind in _TEXTS:
            return _Code(f"as_bytes({left.text}) {sign} as_bytes({right.text})", _COMPARE)
        return _Code(f"{left.within(_SUM)} {sign} {right.within(_SUM)}", _COMPARE)

    def _instants(self, node: Call, sign: str) -> _Code:
        """A comparison of instants: both sides are evaluated before either is checked to be one."""
        tests: list[str] = []
        values: list[str] = []
        for arg in node.args:
            first, value = self._value_of(self._need(arg).text)
            tests.append(f"({first}.__class__ is Timestamp)")
            values.append(value)
        left, right = values
        return _Code(f"{left} {sign} {right} if {' & '.join(tests)} else bad_instants({left}, {right})", _TERNARY)

    def _add(self, node: Call) -> _Code:
        terms = [self._need(term) for term in operands(node)]
        kind = self._type(node)
        arguments = ", ".join(term.text for term in terms)
        if kind is ValueType.DURATION:
            return _Code(f"add_durations({arguments})", _ATOM)
        short = len(terms) < _FLAT_FROM
        total = " + ".join(term.within(_SUM + 1) for term in terms)
        if kind is ValueType.INT64:
            if not short:
                return _Code(f"add_ints({arguments})", _ATOM)
            first, value = self._value_of(total)
            return _Code(
                f"{value} if -0x8000000000000000 <= {first} < 0x8000000000000000 else add_ints({value})", _TERNARY
            )
        if kind is ValueType.DOUBLE:
            return _Code(total, _SUM) if short else _Code(f"add_doubles({arguments})", _ATOM)
        if self._raw:
            return _Code(f"join_raw({arguments})", _ATOM)
        return _Code(total, _SUM) if short else _Code(f"''.join(({arguments},))", _ATOM)

    # Functions

    def _conversion(self, node: Call) -> _Code:
        """A conversion of text, done now when the text is known now."""
        convert = _CONVERSIONS[node.name]
        (arg,) = node.args
        if isinstance(arg, Constant):
            try:
                return _Code(self.bind(convert(str(arg.value))), _ATOM)
            except EvalError:  # is one of the request, not of the configuration
                pass
        return _Code(f"{self.bind(convert)}({self._need(arg).text})", _ATOM)

    def _matches(self, node: Call) -> _Code:
        pattern, (text,) = node.receiver, node.args
        assert pattern is not None
        argument = self._need(text).text
        if isinstance(pattern, Constant):
            try:
                return _Code(f"{self.bind(regex.compile_search(str(pattern.value)))}({argument})", _ATOM)
            except EvalError:
                pass
        return _Code(f"search({self._need(pattern).text}, {argument})", _ATOM)

    def _match(self, node: Call) -> _Code:
        text, pattern = node.args
        if self._raw or not isinstance(pattern, Constant):
            helper = "match_raw" if self._raw else "match"
            return _Code(f"{helper}({self._need(text).text}, {self._need(pattern).text})", _ATOM)
        known = str(pattern.value)
        subject = self._need(text)
        if known.endswith("*"):
            return _Code(f"{subject.within(_ATOM)}.startswith({known[:-1]!a})", _ATOM)
        if known.startswith("*"):
            return _Code(f"{subject.within(_ATOM)}.endswith({known[1:]!a})", _ATOM)
        return _Code(f"{subject.within(_SUM)} == {known!a}", _COMPARE)

    def _affix(self, node: Call) -> _Code:
        assert node.receiver is not None
        text, affix = self._need(node.receiver), self._need(node.args[0])
        method, raw = {
            "startsWith": ("startswith", "starts_with_raw"),
            "endsWith": ("endswith", "ends_with_raw"),
        }[node.name]
        if self._raw:
            return _Code(f"{raw}({text.text}, {affix.text})", _ATOM)
        return _Code(f"{text.within(_ATOM)}.{method}({affix.text})", _ATOM)

    def _plain(self, node: Call) -> _Code:
        helper = {"size": "size", "toLower": "to_lower", "conditionalString": "choose"}[node.name]
        return _Code(f"{helper}({', '.join(self._need(arg).text for arg in node.args)})", _ATOM)

    def _empty_map(self, node: Call) -> _Code:
        return _Code(self.bind(runtime.EMPTY_MAP), _ATOM)

    # Tried: absence is an outcome

    def _try(self, node: Node, target: str) -> _Code:
        """A condition that is true when the node is present, and then has put its value into ``target``."""
        if isinstance(node, Attribute):
            return self._try_attribute(node, target)
        assert isinstance(node, Call)
        if node.name == "OR":
            tried, last = self._alternatives(node)
            return _Code(" or ".join(self._try(n, target).within(_OR) for n in (*tried, last)), _OR)
        return self._try_index(node, target)

    def _try_attribute(self, node: Attribute, target: str) -> _Code:
        read = f"({target} := {self._read(node.name)})"
        check = _CHECKS.get(self._vocabulary[node.name])
        if check is None:
            return _Code(f"{read} is not ABSENT", _COMPARE)
        kind, convert = check
        converted = f"({target} := {convert}({target})) is not ABSENT"
        return _Code(f"{read}.__class__ is {kind} or {target} is not ABSENT and {converted}", _OR)

    def _try_index(self, node: Call, target: str) -> _Code:
        container, key = node.args
        steps: list[str] = []
        held = self.temporary()
        if _can_be_absent(container):
            steps.append(self._try(container, held).within(_AND + 1))
        else:
            steps.append(f"({held} := {self._need(container).text}) is not ABSENT")
        if _can_be_absent(key):
            key_text = self.temporary()
            steps.append(self._try(key, key_text).within(_AND + 1))
        else:
            key_text = self._need(key).text
        lookup = f"({held} if {held}.__class__ in MAP_CLASSES else as_map({held})).get({key_text}, ABSENT)"
        steps.append(f"({target} := {lookup}) is not ABSENT")
        return _Code(" and ".join(steps), _AND)


def _can_be_absent(node: Node) -> bool:
    """Whether a node that is tried can turn out absent. Source: spec language 5.1, T."""
    pending = [node]
    while pending:
        node = pending.pop()
        if isinstance(node, Call) and node.name == "OR":
            pending.extend(node.args)
        elif isinstance(node, Constant) or (isinstance(node, Call) and node.name != "INDEX"):
            return False
    return True


_CALLS: Final[Mapping[str, Callable[[CodeBuilder, Call], _Code]]] = {
    "EQ": CodeBuilder._equal,
    "NEQ": CodeBuilder._equal,
    **dict.fromkeys(ORDERING, CodeBuilder._ordered),
    "LAND": CodeBuilder._and,
    "LOR": CodeBuilder._either,
    "OR": CodeBuilder._or,
    "INDEX": CodeBuilder._index,
    "ADD": CodeBuilder._add,
    "conditional": CodeBuilder._conditional,
    "match": CodeBuilder._match,
    "matches": CodeBuilder._matches,
    "startsWith": CodeBuilder._affix,
    "endsWith": CodeBuilder._affix,
    **dict.fromkeys(("size", "toLower", "conditionalString"), CodeBuilder._plain),
    **dict.fromkeys(_CONVERSIONS, CodeBuilder._conversion),
    "emptyStringMap": CodeBuilder._empty_map,
}
