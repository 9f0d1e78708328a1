"""One source, two speeds: the same plain Python functions run interpreted or as machine code.

A *kernel* is a plain function over flat one-dimensional arrays (`Octets`, `Int64s`) and ints, without
allocation, exceptions or objects.  `@kernel` marks a helper, `@entry` a function that Python calls: its
annotations are its machine signature.  An entry takes its arrays first, then its ints, and returns an int.

Interpreted, an entry runs on memoryviews: no import beyond numpy, some microseconds a packet, ready at once.
Compiled, `translate.py` turns all kernels into machine code *once on a machine*; it is kept in the user's cache
folder, as an image that is mapped in some milliseconds (`code_image.py`), or as object code that llvmlite loads.  Both
speeds work on the same numpy arrays, so a capture may begin interpreted and go on compiled.

Integer rules that make both speeds agree: every array is int64 (or octets), no value leaves int64 (products and sums
may wrap where only low bits are used), sequence numbers are masked after each operation, no shift of 64 or more.

Never here: knowledge of packets.  Source: llvmlite's binding documentation (object files through MCJIT).
"""

from __future__ import annotations

import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from observer import code_image

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


ENTRIES: dict[str, Callable[..., int]] = {}
KERNEL_MODULES = (
    "observer.capture.scan",
    "observer.wire.decode",
    "observer.tcp.track",
    "observer.tcp.fold",
    "observer.tcp.columns",
    "observer.tcp.addresses",
    "observer.tcp.forget",
    "observer.tcp.summary",
)
"""The modules whose entries are compiled; importing them registers all kernels."""


def kernel(function: F) -> F:
    """Mark a helper that kernels call.  The function itself is returned, so interpreted calls cost nothing."""
    return function


def entry(function: F) -> F:
    """Mark a kernel that Python calls, through an engine's `bind`."""
    ENTRIES[name_of(function)] = function
    return function


def prefetch(array: Int64s, index: int) -> int:
    """Say that a cell will be wanted soon; interpreted, nothing happens.  The index may be anything."""
    return 0


PROCESSOR_LINES: Final = (
    "vendor_id", "cpu family", "model", "stepping", "flags",
    "cpu implementer", "cpu architecture", "cpu variant", "cpu part", "cpu revision", "features",
)  # fmt: skip
"""What /proc/cpuinfo says of a processor's kind: x86, then ARM.  Never its speed, which is another in each run."""


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


class Compiled:
    """Runs entries as machine code.  `notice` is told once if they have to be compiled first.

    Parameters
    ----------
    notice
        Called with a sentence before a compilation that takes seconds.
    checked
        For tests: count every index out of range and raise IndexError after the call.  Never cached.
    """

    compiled = True

    def __init__(self, notice: Callable[[str], None] | None = None, *, checked: bool = False) -> None:
        import ctypes

        register_all()
        self._errors: Any = None
        image = None if checked else code_image_of(notice)
        if image:
            self._memory: Any = image.memory  # the code stays mapped
            addresses = image.addresses
        else:
            self._memory = linked_by_llvm(compile_entries(checked=True) if checked else object_code(notice))
            addresses = {symbol_of(name): self._memory.get_function_address(symbol_of(name)) for name in ENTRIES}
        if checked:
            self._errors = ctypes.c_int64.from_address(self._memory.get_global_value_address("out_of_range"))
        self._functions: dict[str, Any] = {}
        for name, function in ENTRIES.items():
            types: list[Any] = []
            for parameter in signature(function):
                types += [ctypes.c_int64] if parameter is int else [ctypes.c_void_p, ctypes.c_int64]
            prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *types)
            address = addresses.get(symbol_of(name))
            if not address:  # calling it would end the process
                raise RuntimeError(f"the machine code has no {name}: remove {cache_folder()}")
            self._functions[name] = prototype(address)

    def bind(self, function: Callable[..., int], *arrays: Any) -> Bound:
        """Fix the arrays of an entry; the result takes its ints.  Bind again after an array was resized."""
        code = self._functions[name_of(function)]
        fixed: list[int] = []
        for array in arrays:
            fixed += [address_of(array), len(array)]

        def call(*ints: int, _pinned: Any = (arrays, self._memory)) -> int:  # _pinned keeps arrays and code alive
            return int(code(*fixed, *ints))

        return self._watch(call, name_of(function)) if self._errors is not None else call

    def _watch(self, call: Bound, name: str) -> Bound:
        def checked(*ints: int) -> int:
            self._errors.value = 0
            result = call(*ints)
            if self._errors.value:
                raise IndexError(f"{name}: {self._errors.value} cells out of range")
            return result

        return checked


def checked_engine() -> Compiled:
    """Compiled kernels with bounds checks, for tests; made once in a process."""
    global _CHECKED  # noqa: PLW0603  a cache of something that costs seconds
    if _CHECKED is None:
        _CHECKED = Compiled(checked=True)
    return _CHECKED


