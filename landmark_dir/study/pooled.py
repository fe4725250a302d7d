"""What the comparisons of many cases say together."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from landmark_dir.comparison.tables import AFTER, ARMS, STATES
from landmark_dir.evaluation.statistics import paired_difference
from landmark_dir.evaluation.verdict import WORDS
from landmark_dir.io.text_files import is_number

Figures: TypeAlias = dict[str, Any]  # as `comparison.json` has them

POOLED = ("tre_mm", "held_back_mm", "mean_dice")


def has_figures(states: Any) -> bool:
    """Tell whether all is there that the tables need, and of the kind that a comparison writes."""
    states = states if isinstance(states, dict) else {}
    arms = [_part(states, arm) for arm in ARMS]
    kinds = [name for name in POOLED if name in _part(states, "with")]
    means = [_mean(_part(states, state).get(name)) for state in AFTER for name in kinds]
    shares = [arm.get(name) for arm in arms for name in ("folded_share", "seconds")]
    return (
        all(isinstance(states.get(state), dict) for state in STATES)
        and all(map(is_number, means))
        and all(share is None or is_number(share) for share in shares)
        and all(arm.get("verdict") in WORDS for arm in arms)
    )


def _part(content: Figures, name: str) -> Figures:
    """What a dict has under a name, if that is a dict; else nothing."""
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def pooled(cases: Sequence[Figures]) -> dict[str, dict[str, Any]]:
    """For TRE, held-back landmarks and Dice: the means over cases of each case's mean.

    A case counts once, however many points it has; without and with landmarks, and their paired
    difference. Kinds that no case has are left out.
    """
    found = {}
    for name in POOLED:
        states = [
            case["states"] for case in cases if name in case.get("states", {}).get("with", {})
        ]
        if states:
            without, with_ = ([_mean(s[arm][name]) for s in states] for arm in ("without", "with"))
            difference = paired_difference(with_, without)
            means = {"without": float(np.mean(without)), "with": float(np.mean(with_))}
            found[name] = means | {"with_minus_without": difference._asdict()}
    return found


def _mean(figure: Any) -> Any:
    return figure.get("mean") if isinstance(figure, dict) else figure
