"""Machine code as a mapped file: it does what llvmlite's loader makes of the same object; all else is left to that."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy
import pytest

from observer import code_image, kernels, translate
from observer.kernels import Int64s, kernel
from observer.tcp.flowtable import rehash

here = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="images are for Linux on x86-64"
)


@kernel
def helper(values: Int64s, at: int) -> int:
    return values[at] * 3 if values[at] & 1 else helper(values, at + 1)


@kernel
def cases(values: Int64s, what: int) -> int:
    """As many cases as make a table of jumps."""
    if what == 0:
        return helper(values, 0)
    if what == 1:
        values[0] = 7
        return 100
    if what == 2:
        return helper(values, 2) - 5
    if what == 3:
        return values[1] << 3
    if what == 4:
        return len(values)
    if what == 5:
        return -values[3]
    return what


def object_of_cases() -> bytes:
    translator = translate.Translator(kernels.kinds_of, prefetch=kernels.prefetch)
    translator.export(cases, "entry.cases")
    return translate.object_code(translator.finish())


def call(address: int, values: list[int], what: int) -> tuple[int, list[int]]:
    array = numpy.array(values, numpy.int64)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
    return function(array.ctypes.data, len(array), what), array.tolist()


@here
def test_image_runs_like_the_object(tmp_path: Path) -> None:
    code = object_of_cases()
    path = tmp_path / "cases.image"
    made = code_image.link(code, ["entry.cases"])
    assert made is not None
    path.write_bytes(made)
    image = code_image.load(path)
    assert image is not None
    library = kernels.linked_by_llvm(code)
    for what in range(-2, 9):
        values = [2, 4, 6, 9, 11]
        mapped = call(image.addresses["entry.cases"], values, what)
        assert mapped == call(library.get_function_address("entry.cases"), values, what), what


@here
def test_compiled_engine_is_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kernels.cache_folder()
    if folder is None:
        pytest.skip("there is no cache folder here")
    kernels.register_all()
    kernels.object_code()
    image = code_image.load(folder / f"kernels-{kernels.fingerprint()}.image")
    assert image is not None
    assert set(image.addresses) == {kernels.symbol_of(name) for name in kernels.ENTRIES}
    # without an image the object itself is loaded
    monkeypatch.setattr(kernels, "code_image_of", lambda notice: None)
    old, new = numpy.array([5 << 32 | 1, 0]), numpy.zeros(4, numpy.int64)
    kernels.Compiled().bind(rehash, old, new)()
    assert new.tolist() == [0, 5 << 32 | 1, 0, 0]


@here
def test_what_needs_more_is_left_to_llvm() -> None:
    code = object_of_cases()
    assert code_image.link(code, ["entry.another"]) is None
    assert code_image.link(b"", []) is None
    assert code_image.link(b"MZ" + code[2:], ["entry.cases"]) is None
    outside = "declare i64 @elsewhere()\ndefine i64 @here() {\n  %r = call i64 @elsewhere()\n  ret i64 %r\n}\n"
    written = "@cell = global i64 5\ndefine i64 @here() {\n  %r = load i64, ptr @cell\n  ret i64 %r\n}\n"
    llvm.initialize_native_target()
    for text in (outside, written):
        assert code_image.link(translate.object_code(text), ["here"]) is None


@here
def test_cut_objects_never_become_images() -> None:
    code = object_of_cases()
    for size in range(0, len(code), 7):
        assert code_image.link(code[:size], ["entry.cases"]) is None


def test_load_refuses_what_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "other"
    assert code_image.load(path) is None
    for octets in (b"", b"\x7fELF", bytes(5000)):
        path.write_bytes(octets)
        assert code_image.load(path) is None
