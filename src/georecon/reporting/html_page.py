"""The HTML page that executed notebooks and the summary share: no script, nothing from outside."""

from __future__ import annotations

import html

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 sans-serif; color: #333; max-width: {width}em; margin: 2em auto; padding: 1em; }}
img {{ max-width: 100%; height: auto; }}
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""  # noqa: E501
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
"""Pictures inside the page and its own styles; were escaping to fail once, no script runs."""


def html_page(title: str, body: str, *, width: int, style: str) -> str:
    """A whole page.

    Args:
        title: plain text; escaped here.
        body: HTML, escaped by the caller.
        width: of the text [em].
        style: further CSS.
    """
    return _PAGE.format(
        title=html.escape(title), policy=POLICY, width=width, style=style, body=body
    )
