"""Every small change that is tried on a module, each applied alone.

Of Python, mutmut's operators say what becomes of a number, an operator, a ``not``, a ``True`` or a
ternary; its own runner is not used, because it leaves out properties and module-level constants,
where the gate's limits are. To these come three changes that mutmut does not make: a call or a
``raise`` that stands for itself is dropped, a bare condition is negated, and a control is left out
of a tuple. Texts, messages and arguments are not changed: they mostly fail by themselves, and
would flatter the score. Of SQL, see ``mutation.sql``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

from scripts.mutation import sql


@dataclass(frozen=True)
class Mutant:
    """One changed module.

    Attributes:
        kind: what sort of thing was changed; the report counts by it.
        line: where, 1-based, in the original source.
        symbol: the top-level function, class or constant that holds it.
        before, after: the changed piece, each in one line.
    """

    kind: str
    line: int
    symbol: str
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        return f"{self.before} -> {self.after}"


def of(source: str, functions: tuple[str, ...] = ()) -> list[Mutant]:
    """All mutants of a module, or of some of its top-level symbols, in the order of its lines."""
    collector = _Collector()
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    wrapper.visit(collector)
    found = []
    for kind, line, symbol, node, changed in collector.found:
        module = wrapper.module.deep_replace(node, changed)
        assert isinstance(module, cst.Module)
        found.append(Mutant(kind, line, symbol, _text(node), _text(changed), module.code))
    for change in sql.changes(source):
        mutated = source[: change.start] + change.after + source[change.end :]
        symbol = collector.symbol_at(change.line)
        found.append(Mutant("sql", change.line, symbol, change.before, change.after, mutated))
    chosen = [mutant for mutant in found if not functions or mutant.symbol in functions]
    return sorted(chosen, key=lambda mutant: mutant.line)


Operator = Callable[[Any], Iterable[cst.CSTNode]]


def _negated(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """``if complete`` becomes ``if not complete``; comparisons and ``not`` change on their own."""
    assert isinstance(node, cst.If | cst.IfExp)
    if isinstance(node.test, cst.Name | cst.Attribute | cst.Call):
        yield node.with_changes(
            test=cst.UnaryOperation(cst.Not(), node.test.with_changes(lpar=[cst.LeftParen()],
                                                                   rpar=[cst.RightParen()]))
        )  # fmt: skip


def _opposite(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """``is`` becomes ``is not``, ``in`` becomes ``not in``, and the other way round."""
    assert isinstance(node, cst.ComparisonTarget)
    for operator in mutators.operator_keywords(node.operator):
        yield node.with_changes(operator=operator)


def _dropped(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """``run.guard()`` and ``raise OrderDenied(...)`` become ``pass``."""
    assert isinstance(node, cst.SimpleStatementLine)
    (statement,) = node.body if len(node.body) == 1 else (None,)
    called = isinstance(statement, cst.Expr) and isinstance(statement.value, cst.Call)
    if called or isinstance(statement, cst.Raise):
        yield node.with_changes(body=[cst.Pass()])


def _shortened(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A tuple of names, as ``CONTROLS`` is one, loses each of them in turn."""
    assert isinstance(node, cst.Tuple)
    if len(node.elements) > 3 and all(isinstance(e.value, cst.Name) for e in node.elements):
        for index in range(len(node.elements)):
            yield node.with_changes(elements=[*node.elements[:index], *node.elements[index + 1 :]])


_OPERATORS: tuple[tuple[str, tuple[type[cst.CSTNode], ...], Operator], ...] = (
    ("number", (cst.BaseNumber,), mutators.operator_number),
    ("literal", (cst.Name,), mutators.operator_name),
    ("condition", (cst.UnaryOperation,), mutators.operator_remove_unary_ops),
    ("condition", (cst.IfExp,), mutators.operator_if_exp),
    ("condition", (cst.If,), _negated),
    ("comparison", (cst.ComparisonTarget,), mutators.operator_swap_op),
    ("comparison", (cst.ComparisonTarget,), _opposite),
    ("condition", (cst.BooleanOperation,), mutators.operator_swap_op),
    ("arithmetic", (cst.BinaryOperation, cst.UnaryOperation, cst.AugAssign),
     mutators.operator_swap_op),
    ("flow", (cst.Break, cst.Continue), mutators.operator_keywords),
    ("statement", (cst.SimpleStatementLine,), _dropped),
    ("statement", (cst.Tuple,), _shortened),
)  # fmt: skip


class _Collector(cst.CSTVisitor):
    """Walks a module and notes each change, with where it is and what it is a part of."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int, str, cst.CSTNode, cst.CSTNode]] = []
        self._symbols: list[tuple[int, int, str]] = []

    def symbol_at(self, line: int) -> str:
        return next((name for first, last, name in self._symbols if first <= line <= last), "")

    def visit_Module(self, node: cst.Module) -> None:  # noqa: N802 - libcst calls it so
        for statement in node.body:
            where = self.get_metadata(PositionProvider, statement)
            self._symbols.append((where.start.line, where.end.line, _name_of(statement)))

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.ImportFrom | cst.Import):
            return False
        if isinstance(node, cst.Subscript) and _text(node.value) in ("Literal", "Callable"):
            return False
        for kind, types, operator in _OPERATORS:
            if isinstance(node, types):
                line = self.get_metadata(PositionProvider, node).start.line
                for changed in operator(node):
                    self.found.append((kind, line, self.symbol_at(line), node, changed))
        return super().on_visit(node)


def _name_of(statement: cst.CSTNode) -> str:
    if isinstance(statement, cst.FunctionDef | cst.ClassDef):
        return statement.name.value
    body = statement.body if isinstance(statement, cst.SimpleStatementLine) else ()
    for part in body:
        if isinstance(part, cst.Assign):
            return _text(part.targets[0].target)
        if isinstance(part, cst.AnnAssign):
            return _text(part.target)
    return ""


def _text(node: cst.CSTNode) -> str:
    """A node in one line, of a condition its head."""
    if isinstance(node, cst.If):
        return f"if {_text(node.test)}"
    code = cst.Module([]).code_for_node(node).strip()
    return " ".join(code.split())[:100]
