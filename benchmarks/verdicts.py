"""The verdict against the truth: `python -m benchmarks.verdicts KEPT [KEPT ...]`.

Reads what `benchmarks.followups`, `thick_slices`, `contrast`, `corruption` and `starts` kept with
`--keep`, and sorts every registration in it, each once, by its true error (TRE at points that never
guide) and by what the verdict said. Right is

- `good` where the registration is accurate: TRE of at most 2 mm in the median and 8 mm in the 95th
  percentile, the limits that the verdict itself sets to held-back landmarks;
- `good` or `doubtful` where it is accurate although its landmarks were spoilt on purpose;
- `doubtful` or `failed` where it is off, up to 5 mm in the median;
- `failed` where it is farther off;
- `failed`, or refused, where the two images have nothing in common.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import markdown
from benchmarks.corruption import SPOILT
from landmark_dir.evaluation.verdict import Limits

RIGHT = {
    "accurate": ("good",),
    "accurate, landmarks spoilt": ("good", "doubtful"),
    "off": ("doubtful", "failed"),
    "far off": ("failed",),
    "nothing in common": ("failed", "refused"),
}
SAID = ("good", "doubtful", "failed", "refused")
ARMS = ("without", "with")


class Judged(NamedTuple):
    """A registration, how it truly is, and what was said of it."""

    name: str
    truth: str
    verdict: str

    def right(self) -> bool:
        """Whether that is right."""
        return self.verdict in RIGHT[self.truth]


def truth_of(error: dict[str, Any], *, spoilt: bool = False) -> str:
    """A row of the table, from the summary of a registration's TRE."""
    limits = Limits()
    if error["median"] > limits.median_mm[1]:
        return "far off"
    if error["median"] > limits.median_mm[0] or error["p95"] > limits.p95_mm[0]:
        return "off"
    return "accurate, landmarks spoilt" if spoilt else "accurate"


def judged(case: dict[str, Any]) -> Iterator[Judged]:
    """The registrations of a kept case."""
    if "pair" in case:  # of two images that have nothing in common
        name = f"{case['volume']}, {case['pair']}"
        yield Judged(name, "nothing in common", case["verdict"])
    elif "landmarks" in case:
        spoilt = case["landmarks"] != next(iter(SPOILT))
        name = f"{case['case']}, {case['landmarks'] if spoilt else 'with'}"
        yield Judged(name, truth_of(case, spoilt=spoilt), case["verdict"])
    else:
        kind = case.get("slices") or case.get("contrast")
        name = case.get("case") or f"{case['name']}, {case['motion']}, {kind}"
        for arm in ARMS:
            if "verdict" in case.get(arm, {}):
                yield Judged(f"{name}, {arm}", truth_of(case[arm]), case[arm]["verdict"])


def table(found: Sequence[Judged]) -> str:
    """A row for each truth, a column for each verdict."""
    counts = Counter((one.truth, one.verdict) for one in found)
    rows: list[list[object]] = []
    for truth, right in RIGHT.items():
        of = [one for one in found if one.truth == truth]
        share = f"{sum(one.right() for one in of) / len(of):.0%}" if of else "-"
        said = [f"**{counts[truth, v]}**" if v in right else counts[truth, v] for v in SAID]
        rows.append([truth, len(of), *said, share])
    return markdown(["truth", "runs", *SAID, "right"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", nargs="+", type=Path)
    files: list[Path] = parser.parse_args(arguments).kept
    cases = [case for path in files for case in json.loads(path.read_text())]
    found = list({one.name: one for case in cases for one in judged(case)}.values())
    wrong = [one for one in found if not one.right()]
    print(table(found))
    print(f"\nRight: {1 - len(wrong) / len(found):.1%} of {len(found)}. Bold is right.\n")
    for one in wrong:
        print(f"- {one.name}: {one.truth}, said {one.verdict}")


if __name__ == "__main__":
    main()
