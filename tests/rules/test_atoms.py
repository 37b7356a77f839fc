"""Equal keys mean equal labels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mixer.attributes import ABSENT, AttributeValue, Duration, MappingBag, ValueType, Vocabulary
from mixer.errors import EvalError
from mixer.expr import parse
from mixer.rules.atoms import Atom, atoms_of, compile_key, compile_values

VOCABULARY = Vocabulary(
    {
        "s": ValueType.STRING,
        "n": ValueType.INT64,
        "b": ValueType.BOOL,
        "d": ValueType.DOUBLE,
        "t": ValueType.DURATION,
        "i": ValueType.IP_ADDRESS,
        "m": ValueType.STRING_MAP,
    }
)
DIMENSIONS = [
    's | "none"', "n | 0", "b | false", "d | 0.0", 't | "1s"', 'i | ip("0.0.0.0")', 'm["k"] | "none"', 'm["l"] | s | "x"',
    'conditional(b | false, s | "y", m["k"] | "z")',
]  # fmt: skip
_VALUES = st.sampled_from(
    ["", "x", 0, 1, True, False, 0.0, -0.0, 1.0, b"", b"1234", Duration(1), Duration(0), {}, {"k": "x"}]
)
_BAGS = st.dictionaries(st.sampled_from(sorted(VOCABULARY)), _VALUES)


def test_atoms_are_attributes_and_entries_under_literal_keys() -> None:
    nodes = [parse(text) for text in ('s | m["k"] | "none"', "n + 1", 'match(s, "x*")', 'm["l"]')]

    assert atoms_of(nodes, VOCABULARY) == {Atom("s"), Atom("n"), Atom("m", "k"), Atom("m", "l")}
    assert atoms_of([parse('m[s] | "x"')], VOCABULARY) is None
    assert atoms_of([parse("m")], VOCABULARY) is None
    assert atoms_of([parse('(m | emptyStringMap())["k"]')], VOCABULARY) is None


@given(one=_BAGS, changes=st.dictionaries(st.sampled_from(sorted(VOCABULARY)), _VALUES, min_size=1, max_size=1))
def test_equal_keys_mean_equal_labels(one: dict[str, AttributeValue], changes: dict[str, AttributeValue]) -> None:
    other = {**one, **changes}
    nodes = [parse(text) for text in DIMENSIONS]
    atoms = atoms_of(nodes, VOCABULARY)
    assert atoms is not None
    key, values = compile_key(atoms, VOCABULARY), compile_values(nodes, VOCABULARY)
    first, second = MappingBag(one).lookup, MappingBag(other).lookup
    if key(first) != key(second):
        return

    def labels(get: object) -> object:
        try:
            return [repr(value) for value in values(get)]  # type: ignore[arg-type]
        except EvalError as exc:
            return type(exc)

    assert labels(first) == labels(second)


def test_a_missing_entry_and_a_missing_map_are_different() -> None:
    key = compile_key([Atom("m", "k")], VOCABULARY)

    assert key(MappingBag({"m": {}}).lookup) != key(MappingBag({}).lookup) == (ABSENT,)


def test_a_map_key_may_look_like_python() -> None:
    key = compile_key([Atom("m", "entry(x"), Atom("m", "get('s')")], VOCABULARY)

    assert key(MappingBag({"m": {"entry(x": "a", "get('s')": "b"}}).lookup) == ("a", "b")
