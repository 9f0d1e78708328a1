"""One source, two speeds: the same plain Python functions run interpreted or as machine code.

A *kernel* is a plain function over flat one-dimensional arrays (`Octets`, `Int64s`) and ints, without
allocation, exceptions or objects.  `@kernel` marks a helper, `@entry` a function that Python calls: its
annotations are its machine signature.  An entry takes its arrays first, then its ints, and returns an int.

Interpreted, an entry runs on memoryviews: no import beyond numpy, some microseconds a packet, ready at once.
Compiled, numba translates it *once on a machine*; the object code is kept in the user's cache folder and
loaded through llvmlite alone, which takes milliseconds where importing numba takes a quarter of a second.
Both work on the same numpy arrays, so a capture may begin interpreted and go on compiled.

Integer rules that make both speeds agree: every array is int64 (or octets), no value leaves int64, sequence
numbers are masked after each operation, no division of negative numbers, no shift of 64 or more.

Never here: knowledge of packets.  Sources: numba documentation (cfunc, extending.register_jitable), llvmlite
binding documentation (object files through MCJIT).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

if typing.TYPE_CHECKING:
    import numpy

F = TypeVar("F", bound=Callable[..., Any])
Bound = Callable[..., int]


class Octets(Protocol):
    """A flat array of octets (uint8)."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...
    def __len__(self) -> int: ...


class Int64s(Protocol):
    """A flat array of int64."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...
    def __len__(self) -> int: ...


KERNELS: list[Callable[..., Any]] = []
ENTRIES: dict[str, Callable[..., int]] = {}
KERNEL_MODULES = ("observer.capture.scan", "observer.wire.decode", "observer.tcp.track", "observer.tcp.fold")
"""The modules whose entries are compiled; importing them registers all kernels."""


def kernel(function: F) -> F:
    """Mark a helper that kernels call.  The function itself is returned, so interpreted calls cost nothing."""
    KERNELS.append(function)
    return function


def entry(function: F) -> F:
    """Mark a kernel that Python calls through `interpreted` or `Compiled`."""
    KERNELS.append(function)
    ENTRIES[name_of(function)] = function
    return function


def name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__name__}"


def signature(function: Callable[..., Any]) -> list[type]:
    """The annotated types of an entry's parameters: Octets or Int64s first, then int."""
    hints = typing.get_type_hints(function)
    hints.pop("return", None)
    return list(hints.values())


class Interpreted:
    """Runs entries as they stand, on memoryviews."""

    compiled = False

    def bind(self, function: Callable[..., int], *arrays: Any) -> Bound:
        """Fix the arrays of an entry; the result takes its ints.  Bind again after an array was resized."""
        views = tuple(memoryview(array) for array in arrays)

        def call(*ints: int) -> int:
            return function(*views, *ints)

        return call


class Checked:
    """Runs entries compiled by numba with bounds checks, for tests: an index out of range raises IndexError."""

    compiled = True

    def __init__(self) -> None:
        self._dispatchers: dict[str, Any] = {}

    def bind(self, function: Callable[..., int], *arrays: Any) -> Bound:
        import numpy

        name = name_of(function)
        if name not in self._dispatchers:
            numba = _numba_with_kernels(boundscheck=True)
            self._dispatchers[name] = numba.njit(boundscheck=True, error_model="numpy")(function)
        dispatcher = self._dispatchers[name]
        fixed = tuple(numpy.asarray(array) for array in arrays)

        def call(*ints: int) -> int:
            return int(dispatcher(*fixed, *ints))

        return call


class Compiled:
    """Runs entries as machine code.  `notice` is told once if they have to be compiled first."""

    compiled = True

    def __init__(self, notice: Callable[[str], None] | None = None) -> None:
        import ctypes

        import llvmlite.binding as llvm

        objects = object_code(ENTRIES, notice=notice)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        # The object code names numba's reference counting without ever calling it: no kernel allocates.
        anchor = ctypes.CFUNCTYPE(None)(_unreachable)
        for symbol in ("NRT_Free", "NRT_MemInfo_call_dtor"):
            llvm.add_symbol(symbol, ctypes.cast(anchor, ctypes.c_void_p).value)
        self._keep: list[Any] = [anchor]
        self._functions: dict[str, Any] = {}
        for name, code in objects.items():
            machine = llvm.Target.from_default_triple().create_target_machine()
            engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
            engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            engine.finalize_object()
            types: list[Any] = []
            for parameter in signature(ENTRIES[name]):
                types += [ctypes.c_int64] if parameter is int else [ctypes.c_void_p, ctypes.c_int64]
            prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *types)
            self._functions[name] = prototype(engine.get_function_address(symbol_of(name)))
            self._keep.append(engine)

    def bind(self, function: Callable[..., int], *arrays: Any) -> Bound:
        """Fix the arrays of an entry; the result takes its ints.  Bind again after an array was resized."""
        code = self._functions[name_of(function)]
        fixed: list[int] = []
        for array in arrays:
            fixed += [address_of(array), len(array)]
        pinned = arrays  # keeps the memory alive as long as the bound call

        def call(*ints: int) -> int:
            return int(code(*fixed, *ints)) if pinned is not None else 0

        return call


Engine = Interpreted | Compiled | Checked


def _unreachable() -> None:
    os.abort()


def address_of(array: Any) -> int:
    """The address of a numpy array's or a writable buffer's memory."""
    import numpy

    flat: numpy.ndarray[Any, Any] = array if isinstance(array, numpy.ndarray) else numpy.frombuffer(array, numpy.uint8)
    return int(flat.__array_interface__["data"][0])


