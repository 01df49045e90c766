"""Mixed precision: matrix products in bfloat16, everything else as it is.

Torch's autocast would leave what follows a product in bfloat16 (activations, attention weights,
sums over neighbours). Here only the operands of a product are rounded; its result goes on in
float32. Positions, distances, noise, sums, losses, weights and the optimiser keep their float32 or
float64.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from georecon.errors import ConfigError

PRECISIONS = ("float32", "bf16")
READ_OUT = 16
"""Products with fewer outputs stay in float32: they are read-outs (energies, noise vectors), whose
rounding would be the result's, and cost nothing."""
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of /proc/cpuinfo on x86 and Arm


class _Bfloat16Products(TorchFunctionMode):
    """Inside it, ``torch.nn.functional.linear`` rounds its operands to bfloat16."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is functional.linear and not kwargs and args[1].shape[0] >= READ_OUT:
            return _product(*args)
        return func(*args, **(kwargs or {}))


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result = functional.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16)).to(x.dtype)
    return result if bias is None else result + bias


def products(precision: str) -> AbstractContextManager[Any]:
    """Context for a forward pass; its backward pass then rounds the same operands."""
    return nullcontext() if precision == "float32" else _Bfloat16Products()


def check_precision(precision: str, device: str) -> None:
    """Refuse what the hardware would only emulate.

    Raises:
        ConfigError: unknown precision, or no bfloat16 products on this device.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; allowed: {', '.join(PRECISIONS)}")
    if precision == "float32":
        return
    if device == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        name = torch.cuda.get_device_name()
    else:
        able, name = bool(_CPU_FLAGS & _cpu_flags()), "this processor"
    if not able:
        raise ConfigError(
            f"precision is 'bf16', but {name} has no bfloat16 matrix products (needs AVX512-BF16, "
            "AMX-BF16 or Arm BF16; a GPU from Ampere on); allowed here: float32"
        )


def _cpu_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Features that Linux lists for the processor; none elsewhere."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {
        flag
        for line in lines
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    }
