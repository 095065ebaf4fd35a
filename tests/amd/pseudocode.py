"""AMD's pseudocode of instructions, from its ISA documents as PyPI's tinygrad carries them, evaluated.

Floating-point arithmetic is exact until a result of some type is assigned, which rounds it once, to
nearest even.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

from exact import (
    EXPONENT,
    MANTISSA,
    NAN,
    Real,
    Word,
    add,
    equal,
    floor,
    integral,
    less,
    multiply,
    negate,
    real_of,
    rounded,
    saturated,
    signed,
    truncate,
    word,
)

# ---- the grammar ---------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<cast>\d+'[UIBF](?=[\(\[;\n]|$))|(?P<number>(?:\d+')?(?:0x[0-9a-fA-F]+|\d+\.\d+|\d+)(?:ULL|LL|U|F)?)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|<<|>>|<>|<=|>=|==|!=|&&|\|\||[-+*/&|^]=|[-+*/%&|^~!<>=?:;,.(){}\[\]]))"
)
_LEVELS = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!=", "<>"), ("<", "<=", ">", ">="), ("<<", ">>"),
           ("+", "-"), ("*", "/", "%"))  # fmt: skip
_ASSIGNMENTS = ("=", "+=", "-=", "*=", "&=", "|=", "^=")


class _Parser:
    """Statements and expressions as tuples, whose first item names what they are."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*", "", text)
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            assert match is not None and match.lastgroup is not None, text[at : at + 40]
            self.tokens.append((match.lastgroup, match.group(match.lastgroup)))
            at = match.end()
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        text = self.peek()
        assert text and (not expected or text == expected), f"{text!r}, not {expected!r}"
        self.at += 1
        return text

    def accept(self, text: str) -> bool:
        if self.peek() != text:
            return False
        self.at += 1
        return True

    def block(self, *ends: str) -> list[Any]:
        statements = []
        while self.peek() and self.peek() not in ends:
            statements.append(self.statement())
            self.accept(";")
        return statements

    def statement(self) -> Any:
        if self.accept("if"):
            branches = [(self.expression(), self._then())]
            while self.accept("elsif"):
                branches.append((self.expression(), self._then()))
            otherwise = self.block("endif") if self.accept("else") else []
            self.take("endif")
            return ("if", branches, otherwise)
        if self.accept("for"):
            name = self.take()
            self.take("in")
            first = self.expression()
            self.take(":")
            last = self.expression()
            self.take("do")
            body = self.block("endfor")
            self.take("endfor")
            return ("for", name, first, last, body)
        if self.accept("declare"):
            name = self.take()
            self.take(":")
            self.take()
            if self.accept("["):
                self.expression()
                self.take("]")
            return ("declare", name)
        if self.accept("return"):
            return ("return", self.expression())
        if self.accept("break"):
            return ("break",)
        if self.peek(1) == "=" and self.peek(2) == "lambda":
            name = self.take()
            self.at += 3
            parameters = [self.take()]
            while self.accept(","):
                parameters.append(self.take())
            self.take(")")
            self.take("(")
            body = self.block(")")
            self.take(")")
            return ("lambda", name, parameters, body)
        target = self.expression()
        if self.peek() not in _ASSIGNMENTS:
            return ("expression", target)
        operator = self.take()
        if operator != "=":
            return ("assign", [target], ("binary", operator[0], target, self.expression()))
        targets = [target]
        value = self.expression()
        while self.accept("="):
            targets.append(value)
            value = self.expression()
        return ("assign", targets, value)

    def _then(self) -> list[Any]:
        self.take("then")
        return self.block("elsif", "else", "endif")

    def expression(self) -> Any:
        condition = self.binary(0)
        if not self.accept("?"):
            return condition
        one = self.expression()
        self.take(":")
        return ("choice", condition, one, self.expression())

    def binary(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            operator = self.take()
            left = ("binary", operator, left, self.binary(level + 1))
        return left

    def unary(self) -> Any:
        for sign in "-~!+":
            if self.accept(sign):
                return ("unary", sign, self.unary())
        base = self.postfix()
        return ("power", base, self.unary()) if self.accept("**") else base

    def postfix(self) -> Any:
        node = self.primary()
        while self.peek() in (".", "["):
            if self.accept("."):
                node = ("view", node, self.take())
                continue
            self.take("[")
            high = self.expression()
            low = self.expression() if self.accept(":") else None
            self.take("]")
            node = ("slice", node, high, low)
        return node

    def primary(self) -> Any:
        kind, text = self.tokens[self.at]
        if self.accept("("):
            inner = self.expression()
            self.take(")")
            return inner
        if self.accept("{"):
            parts = [self.expression()]
            while self.accept(","):
                parts.append(self.expression())
            self.take("}")
            return ("concatenation", parts)
        self.take()
        if kind == "cast":
            self.take("(")
            inner = self.expression()
            self.take(")")
            return ("cast", int(text.split("'")[0]), text[-1], inner)
        if kind == "number":
            return ("number", _literal(text))
        assert kind == "name", text
        if not self.accept("("):
            return ("name", text)
        arguments = []
        while not self.accept(")"):
            arguments.append(self.expression())
            self.accept(",")
        return ("call", text, arguments)


def _literal(text: str) -> Any:
    width, _, digits = text.rpartition("'")
    number = (
        re.sub(r"(ULL|LL|U|F)$", "", digits) if "0x" not in digits else re.sub(r"(ULL|LL|U)$", "", digits)
    )
    if "." in number or (digits.endswith("F") and "0x" not in digits):
        return Real(False, Fraction(number))
    bits = int(width) if width else 64 if "LL" in digits else 32
    return word(int(number, 0), bits, "u" if "U" in digits or width else "i")


# ---- evaluation ----------------------------------------------------------------------------------------


class _Returned(Exception):
    pass


class _Broken(Exception):
    pass


class Evaluation:
    """One lane's evaluation of an instruction.

    Attributes:
        values: variables: S0, S1, S2, D0, VCC, EXEC, SCC, SIMM32, laneId and those of the pseudocode.
    """

    def __init__(self, pseudocode: Callable[[str], str], values: dict[str, Any]) -> None:
        self.pseudocode = pseudocode
        self.values = {"WAVE_MODE": word(0, 1), **values}
        self.lambdas: dict[str, tuple[list[str], list[Any]]] = {}

    def run(self, name: str) -> None:
        self._block(_parsed(self.pseudocode(name)))

    def _block(self, statements: list[Any]) -> None:
        for statement in statements:
            getattr(self, "_do_" + statement[0])(*statement[1:])

    def _do_if(self, branches: list[Any], otherwise: list[Any]) -> None:
        for condition, body in branches:
            if self._truth(condition):
                return self._block(body)
        return self._block(otherwise)

    def _do_for(self, name: str, first: Any, last: Any, body: list[Any]) -> None:
        for index in range(self._evaluate(first).value, self._evaluate(last).value + 1):
            self.values[name] = word(index, 32, "i")
            try:
                self._block(body)
            except _Broken:
                return

    def _do_declare(self, name: str) -> None:
        self.values[name] = word(0, 256)

    def _do_return(self, value: Any) -> None:
        raise _Returned(self._evaluate(value))

    def _do_break(self) -> None:
        raise _Broken

    def _do_lambda(self, name: str, parameters: list[str], body: list[Any]) -> None:
        self.lambdas[name] = (parameters, body)

    def _do_expression(self, value: Any) -> None:
        self._evaluate(value)

    def _do_assign(self, targets: list[Any], value: Any) -> None:
        result = self._evaluate(value)
        for target in targets:
            self._assign(target, result)

    def _assign(self, target: Any, value: Any) -> None:
        if target[0] == "concatenation":
            bits = value.bits
            for part in reversed(target[1]):
                width = _width_of(part[2])
                self._assign(part, word(bits, width))
                bits >>= width
            return
        if target[:2] == ("view", ("name", "TRAPSTS")):
            return
        if target[0] == "view":
            value, target = _converted(value, target[2]), target[1]
        if target[0] == "name":
            self.values[target[1]] = value
            return
        assert target[0] == "slice"
        _, base, high, low = target
        top = self._evaluate(high).value
        bottom = top if low is None else self._evaluate(low).value
        if base[0] == "view":
            base = base[1]
        if base[0] == "slice":  # in[i], an array of bytes
            raise NotImplementedError
        old = self.values.get(base[1], word(0, 64))
        if base[1] == "in":
            top, bottom = 8 * top + 7, 8 * bottom
        mask = ((1 << (top - bottom + 1)) - 1) << bottom
        width = max(old.width, top + 1)
        raw = value if isinstance(value, Word) else rounded(value, "f32")
        self.values[base[1]] = Word((old.bits & ~mask) | (raw.bits << bottom & mask), width, "u")

    def _truth(self, node: Any) -> bool:
        value = self._evaluate(node)
        if isinstance(value, bool):
            return value
        return bool(value.bits)

    def _evaluate(self, node: Any) -> Any:
        result = getattr(self, "_of_" + node[0])(*node[1:])
        return word(int(result), 1) if isinstance(result, bool) else result

    def _of_number(self, value: Any) -> Any:
        return value

    def _of_name(self, name: str) -> Any:
        constants = {
            "NAN": NAN,
            "ROUND_MODE": word(0, 2),
            "ROUND_NEAREST_EVEN": word(0, 2),
            "OPSEL": word(0, 4),
        }
        return self.values[name] if name in self.values else constants[name]

    def _of_view(self, base: Any, suffix: str) -> Any:
        if suffix == "IEEE":
            return word(1, 1)
        value = self._evaluate(base)
        if isinstance(value, Real):
            return _converted(value, suffix)
        kind, width = re.fullmatch(r"([a-z]+)(\d+)", suffix).groups()  # type: ignore[union-attr]
        bits = value.bits
        if value.kind == "i" and value.width < int(width):
            bits = value.value
        return word(bits, int(width), "u" if kind == "b" else kind)

    def _of_slice(self, base: Any, high: Any, low: Any) -> Word:
        top = self._evaluate(high).value
        bottom = top if low is None else self._evaluate(low).value
        value = self._evaluate(base)
        if base == ("name", "in"):  # bytes
            top, bottom = 8 * top + 7, 8 * bottom
        if top < bottom:  # in the other order
            return word(
                int(f"{value.bits >> top & ((1 << (bottom - top + 1)) - 1):0{bottom - top + 1}b}"[::-1], 2),
                bottom - top + 1,
            )
        return word(value.bits >> bottom, top - bottom + 1)

    def _of_concatenation(self, parts: list[Any]) -> Word:
        bits = width = 0
        for part in map(self._evaluate, parts):
            bits, width = bits << part.width | part.bits, width + part.width
        return word(bits, width)

    def _of_cast(self, width: int, kind: str, inner: Any) -> Any:
        value = self._evaluate(inner)
        if kind == "F":
            is_bits = isinstance(value, Word) and value.kind == "u"
            return real_of(Word(value.bits, width, "f") if is_bits else value)
        if isinstance(value, Real):
            return word(truncate(signed(value)), width, kind.lower())
        return word(value.value, width, "i" if kind == "I" else "u")

    def _of_choice(self, condition: Any, one: Any, other: Any) -> Any:
        return self._evaluate(one if self._truth(condition) else other)

    def _of_unary(self, sign: str, inner: Any) -> Any:
        if sign == "!":
            return not self._truth(inner)
        value = self._evaluate(inner)
        if sign == "+":
            return value
        if isinstance(value, Real) or value.kind in ("f", "bf"):
            assert sign == "-"
            return negate(real_of(value))
        return word(-value.value if sign == "-" else ~value.bits, value.width, value.kind)

    def _of_power(self, base: Any, exponent: Any) -> Real:
        power = self._evaluate(exponent).value
        return Real(False, signed(real_of(self._evaluate(base))) ** min(max(power, -5000), 5000))

    def _of_binary(self, operator: str, left: Any, right: Any) -> Any:
        if operator in ("&&", "||"):
            first = self._truth(left)
            return (first and self._truth(right)) if operator == "&&" else (first or self._truth(right))
        a, b = self._evaluate(left), self._evaluate(right)
        if operator == "==" and right[0] == "unary" and isinstance(b, Real) and b.number == 0:
            return real_of(a) == b  # "== -0.0": the document means the sign as well
        if any(isinstance(x, Real) or x.kind in ("f", "bf") for x in (a, b)):
            return _real_binary(operator, real_of(a), real_of(b))
        return _integer_binary(operator, a, b)

    def _of_call(self, name: str, arguments: list[Any]) -> Any:
        if name in self.lambdas:
            parameters, body = self.lambdas[name]
            inner = Evaluation(self.pseudocode, dict(self.values))
            inner.values.update(zip(parameters, map(self._evaluate, arguments), strict=True))
            try:
                inner._block(body)
            except _Returned as returned:
                return returned.args[0]
            raise AssertionError(name)
        values = list(map(self._evaluate, arguments))
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](*values)
        if re.match(r"[vs]_", name):
            suffix = name.rpartition("_")[2]
            inner = Evaluation(self.pseudocode, dict(self.values))
            inner.values.update({f"S{i}": _converted(value, suffix) for i, value in enumerate(values)})
            inner.run(name)
            return inner.values["D0"]
        conversion = re.fullmatch(r"([uif]|bf)(\d+)_to_([uif]|bf)(\d+)", name)
        assert conversion is not None, name
        _, _, kind, width = conversion.groups()
        if kind in "ui":
            return saturated(values[0], int(width), kind == "i")
        return rounded(real_of(values[0]), kind + width)


