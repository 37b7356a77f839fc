"""How long typical expressions take: nanoseconds per evaluation, and microseconds to compile.

Run it alone on an otherwise idle machine; the numbers are the best of several rounds.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import sys
import timeit

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mixer.attributes import MappingBag, TrackingBag  # noqa: E402
from mixer.expr import CodeBuilder, compile_expr, parse  # noqa: E402
from tests.expr_cases import ATTRIBUTES, CASES, VOCABULARY  # noqa: E402

EXPRESSIONS = {
    "attribute": "shop.tenant",
    "fallback, present": 'shop.tenant | "unknown"',
    "fallback, absent": 'shop.tier | "unknown"',
    "lookup": 'shop.tags["app"]',
    "lookup with fallback": 'shop.tags["app"] | "unknown"',
    "five alternatives": 'shop.meta["a"] | shop.tags["b"] | shop.tier | shop.note | "unknown"',
    "equality": 'shop.tenant == "acme"',
    "typical match": 'shop.tenant == "acme" && (shop.tags["app"] | "") != "x" && shop.items < 10',
    "else-if": 'conditional((shop.tier | "a") == "b", "source", "destination")',
    "method": 'shop.region.startsWith("eu-")',
    "pattern": '"^eu-[a-z]+$".matches(shop.region)',
    "host names": 'shop.host == dnsName("api.example.com")',
    "sum": "(shop.items | 0) + (shop.limit | 1)",
}


def best_of(statement: object, number: int, rounds: int) -> float:
    """Seconds per call, the best round."""
    return min(timeit.repeat(statement, number=number, repeat=rounds)) / number  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=50_000, help="evaluations in a round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the best counts (default %(default)s)")
    parser.add_argument("--show", action="store_true", help="print the generated Python too")
    args = parser.parse_args()

    bag = MappingBag(ATTRIBUTES)
    print(f"Python {platform.python_version()}, {platform.machine()}; ns per evaluation")
    print(f"{'':24}{'plain bag':>12}{'tracking':>12}")
    for name, source in EXPRESSIONS.items():
        evaluate = compile_expr(source, VOCABULARY).evaluate
        tracking = TrackingBag(bag)
        plain_s = best_of(lambda f=evaluate: f(bag), args.number, args.rounds)
        tracked_s = best_of(lambda f=evaluate, b=tracking: f(b), args.number, args.rounds)
        print(f"{name:24}{plain_s * 1e9:12.0f}{tracked_s * 1e9:12.0f}")
        if args.show:
            print(f"    {CodeBuilder(VOCABULARY).expression(parse(source))}")

    sources = [case.expr for case in CASES if case.type is not None]

    def compile_all() -> None:
        for source in sources:
            tree = parse.__wrapped__(source)
            CodeBuilder(VOCABULARY).expression(tree)

    print(
        f"parse and generate: {best_of(compile_all, 1, args.rounds) / len(sources) * 1e6:.0f} us per corpus expression"
    )


if __name__ == "__main__":
    main()
