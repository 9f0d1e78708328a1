"""The translator of kernels: every construct gives compiled what it gives interpreted, all else is refused by name."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite.binding as llvm
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import kernels, translate
from observer.kernels import Int64s, Octets, kernel
from observer.tcp.sequence import add
from observer.translate import KernelError

LIMIT = 7
ODD = (1, 3, 5)
SOME = frozenset({2, 4})
COUNTER = itertools.count()
TOP = (1 << 63) - 1


class Built:
    """Compiled kernels; call with the arguments that the Python functions take."""

    def __init__(self, *functions: Callable[..., int], checked: bool = False) -> None:
        translator = translate.Translator(kernels.kinds_of, prefetch=kernels.prefetch, checked=checked)
        for function in functions:
            translator.export(function, "entry." + function.__name__)
        code = translate.object_code(translator.finish())
        machine = llvm.Target.from_default_triple().create_target_machine()
        self.library = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self.library.add_object_file(llvm.ObjectFileRef.from_data(code))
        self.library.finalize_object()
        self.errors = None
        if checked:
            self.errors = ctypes.c_int64.from_address(self.library.get_global_value_address("out_of_range"))

    def __call__(self, function: Callable[..., int], *arguments: Any) -> int:
        types, values = [], []
        for argument in arguments:
            if isinstance(argument, numpy.ndarray):
                types += [ctypes.c_void_p, ctypes.c_int64]
                values += [argument.ctypes.data, len(argument)]
            else:
                types.append(ctypes.c_int64)
                values.append(argument)
        address = self.library.get_function_address("entry." + function.__name__)
        return int(ctypes.CFUNCTYPE(ctypes.c_int64, *types)(address)(*values))


def module_of(source: str, folder: Path) -> ModuleType:
    """A module of kernels from its source."""
    path = folder / f"kernels_{next(COUNTER)}.py"
    path.write_text("from observer.kernels import Int64s, Octets, kernel, prefetch\n" + source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # annotations are looked up there
    spec.loader.exec_module(module)
    return module


# --- one construct each -----------------------------------------------------------------------------------


@kernel
def divide(a: int, b: int) -> int:
    return (a // b) * 100_000 + a % b


@kernel
def shifts(a: int, b: int) -> int:
    return (a << 3) ^ (a >> b) ^ (~a & 0xFF) | -b


@kernel
def chain(a: int, b: int) -> int:
    return (0 <= a < b) * 4 + (a < b <= LIMIT != a) * 2 + (a == b)


@kernel
def lazy_chain(cells: Int64s, a: int, b: int) -> int:
    return 1 if 0 <= a < len(cells) and 0 <= b < len(cells) and 0 < cells[a] < cells[b] else 0


@kernel
def guarded_chain(cells: Int64s, a: int, b: int) -> int:
    return -1 < a < len(cells) == b > cells[a]


@kernel
def either(a: int, b: int) -> int:
    return (a or b) * 10 + (a and b) + (not a)


@kernel
def belongs(a: int, b: int) -> int:
    return (a in (1, b, 9)) + 2 * (a not in ODD) + 4 * (a in SOME) + 8 * (a in {b, 3})


@kernel
def choose(a: int, b: int) -> int:
    return a if a > b else b if b > 3 else 7


@kernel
def loops(a: int, b: int) -> int:
    total = 0
    for i in range(a):
        if i == 3:
            continue
        if i > 8:
            break
        for j in range(i, b, 2):
            total += i * j
            if total > 400:
                break
        i = 100  # noqa: PLW2901  the loop counts on regardless
    for k in range(b, a, -3):
        total = total * 3 + k
    n = a
    while n > 0:
        n -= 2
        if n == 4:
            continue
        if n == b:
            break
        total += n
    return total


@kernel
def returns_early(a: int, b: int) -> int:
    while True:
        a += 1
        if a > b:
            if a & 1:
                return a
            return -a


@kernel
def twice(a: int) -> int:
    return 2 * a


@kernel
def nested(a: int, b: int) -> int:
    return twice(add(twice(a), b)) + fibonacci(a & 7)


@kernel
def fibonacci(n: int) -> int:
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


@kernel
def tuples(a: int, b: int) -> int:
    a, b = b, a + b
    c: int = a
    c, a = a * b, c
    return a * 100 + b * 10 + c


@kernel
def builtins(a: int, b: int) -> int:
    return min(a, b, 3) * 1000 + max(a, b) * 10 + abs(a - b) + int(a) + bool(b)


@kernel
def nothing(a: int, b: int) -> int:
    """Falls off its end."""
    pass
    a + b


SIMPLE = (divide, shifts, chain, either, belongs, choose, loops, returns_early, nested, tuples, builtins)
ALL = (*SIMPLE, lazy_chain, guarded_chain, nothing)


@kernel
def arrays(cells: Int64s, octets: Octets, n: int) -> int:
    for i in range(len(cells)):
        cells[i] += n * i
        cells[i] -= octets[i % len(octets)]
        octets[i % len(octets)] = cells[i]
    cells[0], cells[1] = cells[1], cells[0]
    cells[2] |= 1 << 40
    return inside(octets, len(cells)) + cells[2]


@kernel
def inside(octets: Octets, n: int) -> int:
    octets[0] ^= 255
    return octets[0] + n * len(octets)


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(*ALL)


@pytest.mark.parametrize("function", SIMPLE, ids=lambda f: f.__name__)
def test_construct(built: Built, function: Callable[..., int]) -> None:
    values = [-9, -8, -3, -2, -1, 1, 2, 3, 4, 5, 7, 8, 9, 11]
    for a, b in itertools.product(values, values):
        right = abs(b) if function is shifts else b  # a shift by less than nothing is an error in Python
        assert built(function, a, right) == int(function(a, right))


def test_no_return_is_zero(built: Built) -> None:
    assert built(nothing, 3, 4) == 0
    assert nothing(3, 4) is None


@pytest.mark.parametrize("function", [lazy_chain, guarded_chain], ids=lambda f: f.__name__)
def test_nothing_is_looked_at_that_python_would_not(function: Callable[..., int]) -> None:
    """A chain of comparisons stops where one fails: cells behind it may be out of range."""
    checked = Built(function, checked=True)
    cells = numpy.array([5, 1, 3], numpy.int64)
    for a, b in itertools.product(range(-3, 6), range(-3, 6)):
        assert checked(function, cells, a, b) == int(function(memoryview(cells), a, b))
        assert checked.errors.value == 0  # type: ignore[union-attr]


def test_arrays_and_octets() -> None:
    made = Built(arrays)
    for n in (-5, 0, 3, 1000):
        results = []
        for run in ("interpreted", "compiled"):
            cells, octets = numpy.arange(10, dtype=numpy.int64), numpy.arange(200, 204, dtype=numpy.uint8)
            if run == "compiled":
                value = made(arrays, cells, octets, n)
            else:
                value = arrays(cells, Wrapping(octets), n)  # type: ignore[arg-type]
            results.append((int(value), cells.tolist(), octets.tolist()))
        assert results[0] == results[1]


class Wrapping:
    """Octets that take the low eight bits of what is stored, as machine code does; memoryviews refuse larger values."""

    def __init__(self, array: numpy.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> int:
        return int(self.array[index])

    def __setitem__(self, index: int, value: int) -> None:
        self.array[index] = int(value) & 0xFF


def test_prefetch_is_never_a_fault(tmp_path: Path) -> None:
    source = "@kernel\ndef ahead(cells: Int64s, i: int) -> int:\n    return prefetch(cells, i) + len(cells)\n"
    ahead = module_of(source, tmp_path).ahead
    for checked in (False, True):
        made = Built(ahead, checked=checked)
        assert [made(ahead, numpy.zeros(4, numpy.int64), i) for i in (0, 3, 4, -1, TOP, -TOP)] == [4] * 6


def test_attributes_of_modules_are_constants(tmp_path: Path) -> None:
    source = "from observer import segments\n@kernel\ndef f(a: int) -> int:\n    return segments.STRIDE * a\n"
    f = module_of(source, tmp_path).f
    assert Built(f)(f, 3) == 3 * f(1)


# --- indices out of range ---------------------------------------------------------------------------------


@kernel
def reach(cells: Int64s, octets: Octets, i: int, j: int) -> int:
    octets[j] = 3
    cells[i] += 1
    return cells[i] + octets[j]


@pytest.mark.parametrize(("i", "j", "wrong"), [(0, 0, 0), (3, 1, 0), (4, 0, 2), (-1, 0, 2), (0, 2, 2), (TOP, -TOP, 4)])
def test_checked_kernels_count_every_index_out_of_range(i: int, j: int, wrong: int) -> None:
    made = Built(reach, checked=True)
    cells, octets = numpy.zeros(6, numpy.int64), numpy.zeros(4, numpy.uint8)
    made(reach, cells[1:5], octets[1:3], i, j)
    assert made.errors.value == wrong  # type: ignore[union-attr]
    assert cells[[0, 5]].tolist() == [0, 0]
    assert octets[[0, 3]].tolist() == [0, 0]


# --- what is refused ----------------------------------------------------------------------------------------

REFUSED = {
    "float": ("return 1.5", "1.5"),
    "string": ("return len('abc')", "len()"),
    "division": ("return a / b", "Div"),
    "power": ("return a ** b", "Pow"),
    "list": ("c = [a]\n    return 0", "List"),
    "dictionary": ("return {a: b}[a]", "cells of anything but array parameters"),
    "comprehension": ("return sum(i for i in range(a))", "sum()"),
    "lambda": ("return (lambda: a)()", "calls of anything but kernels"),
    "exception": ("raise ValueError", "Raise"),
    "assertion": ("assert a", "Assert"),
    "try": ("try:\n        return a\n    finally:\n        pass", "Try"),
    "with": ("with a:\n        return a", "With"),
    "tuple returned": ("return a, b", "Tuple"),
    "tuple unpacked from a call": ("a, b = divmod(a, b)\n    return a", "tuples other than"),
    "starred": ("a, *b = a, b\n    return a", "this target"),
    "two targets": ("a = b = 3\n    return a", "several targets"),
    "for over an array": ("for i in cells:\n        a += i\n    return a", "for over anything but range()"),
    "for ... else": ("for i in range(a):\n        b += 1\n    else:\n        b = 0\n    return b", "range()"),
    "while ... else": ("while a:\n        a -= 1\n    else:\n        b = 0\n    return b", "while ... else"),
    "a step that varies": ("for i in range(0, a, b):\n        a += 1\n    return a", "step"),
    "slice": ("return cells[1:2][0]", "cells of anything but array parameters"),
    "slice taken": ("return cells[a:b]", "Slice"),
    "keyword": ("return helper(a=1)", "keyword arguments"),
    "too many arguments": ("return helper(a, b)", "2 arguments where helper takes 1"),
    "too few arguments": ("return helper()", "0 arguments where helper takes 1"),
    "int for an array": ("return first(a)", "this where an array is wanted"),
    "octets for int64s": ("return first(octets)", "this where int64s are wanted"),
    "array as a value": ("return cells", "the name cells"),
    "array assigned": ("cells = 3\n    return a", "its array cells as a variable"),
    "unknown name": ("return nowhere", "the name nowhere"),
    "unknown function": ("return print(a)", "print()"),
    "method": ("return a.bit_length()", "calls of anything but kernels"),
    "too large": ("return 1 << 3 | 0x8000000000000000", "does not fit in 64 bits"),
    "walrus": ("return (c := a)", "NamedExpr"),
    "is": ("return a is b", "Is"),
    "in an array": ("return a in cells", "`in` anything but"),
    "global": ("global LATER\n    return a", "Global"),
    "inner function": ("def g() -> int:\n        return 1\n    return a", "FunctionDef"),
    "format": ("return len(f'{a}')", "len()"),
    "matrix": ("return a @ b", "MatMult"),
    "prefetch of an int": ("return prefetch(a, b)", "prefetch of anything"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_file_and_line(name: str, tmp_path: Path) -> None:
    body, complaint = REFUSED[name]
    source = (
        "@kernel\ndef helper(a: int) -> int:\n    return a\n\n\n"
        "@kernel\ndef first(cells: Int64s) -> int:\n    return cells[0]\n\n\n"
        f"@kernel\ndef f(cells: Int64s, octets: Octets, a: int, b: int) -> int:\n    {body}\n"
    )
    module = module_of(source, tmp_path)
    translator = translate.Translator(kernels.kinds_of, prefetch=kernels.prefetch)
    translator.export(module.f, "f")
    with pytest.raises(KernelError) as caught:
        translator.finish()
    text = str(caught.value)
    place, _, message = text.partition(": kernels cannot use ")
    path, _, line = place.rpartition(":")
    assert path == module.__file__
    first = source[: source.index("def f(")].count("\n") + 2
    assert first <= int(line) <= first + 1 + body.count("\n")
    assert complaint in message


def test_keyword_parameters_are_refused(tmp_path: Path) -> None:
    f = module_of("@kernel\ndef f(a: int, *, b: int) -> int:\n    return a\n", tmp_path).f
    translator = translate.Translator(kernels.kinds_of, prefetch=kernels.prefetch)
    translator.export(f, "f")
    with pytest.raises(KernelError, match="positional"):
        translator.finish()


# --- expressions that Hypothesis invents ---------------------------------------------------------------------

leaves = st.one_of(st.sampled_from(("a", "b", "c", "LIMIT")), st.integers(-20, 20).map(str))


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions from smaller ones; no value comes near 64 bits."""
    two, three = st.tuples(inner, inner), st.tuples(inner, inner, inner)
    constant = st.integers(-9, 9).filter(bool)
    comparison = st.sampled_from(("<", "<=", ">", ">=", "==", "!="))
    return st.one_of(
        st.builds("({0[0]} {1} {0[1]})".format, two, st.sampled_from(("+", "-", "&", "|", "^", "and", "or"))),
        st.builds("(({0[0]} & 511) * ({0[1]} % 127))".format, two),
        st.builds("({0} {1} {2})".format, inner, st.sampled_from(("//", "%")), constant),
        st.builds("({0} {1} {2})".format, inner, st.sampled_from((">>", "<<")), st.integers(0, 3)),
        st.builds("({0}({1}))".format, st.sampled_from(("-", "~", "not ", "+", "abs", "bool", "int")), inner),
        st.builds("({0[0]} {1} {0[1]} {2} {0[2]})".format, three, comparison, comparison),
        st.builds("({0[0]} if {0[1]} else {0[2]})".format, three),
        st.builds("({0[0]} {1} ({0[1]}, {0[2]}, 3))".format, three, st.sampled_from(("in", "not in"))),
        st.builds("{1}({0[0]}, {0[1]}, {0[2]})".format, three, st.sampled_from(("min", "max"))),
    )


expressions = st.recursive(leaves, larger, max_leaves=12)
numbers = st.integers(-1000, 1000)


@settings(max_examples=60)
@given(
    texts=st.lists(expressions, min_size=1, max_size=8),
    values=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=10),
)
def test_expressions(
    tmp_path_factory: pytest.TempPathFactory, texts: Sequence[str], values: Sequence[tuple[int, int, int]]
) -> None:
    source = "LIMIT = 7\n" + "".join(
        f"@kernel\ndef f{n}(a: int, b: int, c: int) -> int:\n    return {text}\n" for n, text in enumerate(texts)
    )
    module = module_of(source, tmp_path_factory.getbasetemp())
    functions = [getattr(module, f"f{n}") for n in range(len(texts))]
    made = Built(*functions)
    for function, text in zip(functions, texts, strict=True):
        for value in values:
            assert made(function, *value) == int(function(*value)), text
