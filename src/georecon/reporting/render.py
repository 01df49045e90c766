"""From a notebook to its executed copy and a page of it, with papermill and nbconvert."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from georecon.errors import GeoreconError
from georecon.files import write_text
from georecon.reporting.html_page import html_page

STYLE = """pre { font-size: 12px; line-height: 1.4; white-space: pre-wrap; }
.highlight { background: #f6f6f6; padding: .1em .8em; }
.jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser, .anchor-link { display: none; }
"""


# matplotlib reads the matplotlibrc of the folder it is imported in before any other: an empty one
START = """import os, sys
here = os.getcwd()
os.chdir(sys.argv.pop(1))
import matplotlib
os.chdir(here)
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""


class NotebookError(GeoreconError):
    """A cell of a notebook failed; names the cell, the error and the half-executed copy."""


def render(
    notebook: Path, parameters: Mapping[str, Any], *, executed: Path, page: Path, log: Path
) -> None:
    """Run a notebook with parameters; write the executed copy and an HTML page of it.

    The page holds its pictures and asks no other host for anything. Both files are free of
    times and random ids: the same notebook, data and packages give the same bytes.

    Args:
        notebook: source, with a cell tagged ``parameters``.
        parameters: values for that cell; relative paths start from the current folder.
        executed: executed notebook to write.
        page: HTML file to write.
        log: the job's log file. While it runs, and if it fails, the notebook lies beside it.

    Raises:
        NotebookError: a cell failed.
    """
    import nbformat
    import papermill

    running = log.with_suffix(".ipynb")
    running.parent.mkdir(parents=True, exist_ok=True)
    with _kernel() as kernel:
        try:
            node = papermill.execute_notebook(
                str(notebook),
                str(running),
                dict(parameters),
                kernel_manager_class=kernel,
                progress_bar=False,
                kernel_name="python3",
                start_timeout=120,
                shutdown_kernel="immediate",
            )
        except papermill.PapermillExecutionError as error:
            raise NotebookError(
                f"{notebook.name}, cell {error.cell_index}: {error.ename}: {error.evalue}; "
                f"the notebook as far as it went: {running}"
            ) from error
    _settle(node)
    write_text(executed, nbformat.writes(node) + "\n")
    write_text(page, page_text(node, notebook.stem))
    if running != executed:
        running.unlink()


@contextmanager
def _kernel() -> Iterator[type]:
    """Manager class of a kernel of this very Python, whatever kernels the user has installed.

    The kernel has no history and no settings, of matplotlib neither, and talks over files in a
    temporary folder, not over network ports.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    source = str(Path(__file__).resolve().parents[2])
    search = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with tempfile.TemporaryDirectory(prefix="gr") as folder:
        environment = {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(search)),
            "IPYTHONDIR": folder,
            "MPLBACKEND": "agg",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        (Path(folder) / "matplotlibrc").touch()
        command = [sys.executable, "-P", "-c", START, folder, "-f", "{connection_file}"]
        spec = KernelSpec(argv=command, display_name="Python 3", language="python", env=environment)

        class OwnKernel(AsyncKernelManager):
            def __init__(self, **settings: Any) -> None:
                super().__init__(**settings)
                self._kernel_spec = spec
                self.connection_file = f"{folder}/k.json"
                # a socket's path must stay under 107 characters
                self.transport = "ipc" if len(folder) < 80 else "tcp"

        yield OwnKernel


def _settle(node: Any) -> None:
    """Take out what differs from run to run: times, durations, versions of tools, random ids."""
    node.metadata.pop("papermill", None)
    for number, cell in enumerate(node.cells):
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = f"injected-{number}"


def page_text(node: Any, title: str) -> str:
    """An executed notebook as one HTML page without scripts."""
    from nbconvert.exporters import HTMLExporter
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    body, _ = HTMLExporter(template_name="basic", embed_images=True).from_notebook_node(node)
    highlight = HtmlFormatter(style="default").get_style_defs(".highlight")
    return html_page(title, body, width=62, style=STYLE + highlight)
