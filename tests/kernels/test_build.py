"""Instruction sets of the CPU kernels: which are compiled, which one a process uses."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from georecon.errors import GeoreconError
from georecon.kernels import build, native
from georecon.records.record import compute_device
from georecon.training.kernel import say_kernel

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler"
)
needs_x86 = pytest.mark.skipif(not build._x86(), reason="levels are those of x86-64")
ARM = "aarch64-linux-gnu-g++"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine on which nothing has been compiled yet; one source alone is quickly compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "INSTALLED", tmp_path / "installed")
    monkeypatch.setattr(build, "_SOURCES", ("update.cpp",))
    monkeypatch.delenv("GEORECON_INSTRUCTION_SET", raising=False)
    return monkeypatch


def test_the_best_level_that_a_processor_has_in_full() -> None:
    best = build.LEVELS["x86-64-v4"] | {"sse2", "amx_tile"}
    assert list(build.fitting(best, x86=True)) == ["x86-64-v4", "x86-64-v3", "native"]
    for feature in build.LEVELS["x86-64-v4"]:
        lower = ["native"] if feature in build.LEVELS["x86-64-v3"] else ["x86-64-v3", "native"]
        assert list(build.fitting(best - {feature}, x86=True)) == lower
    assert list(build.fitting(frozenset({"asimd", "fp"}), x86=False)) == ["native"]


@needs_compiler
@needs_x86
def test_a_machine_without_a_compiler_uses_what_set_up_has_compiled(
    fresh: pytest.MonkeyPatch,
) -> None:
    build.install(build.INSTALLED)
    names = sorted(path.name.rpartition("-")[0] for path in build.INSTALLED.iterdir())
    assert names == ["kernels-x86-64-v3", "kernels-x86-64-v4"]
    fresh.setenv("PATH", "")
    fresh.delenv("CXX", raising=False)
    for name in build.LEVELS:
        fresh.setattr(build, "processor_features", lambda name=name: build.LEVELS[name])
        path, found = build.obtain()
        assert (path.parent, found) == (build.INSTALLED, name)
        assert path.name.startswith(f"kernels-{name}-")
    fresh.setattr(build, "processor_features", frozenset)  # an older processor
    with pytest.raises(OSError, match="no C\\+\\+ compiler"):
        build.obtain()


@needs_compiler
@needs_x86
def test_kernels_of_another_source_are_not_used(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(build, "processor_features", lambda: build.LEVELS["x86-64-v3"])
    first, _ = build.obtain()
    assert build.obtain()[0] == first
    fresh.setattr(build, "_SOURCES", ("norm.cpp",))
    assert build.obtain()[0] != first


@needs_x86
def test_an_instruction_set_that_the_processor_has_not_is_refused(
    fresh: pytest.MonkeyPatch,
) -> None:
    fresh.setattr(build, "processor_features", lambda: build.LEVELS["x86-64-v3"])
    fresh.setenv("GEORECON_INSTRUCTION_SET", "x86-64-v4")
    with pytest.raises(GeoreconError, match="'x86-64-v4'; this processor has: x86-64-v3, native"):
        build.obtain()


@pytest.mark.skipif(native.library() is None, reason="no kernel")
def test_a_record_names_kernel_and_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEORECON_DEVICE", "cpu")
    found = compute_device()
    assert found["kernel"] == "native"
    assert found["instruction_set"] in (*build.LEVELS, "native")
    monkeypatch.setattr(native, "kernel", lambda _: "reference")
    assert compute_device()["instruction_set"] is None


# ---- Arm ----------------------------------------------------------------------------------------

MAIN = """
#include <cstdint>
#include <cstdio>
#include <cmath>
extern "C" int filter_table(const std::int64_t*);
double rbf[9 * 5];
float weight[7 * 5], bias[7], table[9 * 7], steps[9 * 7];
int main() {
    for (int i = 0; i < 45; ++i) rbf[i] = std::cos(1.0 + i);
    for (int i = 0; i < 35; ++i) weight[i] = float(std::sin(1.0 + i));
    for (int i = 0; i < 7; ++i) bias[i] = 0.1f * i;
    const std::int64_t call[] = {9, 5, 7, 1, 0, 0, std::int64_t(rbf), 0, std::int64_t(weight),
        std::int64_t(bias), 0, std::int64_t(table), std::int64_t(steps), 0, 0};
    if (filter_table(call)) return 1;
    for (float x : table) std::printf("%.9g ", x);
    for (float x : steps) std::printf("%.9g ", x);
}
"""


def expected_of_main() -> torch.Tensor:
    rbf = torch.arange(1.0, 46.0, dtype=torch.float64).cos().view(9, 5)
    weight = torch.arange(1.0, 36.0, dtype=torch.float64).sin().view(7, 5).float().double()
    rows = torch.nn.functional.silu(rbf @ weight.T + 0.1 * torch.arange(7.0, dtype=torch.float64))
    steps = torch.cat([torch.zeros_like(rows[:1]), rows.diff(dim=0)])
    return torch.cat([rows, steps]).flatten()


@pytest.mark.long
@pytest.mark.skipif(shutil.which(ARM) is None, reason=f"no {ARM} (Debian: g++-aarch64-linux-gnu)")
def test_kernels_compile_for_arm_and_run(tmp_path: Path) -> None:
    """The table of filters runs in an emulator, where there is one; the others compile."""
    main = tmp_path / "main.cpp"
    main.write_text(MAIN, encoding="utf-8")
    compiled = [ARM, *build._FLAGS, "-march=armv8-a", "-fopenmp"]
    for source in build._SOURCES:
        code = str(tmp_path / f"{source}.o")
        subprocess.run([*compiled, "-c", str(build._FOLDER / source), "-o", code], check=True)
    program, filters = str(tmp_path / "main"), str(tmp_path / "filters.cpp.o")
    subprocess.run([*compiled, "-static", str(main), filters, "-o", program], check=True)
    emulator = program if platform.machine() == "aarch64" else shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("compiled, not run: no qemu-aarch64 (Debian: qemu-user)")
    command = [program] if emulator == program else [emulator, program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = torch.tensor([float(word) for word in output.split()], dtype=torch.float64)
    expected = expected_of_main()
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(found, expected.roll(1), rtol=1e-6, atol=1e-7)


# ---- places that are not there ------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("kind", ["missing", "a file", "not set"])
def test_a_temporary_folder_is_not_needed(
    kind: str, fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The compiler's own temporary files lie beside its result."""
    (tmp_path / "file").touch()
    places = {"missing": tmp_path / "nowhere", "a file": tmp_path / "file"}
    fresh.delenv("TMPDIR", raising=False)
    if kind in places:
        fresh.setenv("TMPDIR", str(places[kind]))
    path, _ = build.obtain()
    assert path.parent == tmp_path / "cache/georecon"
    assert list(path.parent.iterdir()) == [path]


