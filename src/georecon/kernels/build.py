"""Compile the CPU kernels, for each instruction set once.

On x86-64 the instruction sets are its levels, x86-64-v4 (AVX-512) and x86-64-v3 (AVX2), and a
process uses the best one that its processor has: machines of one level compute the same digits.
Set-up compiles both, so that a machine without a compiler has them too. Elsewhere, and on older
processors, the kernels are compiled for the processor itself where they are first used. This needs
a C++17 compiler (``CXX``, else c++, g++ or clang++).
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from georecon.errors import GeoreconError

_FOLDER = Path(__file__).parent
_SOURCES = ("attention.cpp", "filters.cpp", "gates.cpp", "neighbors.cpp", "norm.cpp",
            "update.cpp", "whiten.cpp")  # fmt: skip
_FLAGS = (
    "-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math",
)  # fmt: skip
_V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
LEVELS = {"x86-64-v4": _V4, "x86-64-v3": _V3}
"""Levels of x86-64, best first, with their features as Linux names them."""
NATIVE = "native"
INSTALLED = Path(sys.prefix, "share", "georecon")
"""Where set-up puts what it has compiled: a folder of the environment."""


def obtain() -> tuple[Path, str]:
    """The shared library for this processor and its instruction set; compiled if it is not there.

    ``GEORECON_INSTRUCTION_SET`` asks for another one that the processor has, to compute the digits
    of another machine.

    Raises:
        GeoreconError: ``GEORECON_INSTRUCTION_SET`` is not one of this processor's.
        OSError, subprocess.CalledProcessError: it is not there and cannot be compiled.
    """
    failure: OSError | subprocess.CalledProcessError | None = None
    for name in _wanted():
        try:
            return _there(name) or compile_for(name, _cache()), name
        except (OSError, subprocess.CalledProcessError) as error:
            failure = failure or error
    assert failure is not None
    raise failure


def install(folder: Path = INSTALLED) -> None:
    """Compile for every level of this machine's architecture: what set-up does."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LEVELS if _x86() else (NATIVE,):
        compile_for(name, folder)


def _wanted() -> tuple[str, ...]:
    """Instruction sets to try, best first."""
    has = tuple(fitting(processor_features(), x86=_x86()))
    forced = os.environ.get("GEORECON_INSTRUCTION_SET")
    if forced is None:
        return has
    if forced not in has:
        raise GeoreconError(
            f"GEORECON_INSTRUCTION_SET is {forced!r}; this processor has: {', '.join(has)}"
        )
    return (forced,)


def _x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def fitting(features: frozenset[str], *, x86: bool) -> Iterator[str]:
    """Instruction sets of a processor with these features, best first; last, its own."""
    if x86:
        yield from (name for name, needed in LEVELS.items() if needed <= features)
    yield NATIVE


def processor_features() -> frozenset[str]:
    """Features that Linux lists for the processor; none elsewhere."""
    lines = _cpuinfo(("flags", "Features"))
    return frozenset(word for line in lines for word in line.partition(":")[2].split())


def _cpuinfo(names: tuple[str, ...]) -> list[str]:
    """Lines of /proc/cpuinfo that start with one of these names, each once; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return sorted({line for line in lines if line.startswith(names)})


def _there(name: str) -> Path | None:
    """What has been compiled for this source and instruction set."""
    file = _file_name(name)
    paths = (folder / file for folder in (INSTALLED, _cache()))
    return next((path for path in paths if path.is_file()), None)


def _file_name(name: str) -> str:
    """Named by source, flags and torch; for one processor, by that and the compiler too."""
    code = [(_FOLDER / source).read_text(encoding="utf-8") for source in ("numbers.h", *_SOURCES)]
    parts = [*code, " ".join(_FLAGS), torch.__version__]
    if name == NATIVE:
        parts += [_version(compiler()), _processor()]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"kernels-{name}-{digest}.so"


def compiler() -> str:
    """Path of the C++ compiler.

    Raises:
        OSError: there is none.
    """
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise OSError("no C++ compiler: looked for CXX, c++, g++ and clang++")
    return found


@functools.cache
def _version(path: str) -> str:
    command = [path, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _processor() -> str:
    """What code for the processor itself depends on."""
    lines = _cpuinfo(("model name", "flags", "Features", "CPU part"))
    return "\n".join(lines) or platform.processor()


def compile_for(name: str, folder: Path) -> Path:
    """Compile and link under a temporary name, then rename: processes may do so at the same time.

    Args:
        name: instruction set.
        folder: where to put the shared library.
    """
    path, target = compiler(), folder / _file_name(name)
    architecture, openmp, runtime = _options(name, _version(path))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        linked = f"{scratch}/kernels.so"
        objects = [f"{scratch}/{source}.o" for source in _SOURCES]
        commands = [
            [path, *_FLAGS, architecture, *openmp, "-c", str(_FOLDER / source), "-o", code]
            for source, code in zip(_SOURCES, objects, strict=True)
        ]
        # the compiler's own temporary files too: the usual place may be missing or too small
        run = functools.partial(_run, environment={**os.environ, "TMPDIR": scratch})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, commands))
        run([path, "-shared", *objects, *runtime, "-o", linked])
        os.replace(linked, target)
    return target


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def _options(name: str, version: str) -> tuple[str, list[str], list[str]]:
    """Compiler options of an instruction set, those of OpenMP, and what to link.

    The OpenMP of torch's package is linked, if it brings its own: two of them in one process would
    compete for the cores. Clang's code needs LLVM's; where torch has none, as on Linux, it is
    compiled for one thread.
    """
    arm = name == NATIVE and platform.machine() in ("aarch64", "arm64")
    architecture = f"-mcpu={name}" if arm else f"-march={name}"
    libraries = Path(torch.__file__).parent / "lib"
    if "clang" in version:
        found = sorted(libraries.glob("libomp*.dylib"))
        return (
            architecture,
            ["-Xpreprocessor", "-fopenmp"] if found else [],
            list(map(str, found[:1])),
        )
    found = sorted(libraries.glob("libgomp*.so*"))
    return architecture, ["-fopenmp"], [str(found[0])] if found else ["-fopenmp"]


def _cache() -> Path:
    """``$XDG_CACHE_HOME/georecon``, by default ~/.cache/georecon; a temporary folder if that
    cannot be written or nobody knows the home folder.

    Raises:
        OSError: no folder can be written.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "georecon"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: no HOME, and no such user
        pass
    folder = Path(tempfile.gettempdir()) / f"georecon-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to someone else")
    return folder