# --- compilation and its cache ---------------------------------------------------------------------


def symbol_of(name: str) -> str:
    return "cfunc." + name.replace(".", "_")


def fingerprint() -> str:
    """Names everything the object code depends on: the kernels' sources, the compiler, the processor."""
    from importlib.metadata import version

    import llvmlite.binding as llvm

    digest = hashlib.sha256()
    package = Path(__file__).parent
    for folder in ("capture", "wire", "tcp"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.read_bytes())
    for name in ("segments.py", "kernels.py"):
        digest.update((package / name).read_bytes())
    for part in (sys.version, version("numba"), version("llvmlite"), llvm.get_host_cpu_name()):
        digest.update(part.encode())
    digest.update(str(sorted(llvm.get_host_cpu_features().items())).encode())
    return digest.hexdigest()[:20]


def cache_folder() -> Path | None:
    """Where object code is kept, or None if no folder there is the user's own and closed to others.

    Machine code is loaded from it, so a folder that somebody else can write to is not used (root running
    with another user's HOME, for one).
    """
    base = os.environ.get("OBSERVER_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "tcp-observer"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder if _is_own(folder) else None
    except (OSError, RuntimeError):
        return None


def _is_own(path: Path) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def object_code(names: Iterable[str], *, notice: Callable[[str], None] | None = None) -> dict[str, bytes]:
    """Object code of the entries, from the cache or compiled now (and then kept)."""
    folder, mark = cache_folder(), fingerprint()
    found: dict[str, bytes] = {}
    missing = []
    for name in names:
        path = folder / f"{name}-{mark}.o" if folder else None
        if path and path.is_file() and _is_own(path):
            found[name] = path.read_bytes()
        else:
            missing.append(name)
    if not missing:
        return found
    if notice:
        notice("compiling for this machine; this happens once and takes some seconds")
    helper = None
    if folder and len(missing) > 1 and (os.cpu_count() or 1) > 1:
        # The tracker takes longer than all others together: they are compiled beside it.
        rest = [name for name in missing if name != "observer.tcp.track.track"]
        helper = subprocess.Popen([sys.executable, "-m", "observer.kernels", *rest], stdout=subprocess.DEVNULL)
        first = [name for name in missing if name not in rest]
    else:
        first, rest = missing, []
    for name in first:
        found[name] = _compile_and_keep(name, folder, mark)
    if helper:
        helper.wait()
    for name in rest:
        path = folder / f"{name}-{mark}.o" if folder else None
        found[name] = path.read_bytes() if path and path.is_file() else _compile_and_keep(name, folder, mark)
    if folder:
        _remove_old(folder, mark)
    return found


def _compile_and_keep(name: str, folder: Path | None, mark: str) -> bytes:
    code = compile_entry(ENTRIES[name], symbol_of(name))
    if folder:
        path = folder / f"{name}-{mark}.o"
        part = path.with_suffix(f".{os.getpid()}")
        try:
            part.write_bytes(code)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
    return code


def _remove_old(folder: Path, mark: str, keep: int = 60) -> None:
    """Keep the newest object files only: each change of a kernel leaves a set behind."""
    files = sorted(folder.glob("observer.*.o"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[keep:]:
        if mark not in path.name:
            path.unlink(missing_ok=True)


def _numba_with_kernels(**options: Any) -> Any:
    """numba, told of every kernel, so that kernels can call each other."""
    import numba
    import numba.extending

    if not getattr(_numba_with_kernels, "done", False):
        for function in KERNELS:
            numba.extending.register_jitable(error_model="numpy", **options)(function)
        _numba_with_kernels.done = True  # type: ignore[attr-defined]
    return numba


def compile_entry(function: Callable[..., int], symbol: str) -> bytes:
    """Object code of one entry under the given symbol, with C calling convention.

    Each array parameter becomes two, its address and its length.
    """
    numba = _numba_with_kernels()
    parameters, arguments, types = [], [], []
    for i, parameter in enumerate(signature(function)):
        if parameter is int:
            parameters.append(f"n{i}")
            arguments.append(f"n{i}")
            types.append(numba.types.int64)
        else:
            item = numba.types.uint8 if parameter is Octets else numba.types.int64
            parameters += [f"a{i}", f"l{i}"]
            arguments.append(f"carray(a{i}, l{i})")
            types += [numba.types.CPointer(item), numba.types.int64]
    source = f"def wrapper({', '.join(parameters)}):\n    return target({', '.join(arguments)})\n"
    space: dict[str, Any] = {"carray": numba.carray, "target": function}
    exec(source, space)  # noqa: S102  the text is made above, from parameter positions only
    compiled = numba.cfunc(numba.types.int64(*types), error_model="numpy")(space["wrapper"])
    return _renamed(compiled, symbol)


def _renamed(compiled: Any, symbol: str) -> bytes:
    """The library's object code with its entry point under a name that needs no numba to find."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(str(compiled._library._final_module))
    module.get_function(compiled._wrapper_name).name = symbol
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="default",
        codemodel="jitdefault", jit=True,
    )
    return bytes(machine.emit_object(module))


def main() -> None:
    """Compile the entries named as arguments into the cache (the helper process of `object_code`)."""
    import importlib

    # run as a script, this module exists twice: the entries register with the one that they import
    from observer import kernels

    for module in kernels.KERNEL_MODULES:
        importlib.import_module(module)
    folder, mark = kernels.cache_folder(), kernels.fingerprint()
    for name in sys.argv[1:]:
        kernels._compile_and_keep(name, folder, mark)


if __name__ == "__main__":
    main()