_CHECKED: Compiled | None = None

Engine = Interpreted | Compiled


def Checked() -> Compiled:  # noqa: N802  reads like the engines beside it
    """Compiled kernels with bounds checks, for tests."""
    return checked_engine()


def address_of(array: Any) -> int:
    """The address of a numpy array's or a writable buffer's memory."""
    import numpy

    flat: numpy.ndarray[Any, Any] = array if isinstance(array, numpy.ndarray) else numpy.frombuffer(array, numpy.uint8)
    return int(flat.__array_interface__["data"][0])


# --- compilation and its cache ---------------------------------------------------------------------


def register_all() -> None:
    """Import every module with entries, so that ENTRIES is complete."""
    import importlib
    import importlib.util

    for module in KERNEL_MODULES:
        if importlib.util.find_spec(module):
            importlib.import_module(module)


def symbol_of(name: str) -> str:
    return "entry." + name


def kinds_of(function: Callable[..., Any]) -> list[str]:
    """What each parameter of a kernel is: "octets", "int64s" or "int"."""
    if function not in _KINDS:
        names: dict[Any, str] = {Octets: "octets", Int64s: "int64s"}
        _KINDS[function] = [names.get(parameter, "int") for parameter in signature(function)]
    return _KINDS[function]


_KINDS: dict[Callable[..., Any], list[str]] = {}


def compile_entries(*, checked: bool = False) -> bytes:
    """Object code of all entries, each under `symbol_of` its name."""
    from observer import translate

    translator = translate.Translator(kinds_of, prefetch=prefetch, checked=checked)
    for name, function in ENTRIES.items():
        translator.export(function, symbol_of(name))
    return translate.object_code(translator.finish())


def fingerprint() -> str:
    """Names everything the machine code depends on: the kernels' sources, the compiler, the processor."""
    import hashlib
    import importlib.util

    digest = hashlib.sha256()
    package = Path(__file__).parent
    for folder in ("capture", "wire", "tcp"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.read_bytes())
    for file in ("segments.py", "kernels.py", "translate.py", "code_image.py"):
        digest.update((package / file).read_bytes())
    compiler = importlib.util.find_spec("llvmlite")  # found, not imported: that takes 40 ms
    if compiler and compiler.origin:
        digest.update((Path(compiler.origin).parent / "_version.py").read_bytes())
    digest.update(sys.version.encode())
    digest.update(processor().encode())
    return digest.hexdigest()[:20]


def processor() -> str:
    """What tells this processor from others that cannot run the same code."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            first = file.read(16384).split("\n\n")[0]  # the first of perhaps hundreds
    except OSError:
        import llvmlite.binding as llvm

        return f"{llvm.get_host_cpu_name()} {sorted(llvm.get_host_cpu_features().items())}"
    kept = [line for line in first.splitlines() if line.lower().startswith(PROCESSOR_LINES)]
    return "\n".join(kept)


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


def object_code(notice: Callable[[str], None] | None = None) -> bytes:
    """Object code of all entries, from the cache or compiled now (and then kept)."""
    folder = cache_folder()
    path = folder / f"kernels-{fingerprint()}.o" if folder else None
    if path and path.is_file() and _is_own(path):
        return path.read_bytes()
    if notice:
        notice("compiling for this machine; this happens once and takes some seconds")
    code = compile_entries()
    if folder and path:
        image = code_image.link(code, [symbol_of(name) for name in ENTRIES])
        if image:
            _keep(path.with_suffix(".image"), image)
        _keep(path, code)
        _remove_old(folder)
    return code


def _keep(path: Path, octets: bytes) -> None:
    """Write a file of the cache, wholly or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        part.write_bytes(octets)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)


def code_image_of(notice: Callable[[str], None] | None = None) -> code_image.Image | None:
    """The entries' machine code, mapped from the cache, compiled before if need be; None if llvmlite must load it."""
    folder = cache_folder()
    if not folder:
        return None
    path = folder / f"kernels-{fingerprint()}.image"
    if not path.is_file():
        object_code(notice)
    return code_image.load(path) if path.is_file() and _is_own(path) else None


def linked_by_llvm(code: bytes) -> Any:
    """Object code in memory, put there by llvmlite."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    library = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    library.add_object_file(llvm.ObjectFileRef.from_data(code))
    library.finalize_object()
    return library


def is_cached() -> bool:
    """Whether compiled kernels can be had without compiling."""
    folder = cache_folder()
    return folder is not None and (folder / f"kernels-{fingerprint()}.o").is_file()


def _remove_old(folder: Path, keep: int = 8) -> None:
    """Keep the newest object files only: each change of a kernel leaves one behind."""
    files = sorted(folder.glob("kernels-*.o"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[keep:]:
        path.unlink(missing_ok=True)
        path.with_suffix(".image").unlink(missing_ok=True)