def _width_of(suffix: str) -> int:
    return int(re.sub(r"[a-z]+", "", suffix))


def _converted(value: Any, suffix: str) -> Any:
    """A value for a place of this type: numbers are rounded, integers wrap, words of the same type stay."""
    kind, width = re.fullmatch(r"([a-z]+)(\d+)", suffix).groups()  # type: ignore[union-attr]
    if kind in ("f", "bf"):
        if isinstance(value, Word) and (value.kind not in ("f", "bf") or value.width == int(width)):
            return Word(value.bits, int(width), kind)
        return rounded(real_of(value), suffix)
    if isinstance(value, Real):
        return word(truncate(signed(value)), int(width), kind)
    return word(value.value, int(width), "u" if kind == "b" else kind)


def _real_binary(operator: str, a: Real, b: Real) -> Any:
    if operator in ("+", "-"):
        return add(a, b if operator == "+" else negate(b))
    if operator == "*":
        return multiply(a, b)
    is_ordered = not (a.nan or b.nan)
    return {
        "<": lambda: is_ordered and less(a, b),
        ">": lambda: is_ordered and less(b, a),
        "<=": lambda: is_ordered and not less(b, a),
        ">=": lambda: is_ordered and not less(a, b),
        "==": lambda: is_ordered and equal(a, b),
        "!=": lambda: not (is_ordered and equal(a, b)),
        "<>": lambda: is_ordered and not equal(a, b),
    }[operator]()


