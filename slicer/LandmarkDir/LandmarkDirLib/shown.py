"""What the panel shows of a run, as the rich text of a label."""

from __future__ import annotations

import html

from LandmarkDirLib.registration import Verdict

COLOURS = {"good": "#2e7d32", "doubtful": "#c77700", "failed": "#c62828"}  # else as other text


def verdict_text(verdict: Verdict) -> str:
    """The verdict, its reasons, and what else a person should know."""
    colour = COLOURS.get(verdict.word)
    style = f' style="color:{colour}"' if colour else ""
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in verdict.reasons)
    notes = "".join(f"<li>Note: {html.escape(note)}</li>" for note in verdict.warnings)
    return f"<b{style}>{html.escape(verdict.word)}</b><ul>{reasons}{notes}</ul>"
