"""From kernels, plain Python functions over ints and flat arrays, to LLVM's intermediate representation.

The subset is small on purpose, and anything outside it is an error that names file and line:

* every value is a 64-bit signed int (a comparison gives 0 or 1); arrays are `Octets` or `Int64s` parameters;
* statements: assignment to names, array cells and tuples of them, `if`, `while`, `for` over `range`, `break`,
  `continue`, `return`, calls;
* expressions: ints, module constants, arithmetic and bit operations, comparisons (chained ones too), `in` a tuple of
  ints, `and` / `or` / `not`, conditional expressions, cells of arrays, `len`, `min`, `max`, calls of other kernels.

Results agree with the interpreter as long as no value leaves 64 bits; products and sums may wrap where only low bits
are used.  Division and modulo round down as Python's do.

Why not numba: the tracker's kernels are some hundred and fifty functions; numba takes 30 s for them where this takes
3 s, and passes seven machine words for each array argument where this passes two.

Never here: anything about packets.  Source: LLVM language reference; llvmlite's documentation.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llvmlite import ir

I64 = ir.IntType(64)
I8 = ir.IntType(8)
BIT = ir.IntType(1)

COMPARISONS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}

# Only these passes matter to a front end that keeps every variable in memory; LLVM's -O3 has them all.
OPTIMISATION = 3


class KernelError(TypeError):
    """A kernel uses something that kernels must not use."""


class Array:
    """An array parameter while its function is translated: address, length, width of its items."""

    def __init__(self, address: ir.Value, length: ir.Value, item: ir.IntType) -> None:
        self.address, self.length, self.item = address, length, item


class Translator:
    """Translates a set of kernels into one LLVM module.

    Parameters
    ----------
    kinds
        Gives for a kernel function the kind of each parameter: ``"octets"``, ``"int64s"`` or ``"int"``.
    prefetch
        The function whose calls become the processor's prefetch instruction.
    checked
        Check every index: one out of range is counted in the global ``out_of_range`` and reads or writes a
        cell of its own instead.
    """

    def __init__(
        self,
        kinds: Callable[[Callable[..., Any]], list[str]],
        *,
        prefetch: Callable[..., Any] | None = None,
        checked: bool = False,
    ) -> None:
        self.prefetch = prefetch
        self.module = ir.Module(name="observer")
        self.kinds = kinds
        self.checked = checked
        self.functions: dict[int, ir.Function] = {}
        self.waiting: list[tuple[Callable[..., Any], ir.Function]] = []
        self._trees: dict[str, dict[tuple[str, int], ast.FunctionDef]] = {}
        if checked:
            for name in ("out_of_range", "spare_cell"):
                cell = ir.GlobalVariable(self.module, I64, name)
                cell.initializer = ir.Constant(I64, 0)

    def export(self, function: Callable[..., Any], symbol: str) -> None:
        """Add a kernel that is called from outside, by the C calling convention, under a name."""
        inner = self.declare(function)
        outer = ir.Function(self.module, inner.function_type, symbol)
        builder = ir.IRBuilder(outer.append_basic_block())
        builder.ret(builder.call(inner, outer.args))

    def finish(self) -> str:
        """Translate everything that was asked for and what it calls; the module as text."""
        while self.waiting:
            function, declared = self.waiting.pop()
            FunctionTranslator(self, function, declared).run()
        return str(self.module)

    def declare(self, function: Callable[..., Any]) -> ir.Function:
        """The LLVM function for a kernel; its body follows later."""
        if id(function) not in self.functions:
            parameters: list[ir.Type] = []
            for kind in self.kinds(function):
                if kind == "int":
                    parameters.append(I64)
                else:
                    parameters += [ir.PointerType(), I64]
            name = f"{function.__module__}.{function.__name__}"
            declared = ir.Function(self.module, ir.FunctionType(I64, parameters), name)
            declared.linkage = "internal"
            self.functions[id(function)] = declared
            self.waiting.append((function, declared))
        return self.functions[id(function)]

    def tree_of(self, function: Callable[..., Any]) -> ast.FunctionDef:
        """The syntax tree of a function, from its file."""
        code = function.__code__
        if code.co_filename not in self._trees:
            module = ast.parse(Path(code.co_filename).read_text(encoding="utf-8"))
            found = {}
            for node in ast.walk(module):
                if isinstance(node, ast.FunctionDef):
                    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                    found[node.name, first] = node
            self._trees[code.co_filename] = found
        return self._trees[code.co_filename][code.co_name, code.co_firstlineno]


class FunctionTranslator:
    """Translates the body of one kernel."""

    def __init__(self, whole: Translator, function: Callable[..., Any], declared: ir.Function) -> None:
        self.whole = whole
        self.function = function
        self.declared = declared
        self.tree = whole.tree_of(function)
        self.entry = declared.append_basic_block("entry")
        self.builder = ir.IRBuilder(declared.append_basic_block("body"))
        self.names: dict[str, ir.Value] = {}
        self.arrays: dict[str, Array] = {}
        self.loops: list[tuple[ir.Block, ir.Block]] = []

    # --- frame -----------------------------------------------------------------------------------------

    def run(self) -> None:
        body = self.builder.block
        values = iter(self.declared.args)
        if len(self.tree.args.args) != len(self.whole.kinds(self.function)):
            raise self.fail(self.tree, "parameters that are not positional")
        for argument, kind in zip(self.tree.args.args, self.whole.kinds(self.function), strict=True):
            if kind == "int":
                self.builder.store(next(values), self.variable(argument.arg))
            else:
                item = I8 if kind == "octets" else I64
                self.arrays[argument.arg] = Array(next(values), next(values), item)
        self.block(self.tree.body)
        if not self.builder.block.is_terminated:
            self.builder.ret(I64(0))
        ir.IRBuilder(self.entry).branch(body)

    def fail(self, node: ast.AST, message: str) -> KernelError:
        line = getattr(node, "lineno", "?")
        return KernelError(f"{self.function.__code__.co_filename}:{line}: kernels cannot use {message}")

    def variable(self, name: str) -> ir.Value:
        """The memory of a local variable (LLVM's mem2reg turns it into registers)."""
        if name in self.arrays:
            raise self.fail(self.tree, f"its array {name} as a variable")
        if name not in self.names:
            builder = ir.IRBuilder(self.entry)
            builder.position_at_start(self.entry)
            self.names[name] = builder.alloca(I64, name=name)
        return self.names[name]

    # --- statements ------------------------------------------------------------------------------------

    def block(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            if self.builder.block.is_terminated:
                return  # behind a return, break or continue
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        method = getattr(self, f"do_{type(node).__name__}", None)
        if method is None:
            raise self.fail(node, type(node).__name__)
        method(node)

    def do_Pass(self, node: ast.Pass) -> None:
        """Nothing."""

    def do_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.value(node.value)

    def do_Assign(self, node: ast.Assign) -> None:
        if len(node.targets) != 1:
            raise self.fail(node, "several targets in one assignment")
        target = node.targets[0]
        if isinstance(target, ast.Tuple):
            if not isinstance(node.value, ast.Tuple) or len(node.value.elts) != len(target.elts):
                raise self.fail(node, "tuples other than in `a, b = c, d`")
            values = [self.value(element) for element in node.value.elts]
            for element, value in zip(target.elts, values, strict=True):
                self.assign(element, value)
        else:
            self.assign(target, self.value(node.value))

    def do_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value))

    def do_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Subscript):
            cell, item = self.cell(node.target)
            old = self.load(cell, item)
            self.store(self.operate(node, node.op, old, self.value(node.value)), cell, item)
        else:
            if not isinstance(node.target, ast.Name):
                raise self.fail(node, "this target")
            old = self.builder.load(self.variable(node.target.id), typ=I64)
            self.assign(node.target, self.operate(node, node.op, old, self.value(node.value)))

    def assign(self, target: ast.expr, value: ir.Value) -> None:
        if isinstance(target, ast.Name):
            self.builder.store(value, self.variable(target.id))
        elif isinstance(target, ast.Subscript):
            self.store(value, *self.cell(target))
        else:
            raise self.fail(target, "this target")

    def do_Return(self, node: ast.Return) -> None:
        self.builder.ret(I64(0) if node.value is None else self.value(node.value))

    def do_If(self, node: ast.If) -> None:
        yes, end = self.new_block("then"), self.new_block("endif")
        no = self.new_block("else") if node.orelse else end
        self.condition(node.test, yes, no)
        for start, statements in ((yes, node.body), (no, node.orelse)):
            if start is end:
                continue
            self.builder.position_at_end(start)
            self.block(statements)
            if not self.builder.block.is_terminated:
                self.builder.branch(end)
        self.builder.position_at_end(end)

    def do_While(self, node: ast.While) -> None:
        if node.orelse:
            raise self.fail(node, "while ... else")
        test, body, end = self.new_block("while"), self.new_block("do"), self.new_block("done")
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.condition(node.test, body, end)
        self.loop(node.body, body, test, end)
        self.builder.branch(test) if not self.builder.block.is_terminated else None
        self.builder.position_at_end(end)

    def do_For(self, node: ast.For) -> None:
        call = node.iter
        ranged = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"
        if not ranged or node.orelse or not isinstance(node.target, ast.Name) or not isinstance(call, ast.Call):
            raise self.fail(node, "for over anything but range()")
        bounds = [self.value(argument) for argument in call.args]
        start, stop = (I64(0), bounds[0]) if len(bounds) == 1 else (bounds[0], bounds[1])
        step = bounds[2] if len(bounds) == 3 else I64(1)
        if not isinstance(step, ir.Constant):
            raise self.fail(node, "a range step that is not a constant")
        counter = self.variable(f".{node.target.id}.{node.lineno}")
        self.builder.store(start, counter)
        test, body, after, end = (self.new_block(name) for name in ("for", "do", "next", "done"))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        now = self.builder.load(counter, typ=I64)
        going = self.builder.icmp_signed("<" if step.constant > 0 else ">", now, stop)
        self.builder.cbranch(going, body, end)
        self.builder.position_at_end(body)
        self.assign(node.target, now)
        self.loop(node.body, body, after, end)
        if not self.builder.block.is_terminated:
            self.builder.branch(after)
        self.builder.position_at_end(after)
        self.builder.store(self.builder.add(self.builder.load(counter, typ=I64), step), counter)
        self.builder.branch(test)
        self.builder.position_at_end(end)

    def loop(self, statements: list[ast.stmt], body: ir.Block, again: ir.Block, end: ir.Block) -> None:
        self.builder.position_at_end(body)
        self.loops.append((again, end))
        self.block(statements)
        self.loops.pop()

    def do_Break(self, node: ast.Break) -> None:
        self.builder.branch(self.loops[-1][1])

    def do_Continue(self, node: ast.Continue) -> None:
        self.builder.branch(self.loops[-1][0])

    def new_block(self, name: str) -> ir.Block:
        return self.declared.append_basic_block(name)

    # --- conditions ------------------------------------------------------------------------------------

    def condition(self, node: ast.expr, yes: ir.Block, no: ir.Block) -> None:
        """Branch on the truth of an expression, without evaluating more than Python does."""
        if isinstance(node, ast.BoolOp):
            for part in node.values[:-1]:
                further = self.new_block("and" if isinstance(node.op, ast.And) else "or")
                if isinstance(node.op, ast.And):
                    self.condition(part, further, no)
                else:
                    self.condition(part, yes, further)
                self.builder.position_at_end(further)
            self.condition(node.values[-1], yes, no)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.condition(node.operand, no, yes)
        else:
            self.builder.cbranch(self.truth(self.value(node)), yes, no)

    def truth(self, value: ir.Value) -> ir.Value:
        return self.builder.icmp_signed("!=", value, I64(0))

    def as_int(self, bit: ir.Value) -> ir.Value:
        return self.builder.zext(bit, I64)

    # --- expressions -----------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> ir.Value:
        method = getattr(self, f"get_{type(node).__name__}", None)
        if method is None:
            raise self.fail(node, type(node).__name__)
        return method(node)

    def get_Constant(self, node: ast.Constant) -> ir.Value:
        if not isinstance(node.value, int):
            raise self.fail(node, f"the constant {node.value!r}")
        return self.constant(node, int(node.value))

    def constant(self, node: ast.AST, value: int) -> ir.Value:
        if not -(1 << 63) <= value < 1 << 63:
            raise self.fail(node, f"{value}, which does not fit in 64 bits")
        return I64(value)

    def get_Name(self, node: ast.Name) -> ir.Value:
        if node.id in self.names:
            return self.builder.load(self.names[node.id], typ=I64)
        known = self.resolve(node)
        if isinstance(known, int):
            return self.constant(node, int(known))
        raise self.fail(node, f"the name {node.id}")

    def get_Attribute(self, node: ast.Attribute) -> ir.Value:
        known = self.resolve(node)
        if isinstance(known, int):
            return self.constant(node, int(known))
        raise self.fail(node, f"the attribute {node.attr}")

    def resolve(self, node: ast.expr) -> Any:
        """What a global name or a module's attribute stands for; None if nothing."""
        if isinstance(node, ast.Name):
            return self.function.__globals__.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.resolve(node.value)
            return getattr(owner, node.attr, None) if isinstance(owner, types.ModuleType) else None
        return None

    def get_BinOp(self, node: ast.BinOp) -> ir.Value:
        return self.operate(node, node.op, self.value(node.left), self.value(node.right))

    def operate(self, node: ast.AST, op: ast.operator, a: ir.Value, b: ir.Value) -> ir.Value:
        simple = {
            ast.Add: self.builder.add,
            ast.Sub: self.builder.sub,
            ast.Mult: self.builder.mul,
            ast.BitAnd: self.builder.and_,
            ast.BitOr: self.builder.or_,
            ast.BitXor: self.builder.xor,
            ast.LShift: self.builder.shl,
            ast.RShift: self.builder.ashr,
        }
        if type(op) in simple:
            return simple[type(op)](a, b)
        if isinstance(op, ast.FloorDiv | ast.Mod):
            quotient, rest = self.builder.sdiv(a, b), self.builder.srem(a, b)
            # Python rounds down: one less if there is a rest and the signs differ
            differ = self.builder.icmp_signed("<", self.builder.xor(rest, b), I64(0))
            off = self.builder.and_(differ, self.truth(rest))
            if isinstance(op, ast.FloorDiv):
                return self.builder.sub(quotient, self.as_int(off))
            return self.builder.add(rest, self.builder.select(off, b, I64(0)))
        raise self.fail(node, type(op).__name__)

    def get_UnaryOp(self, node: ast.UnaryOp) -> ir.Value:
        value = self.value(node.operand)
        if isinstance(node.op, ast.USub):
            constant = isinstance(value, ir.Constant) and isinstance(value.constant, int)
            return I64(-value.constant) if constant else self.builder.neg(value)
        if isinstance(node.op, ast.Invert):
            return self.builder.not_(value)
        if isinstance(node.op, ast.Not):
            return self.as_int(self.builder.icmp_signed("==", value, I64(0)))
        return value

    def get_Compare(self, node: ast.Compare) -> ir.Value:
        """A chain stops at the first comparison that fails, as in Python: what comes behind may be out of range."""
        arrivals: list[tuple[ir.Value, ir.Block]] = []
        end = self.new_block("endchain") if len(node.ops) > 1 else None
        left, bit = self.value(node.left), BIT(0)
        for number, (op, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if isinstance(op, ast.In | ast.NotIn):
                bit = self.member(right_node, left)
                if isinstance(op, ast.NotIn):
                    bit = self.builder.not_(bit)
                right = left
            elif type(op) in COMPARISONS:
                right = self.value(right_node)
                bit = self.builder.icmp_signed(COMPARISONS[type(op)], left, right)
            else:
                raise self.fail(node, type(op).__name__)
            left = right
            if end is not None and number + 1 < len(node.ops):
                arrivals.append((I64(0), self.builder.block))
                further = self.new_block("chain")
                self.builder.cbranch(bit, further, end)
                self.builder.position_at_end(further)
        result = self.as_int(bit)
        if end is None:
            return result
        arrivals.append((result, self.builder.block))
        self.builder.branch(end)
        return self.join(end, arrivals)

    def member(self, node: ast.expr, value: ir.Value) -> ir.Value:
        """Whether a value is one of a tuple or set of ints."""
        if isinstance(node, ast.Tuple | ast.Set):
            others = [self.value(element) for element in node.elts]
        else:
            known = self.resolve(node)
            if not isinstance(known, tuple | frozenset):
                raise self.fail(node, "`in` anything but a tuple or frozenset of ints")
            others = [self.constant(node, int(item)) for item in known]
        result: ir.Value = BIT(0)
        for other in others:
            result = self.builder.or_(result, self.builder.icmp_signed("==", value, other))
        return result

    def get_BoolOp(self, node: ast.BoolOp) -> ir.Value:
        """`and` and `or` give the operand that decided, as in Python."""
        end = self.new_block("endbool")
        arrivals = []
        for part in node.values[:-1]:
            value = self.value(part)
            arrivals.append((value, self.builder.block))
            further = self.new_block("bool")
            if isinstance(node.op, ast.And):
                self.builder.cbranch(self.truth(value), further, end)
            else:
                self.builder.cbranch(self.truth(value), end, further)
            self.builder.position_at_end(further)
        value = self.value(node.values[-1])
        arrivals.append((value, self.builder.block))
        self.builder.branch(end)
        return self.join(end, arrivals)

    def get_IfExp(self, node: ast.IfExp) -> ir.Value:
        yes, no, end = self.new_block("yes"), self.new_block("no"), self.new_block("endselect")
        self.condition(node.test, yes, no)
        arrivals = []
        for start, part in ((yes, node.body), (no, node.orelse)):
            self.builder.position_at_end(start)
            arrivals.append((self.value(part), self.builder.block))
            self.builder.branch(end)
        return self.join(end, arrivals)

    def join(self, end: ir.Block, arrivals: list[tuple[ir.Value, ir.Block]]) -> ir.Value:
        self.builder.position_at_end(end)
        phi = self.builder.phi(I64)
        for value, block in arrivals:
            phi.add_incoming(value, block)
        return phi

    # --- arrays ----------------------------------------------------------------------------------------

    def get_Subscript(self, node: ast.Subscript) -> ir.Value:
        return self.load(*self.cell(node))

    def cell(self, node: ast.Subscript) -> tuple[ir.Value, ir.IntType]:
        """Address of an array's cell, and the type of what is in it."""
        if not isinstance(node.value, ast.Name) or node.value.id not in self.arrays:
            raise self.fail(node, "cells of anything but array parameters")
        array = self.arrays[node.value.id]
        index = self.value(node.slice)
        address = self.builder.gep(array.address, [index], source_etype=array.item)
        if self.whole.checked:
            inside = self.builder.icmp_unsigned("<", index, array.length)
            counter = self.whole.module.get_global("out_of_range")
            count = self.builder.load(counter, typ=I64)
            self.builder.store(self.builder.add(count, self.as_int(self.builder.not_(inside))), counter)
            address = self.builder.select(inside, address, self.whole.module.get_global("spare_cell"))
        return address, array.item

    def load(self, cell: ir.Value, item: ir.IntType) -> ir.Value:
        value = self.builder.load(cell, typ=item)
        return value if item is I64 else self.builder.zext(value, I64)

    def store(self, value: ir.Value, cell: ir.Value, item: ir.IntType) -> None:
        self.builder.store(value if item is I64 else self.builder.trunc(value, item), cell)

    # --- calls -----------------------------------------------------------------------------------------

    def get_Call(self, node: ast.Call) -> ir.Value:
        if node.keywords:
            raise self.fail(node, "keyword arguments")
        known = self.resolve(node.func)
        if known is not None and known is self.whole.prefetch:
            return self.fetch_ahead(node)
        if known is None and isinstance(node.func, ast.Name):
            return self.builtin(node, node.func.id)
        if not isinstance(known, types.FunctionType):
            raise self.fail(node, "calls of anything but kernels")
        kinds = self.whole.kinds(known)
        if len(node.args) != len(kinds):
            raise self.fail(node, f"{len(node.args)} arguments where {known.__name__} takes {len(kinds)}")
        arguments: list[ir.Value] = []
        for argument, kind in zip(node.args, kinds, strict=True):
            if kind == "int":
                arguments.append(self.value(argument))
            elif isinstance(argument, ast.Name) and argument.id in self.arrays:
                array = self.arrays[argument.id]
                if array.item is not (I8 if kind == "octets" else I64):
                    raise self.fail(argument, f"this where {kind} are wanted")
                arguments += [array.address, array.length]
            else:
                raise self.fail(argument, "this where an array is wanted")
        return self.builder.call(self.whole.declare(known), arguments)

    def fetch_ahead(self, node: ast.Call) -> ir.Value:
        """The processor's prefetch instruction; never a fault, whatever the index."""
        array = node.args[0]
        if not isinstance(array, ast.Name) or array.id not in self.arrays:
            raise self.fail(node, "prefetch of anything but an array parameter")
        kept = self.arrays[array.id]
        address = self.builder.gep(kept.address, [self.value(node.args[1])], source_etype=kept.item)
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), ir.IntType(32), ir.IntType(32), ir.IntType(32)])
        name = "llvm.prefetch.p0"
        module = self.whole.module
        function = module.globals.get(name) or ir.Function(module, kind, name)
        half = ir.IntType(32)
        self.builder.call(function, [address, half(1), half(3), half(1)])  # for writing, keep in all caches, data
        return I64(0)

    def builtin(self, node: ast.Call, name: str) -> ir.Value:
        if name == "len" and isinstance(node.args[0], ast.Name) and node.args[0].id in self.arrays:
            return self.arrays[node.args[0].id].length
        if name in ("int", "bool") and len(node.args) == 1:
            value = self.value(node.args[0])
            return value if name == "int" else self.as_int(self.truth(value))
        if name in ("min", "max"):
            result = self.value(node.args[0])
            for argument in node.args[1:]:
                other = self.value(argument)
                first = self.builder.icmp_signed("<=" if name == "min" else ">=", result, other)
                result = self.builder.select(first, result, other)
            return result
        if name == "abs":
            value = self.value(node.args[0])
            return self.builder.select(self.builder.icmp_signed("<", value, I64(0)), self.builder.neg(value), value)
        raise self.fail(node, f"{name}()")


def object_code(text: str) -> bytes:
    """Machine code of a module for this processor."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=OPTIMISATION,
        reloc="pic", codemodel="small", jit=True,
    )  # fmt: skip
    module.triple = llvm.get_process_triple()
    module.data_layout = str(machine.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    tuning.slp_vectorization = False  # costs compile time and gains nothing on pointer chasing
    tuning.loop_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))
