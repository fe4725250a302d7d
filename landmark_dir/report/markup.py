"""What the pages have in common: assets, the policy, data for a script, tables."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

VIEWER_SCRIPTS = ("volumes.js", "drawing.js", "viewer.js")


def asset(*names: str) -> str:
    """Styles, scripts or parts of a page that ship with the package, one after the other."""
    folder = resources.files("landmark_dir.report") / "assets"
    return "".join((folder / name).read_text("utf-8") for name in names)


def document(title: str, style: str, body: str, data: Any, script: str) -> str:
    """A whole page around its body, which is HTML; the script finds the data in `#data`."""
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">'
        f"<style>{style}</style><main><h1>{name}</h1>{body}</main>"
        f'<script type="application/json" id="data">{_json(data)}</script>'
        f"<script>{script}</script></html>\n"
    )


def _policy(script: str) -> str:
    """What the page may do: run its own script, show what it carries, reach nothing else."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src 'sha256-{digest}'; {own}"


def _json(value: Any) -> str:
    """JSON that cannot end the script it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def rows_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table, each row headed by its first cell; a row of one cell goes across all of it."""
    head = "".join(
        f'<th scope="col">{html.escape(name)}</th>' if name else "<td></td>" for name in header
    )
    body = "".join(f"<tr>{_row(row, len(header))}</tr>" for row in rows)
    name = html.escape(title)
    return (
        f'<h2>{name}</h2><div class="wide" role="region" aria-label="{name}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[object], columns: int) -> str:
    cells = [html.escape(shown(value)) for value in row]
    if len(cells) == 1:
        return f'<td colspan="{columns}">{cells[0]}</td>'
    return f'<th scope="row">{cells[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in cells[1:])


def names_table(rows: Mapping[str, Any]) -> str:
    """A table of names and values."""
    body = "".join(
        f'<tr><th scope="row">{html.escape(str(key))}</th><td>{html.escape(shown(value))}</td></tr>'
        for key, value in rows.items()
    )
    return f"<table>{body}</table>"


def shown(value: Any) -> str:
    """A value as text for people."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)