def _integer_binary(operator: str, a: Word, b: Word) -> Any:
    compare = {
        "<": a.value < b.value,
        ">": a.value > b.value,
        "<=": a.value <= b.value,
        ">=": a.value >= b.value,
        "==": a.value == b.value,
        "!=": a.value != b.value,
        "<>": a.value != b.value,
    }
    if operator in compare:
        return compare[operator]
    if operator in ("<<", ">>"):
        amount = b.value
        return word(a.value << amount if operator == "<<" else a.value >> amount, a.width, a.kind)
    kind = "i" if a.kind == b.kind == "i" else "u"
    value = {
        "+": lambda: a.value + b.value,
        "-": lambda: a.value - b.value,
        "*": lambda: a.value * b.value,
        "%": lambda: a.value % b.value,
        "&": lambda: a.value & b.value,
        "|": lambda: a.value | b.value,
        "^": lambda: a.value ^ b.value,
    }[operator]()
    return word(value, max(a.width, b.width), kind)


def _exponent(x: Word) -> Word:
    return word(x.bits >> MANTISSA[f"f{x.width}"] & ((1 << EXPONENT[f"f{x.width}"]) - 1), 32, "i")


def _quiet(x: Any) -> Real:
    return real_of(x)._replace(nan="quiet")


def _extended(x: Word, bits: Word) -> Word:
    low = x.bits & ((1 << bits.value) - 1)
    return word(low - (1 << bits.value) if bits.value and low >> (bits.value - 1) else low, x.width, "i")


