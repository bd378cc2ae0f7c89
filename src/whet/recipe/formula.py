"""Arithmetic over names, for `calculate_output` of a grader: read into a tree that is walked, never `eval`.

Operators and functions are those of OpenAI's multi graders: + - * / ^ (power; ** as well), min, max, abs, floor, ceil,
exp, sqrt, log.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping

from whet.errors import did_you_mean

LONGEST = 2000
"""Characters."""
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil, "exp": math.exp, "sqrt": math.sqrt,
    "log": math.log,
}  # fmt: skip
_SEVERAL = ("min", "max")


class Formula:
    """`text` over `names`. Raises ValueError for what is no arithmetic, or for a name that is not there."""

    def __init__(self, text: str, names: Iterable[str]) -> None:
        self._known = list(names)
        if len(text) > LONGEST:
            raise ValueError(f"longer than {LONGEST} characters")
        try:
            self._tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
            self.names = frozenset(self._check(self._tree))
        except (SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"{text!r} is no arithmetic over {', '.join(self._known)}") from None

    def __call__(self, values: Mapping[str, float]) -> float:
        """Raises ArithmeticError or ValueError where there is no finite result."""
        found = float(self._of(self._tree, values))
        if not math.isfinite(found):
            raise ArithmeticError(f"the result is {found}")
        return found

    def _check(self, node: ast.expr) -> Iterable[str]:
        """The names in a node, each of whose parts must be one of those that are known here."""
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                pass
            case ast.Name(id=name):
                if name not in self._known:
                    raise ValueError(f"no grader {name!r}.{did_you_mean(name, self._known)}")
                yield name
            case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
                yield from self._check(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                yield from self._check(left)
                yield from self._check(right)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                if len(args) != 1 and not (args and name in _SEVERAL):
                    raise ValueError(f"{name} takes one number, not {len(args)}")
                for arg in args:
                    yield from self._check(arg)
            case _:
                known = f"+ - * / ^ and {', '.join(_FUNCTIONS)}"
                raise ValueError(f"{ast.unparse(node)!r} is no arithmetic: there are {known}")

    def _of(self, node: ast.expr, values: Mapping[str, float]) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return values[name]
            case ast.UnaryOp(op=op, operand=operand):
                found = self._of(operand, values)
                return -found if isinstance(op, ast.USub) else found
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATORS[type(op)](self._of(left, values), self._of(right, values))
            case ast.Call(func=ast.Name(id=name), args=args):
                numbers = [self._of(arg, values) for arg in args]
                return _FUNCTIONS[name](numbers) if name in _SEVERAL else _FUNCTIONS[name](*numbers)
        raise AssertionError("checked when it was read")
