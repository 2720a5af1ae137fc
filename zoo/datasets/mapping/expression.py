"""Expressions of columns, such as "10 * success - 0.05" or "status == 'failed'". Read as a formula, never executed.

Names are columns; a column whose name is no word stands in backticks: "`/joint_states.position[0]` * 0.0175".
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from zoo.datasets.checks import Array, DatasetKeyError, DatasetValueError

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(np, name)
    for name in ("abs", "sqrt", "exp", "log", "sin", "cos", "tan", "arctan2", "sign", "minimum", "maximum", "clip",
                 "where", "isnan", "isfinite", "floor", "round")
}  # fmt: skip
BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: lambda a, b: _truth(a) & _truth(b),
    ast.BitOr: lambda a, b: _truth(a) | _truth(b),
}
COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
QUOTED = re.compile(r"`([^`]+)`")


def evaluate(text: str, columns: Mapping[str, Array], rows: int) -> Array:
    """The value of an expression in every row, (rows,). A text that is a column's name is that column.

    Raises DatasetKeyError for a name that is no column, DatasetValueError for what is no expression.
    """
    if text in columns:
        return columns[text]
    quoted: list[str] = []

    def word(match: re.Match[str]) -> str:
        quoted.append(match.group(1))
        return f"_quoted_{len(quoted) - 1}"

    try:
        tree = ast.parse(QUOTED.sub(word, text).strip(), mode="eval")
    except SyntaxError as error:
        raise DatasetKeyError(
            f"{text!r} is neither a column nor an expression of columns; there are {_shown(columns)}. "
            "A name with other signs than letters stands in backticks inside an expression."
        ) from error
    names = {f"_quoted_{i}": name for i, name in enumerate(quoted)}
    with np.errstate(all="ignore"):
        value = _value(tree.body, text, columns, names)
    return np.broadcast_to(np.asarray(value), (rows,))


def names_in(text: str, known: Mapping[str, Any]) -> list[str]:
    """The columns that an expression uses, of those that are known."""
    if text in known:
        return [text]
    found = QUOTED.findall(text) + re.findall(r"[A-Za-z_]\w*", QUOTED.sub("", text))
    return [name for name in dict.fromkeys(found) if name in known]


def _value(node: ast.AST, text: str, columns: Mapping[str, Array], names: Mapping[str, str]) -> Any:
    def of(part: ast.AST) -> Any:
        return _value(part, text, columns, names)

    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            return node.value
        case ast.Name(id=name):
            name = names.get(name, name)
            if name in columns:
                return columns[name]
            if name in ("true", "false"):
                return name == "true"
            raise DatasetKeyError(f"{text!r} names {name!r}, which is no column; there are {_shown(columns)}.")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            return BINARY[type(op)](_number(of(left)), _number(of(right)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(of(operand))
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            return ~_truth(of(operand))
        case ast.BoolOp(op=op, values=parts):
            combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return combine.reduce([_truth(of(part)) for part in parts])
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARE:
            return COMPARE[type(op)](of(left), of(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*map(of, arguments))
    raise DatasetValueError(
        f"{text!r} is more than an expression of columns: {ast.unparse(node)!r} is not understood. There are + - * / "
        f"** %, comparisons, & | ~, and, or, not, and {', '.join(FUNCTIONS)}; for more name module:function."
    )


def _number(value: Any) -> Any:
    value = np.asarray(value)
    return value.astype(np.float64) if value.dtype.kind == "b" else value


def _truth(value: Any) -> Array:
    value = np.asarray(value)
    return value if value.dtype.kind == "b" else value > 0.5


def _shown(columns: Mapping[str, Any]) -> str:
    names = list(columns)
    return ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
