"""The attribute expression language: parse, typecheck, generate Python, evaluate.

Package order is pipeline order: ``grammar.lark`` and ``parse`` give a ``tree``, ``typecheck`` says what it is worth
against the table in ``functions``, ``codegen`` writes it as Python that leans on ``runtime``, and ``program`` ties
these together. ``netnames`` (with ``dnsname``, ``mailaddr``, ``uriref``, ``goquote``) holds the typed texts.
``jsonform`` is values and whole evaluations as JSON.

Source: spec language.
"""

from mixer.expr.codegen import CodeBuilder
from mixer.expr.parse import parse
from mixer.expr.program import Program, compile_expr
from mixer.expr.text import canonical, unparse
from mixer.expr.tree import Attribute, Call, Constant, Node
from mixer.expr.typecheck import typecheck

__all__ = [
    "Attribute",
    "Call",
    "CodeBuilder",
    "Constant",
    "Node",
    "Program",
    "canonical",
    "compile_expr",
    "parse",
    "typecheck",
    "unparse",
]
