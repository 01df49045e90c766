"""Shapes of tensors checked at every call, where an annotation states them.

The sources name jaxtyping under ``TYPE_CHECKING`` alone, so that no job imports it. :func:`install`
makes the names known and has jaxtyping's hook decorate every function of these modules; it is
called in a process that has not imported them yet.
"""

from __future__ import annotations

import builtins

import jaxtyping

MODULES = (
    "georecon.graph",
    "georecon.models.encoder",
    "georecon.models.norms",
    "georecon.models.heads",
    "georecon.kernels.attention",
    "georecon.kernels.filters",
    "georecon.kernels.reference",
    "georecon.kernels.update",
)


def install(*modules: str) -> None:
    """Check calls of these modules' functions from their import on."""
    for name in ("Float", "Int", "Bool"):
        setattr(builtins, name, getattr(jaxtyping, name))  # read by name when a module is imported
    jaxtyping.install_import_hook(list(modules or MODULES), "beartype.beartype")
