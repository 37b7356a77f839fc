"""The tree finds exactly the conditions that hold, and looks at exactly what each rule alone would have looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mixer.attributes import AttributeValue, MappingBag, TrackingBag, ValueType, Vocabulary
from mixer.errors import EvalError
from mixer.expr import compile_expr
from mixer.rules.conditions import ConditionTree

VOCABULARY = Vocabulary(
    {
        "p": ValueType.STRING,
        "h": ValueType.STRING,
        "n": ValueType.INT64,
        "b": ValueType.BOOL,
        "m": ValueType.STRING_MAP,
    }
)

_TERMS = st.one_of(
    st.builds('p == "{}"'.format, st.sampled_from("xyz")),
    st.builds('"{}" == p'.format, st.sampled_from("xy")),
    st.builds('(p == "{}" || p == "{}")'.format, st.sampled_from("xyz"), st.sampled_from("xyz")),
    st.builds('(p == "{}" || h == "{}")'.format, st.sampled_from("xy"), st.sampled_from("xy")),
    st.builds('(h | "none") == "{}"'.format, st.sampled_from(["x", "none"])),
    st.builds("n == {}".format, st.integers(0, 2)),
    st.builds('m["k"] == "{}"'.format, st.sampled_from(["x", ""])),
    st.builds('match(p, "{}")'.format, st.sampled_from(["x", "x*", "*y", "*", "y*", "xz*", "*xy", "**", "x*y"])),
    st.builds(
        '{}.{}("{}")'.format,
        st.sampled_from("ph"),
        st.sampled_from(["startsWith", "endsWith"]),
        st.sampled_from(["x", "xy", ""]),
    ),
    st.sampled_from(["b", '(b && p == "x")', 'match(h, "x*")', "n > 1", "true", 'p != "x"']),
)
_CONDITIONS = st.lists(_TERMS, min_size=1, max_size=4).map(" && ".join)
_BAGS = st.fixed_dictionaries(
    {},
    optional={
        "p": st.sampled_from(["x", "y", "z", "xy", "xyx*", "*", "", 3]),
        "h": st.sampled_from(["x", "none", "xx"]),
        "n": st.sampled_from([0, 1, 2, True, "x"]),
        "b": st.sampled_from([True, False, "x"]),
        "m": st.sampled_from([{}, {"k": "x"}, "x"]),
    },
)


@given(texts=st.lists(_CONDITIONS, min_size=1, max_size=12), values=_BAGS)
def test_the_tree_agrees_with_evaluating_every_rule(texts: list[str], values: dict[str, AttributeValue]) -> None:
    programs = [compile_expr(text, VOCABULARY) for text in texts]
    each = TrackingBag(MappingBag(values))
    expected = []
    for number, program in enumerate(programs):
        try:
            if program.evaluate(each):
                expected.append(number)
        except EvalError:
            continue
    together = TrackingBag(MappingBag(values))

    holding = ConditionTree(enumerate(programs), VOCABULARY).holding(together.lookup, lambda _: None)

    assert sorted(holding) == expected
    assert together.referenced == each.referenced


def test_a_thousand_rules_for_others_cost_one_evaluation() -> None:
    texts = [f'p == "x" && h == "service-{number}"' for number in range(1_000)]
    reads: list[str] = []
    bag = MappingBag({"p": "x", "h": "service-7"})

    def get(name: str, default: object) -> object:
        reads.append(name)
        return bag.get(name)

    tree = ConditionTree(((n, compile_expr(t, VOCABULARY)) for n, t in enumerate(texts)), VOCABULARY)

    assert tree.holding(get, lambda _: None) == [7]  # type: ignore[arg-type]
    assert reads == ["p", "h"]


def test_a_fault_that_rules_share_is_told_once() -> None:
    faults: list[EvalError] = []
    programs = [compile_expr(f'p == "{text}"', VOCABULARY) for text in "abc"]

    tree = ConditionTree(enumerate(programs), VOCABULARY)

    assert tree.holding(MappingBag({}).lookup, faults.append) == []
    assert [str(fault) for fault in faults] == ["lookup failed: 'p'"]