@needs_compiler
@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk: root only")
def test_a_temporary_folder_that_is_full_is_no_reason_for_slow_kernels(
    fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        fresh.setenv("TMPDIR", str(small))
        assert isinstance(native.load(), native.Library)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_compiler
@pytest.mark.parametrize("home", [None, "/dev/null", "/proc/nothing"])
def test_without_a_home_the_cache_is_a_temporary_folder(
    home: str | None, fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    fresh.delenv("XDG_CACHE_HOME")
    fresh.setattr("tempfile.tempdir", str(tmp_path))
    if home is None:
        fresh.setattr(build.Path, "home", staticmethod(unknown))
    else:
        fresh.setenv("HOME", home)
    path, _ = build.obtain()
    assert path.parent == tmp_path / f"georecon-{os.getuid()}"


def test_slow_kernels_say_why(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "cxx"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho no room >&2\nexit 1\n")
    compiler.chmod(0o755)
    fresh.setenv("CXX", str(compiler))
    fresh.delenv("GEORECON_KERNEL", raising=False)
    said: list[str] = []
    with fresh.context() as patch:
        for name in ("_outcome", "library", "kernel"):
            patch.setattr(native, name, getattr(native, name).__wrapped__)
        say_kernel("cpu", said.append)
        assert said == [
            "no compiled kernels here: several times slower, and other last digits than with "
            "them (no room)"
        ]
        patch.setenv("GEORECON_KERNEL", "reference")  # asked for
        say_kernel("cpu", said.append)
        patch.delenv("GEORECON_KERNEL")
        patch.setattr(native, "_outcome", lambda: native.Library(None, "x86-64-v3"))
        say_kernel("cpu", said.append)
    assert len(said) == 1
