"""Settings of Sphinx for the manual; docs/build_manual.py lays its pages beside this file."""

from __future__ import annotations

import georecon

project = "georecon"
author = "The georecon contributors"
version = release = georecon.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"georecon {version}"
html_show_sphinx = False
html_copy_source = False
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