def _fraction(x: Any) -> Real:
    real = real_of(x)
    return add(real, negate(integral(real, floor)))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "fma": lambda a, b, c: add(multiply(real_of(a), real_of(b)), real_of(c)),
    "floor": lambda x: integral(real_of(x), floor),
    "trunc": lambda x: integral(real_of(x), truncate),
    "fract": _fraction,
    "isEven": lambda x: real_of(x).number is not None and signed(real_of(x)) % 2 == 0,
    "isNAN": lambda x: bool(real_of(x).nan),
    "isSignalNAN": lambda x: real_of(x).nan == "signalling",
    "isQuietNAN": lambda x: real_of(x).nan == "quiet",
    "cvtToQuietNAN": _quiet,
    "exponent": _exponent,
    "sign": lambda x: real_of(x).negative,
    "abs": lambda x: (
        real_of(x)._replace(negative=False) if x.kind == "f" else word(abs(x.value), x.width, x.kind)
    ),
    "signext": lambda x: word(x.value if x.kind == "i" else x.bits, 64, "i"),
    "signext_from_bit": _extended,
}


@cache
def _parsed(text: str) -> list[Any]:
    return _Parser(text).block()


def table_of(family: str) -> dict[str, str]:
    """Pseudocode by instruction, as the assembler calls it without its encoding's suffix.

    family: cdna or rdna4.
    """
    module = importlib.import_module(f"tinygrad.runtime.autogen.amd.{family}.str_pcode")
    table: dict[str, str] = {}
    for key, text in module.PCODE.items():
        table.setdefault(re.sub(r"_(e32|e64)$", "", key.name.lower()), text)
    return table
