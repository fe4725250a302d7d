"""Findings of one scan, found again in the other: table, markups and page."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from landmark_dir.errors import BadArgument
from landmark_dir.findings.certainty import shipped
from landmark_dir.findings.extent import in_fixed_mm3, in_moving_mm3, longest_mm, volume_mm3
from landmark_dir.findings.finding import Finding, read_findings
from landmark_dir.findings.pairing import pair
from landmark_dir.findings.places import SIDES, Places, carry_places, other
from landmark_dir.geometry import Points, as_points, index_to_physical, physical_to_index
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.io.slicer_points import write_markups
from landmark_dir.io.text_files import write_text
from landmark_dir.points import frame_hint
from landmark_dir.registration.carry import frame_of_reference
from landmark_dir.registration.inputs import as_path
from landmark_dir.registration.result import Result, open_run

if TYPE_CHECKING:
    from landmark_dir.report.findings_page import Spot

log = logging.getLogger(__name__)

BESIDE = (".mrk.json", ".html")
SAME, NEW, GONE = "same", "new", "gone"
CHANGED_SHAPE = 0.25  # of the longest diameter, that the middle of a finding may have moved by
COLUMNS = (
    *("finding", "of", "fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z"),
    *("fixed_slice", "moving_slice", "radius_50_mm", "radius_80_mm", "radius_95_mm"),
    *("against_surroundings_mm", "inside", "place", "reasons", "jacobian"),
    *("volume_mm3", "carried_volume_mm3", "longest_mm"),
    *("change", "is", "off_mm", "found_volume_mm3", "volume_change_percent", "found_longest_mm"),
    "longest_change_percent",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Followed:
    """What became of the findings.

    Attributes
    ----------
    rows : list of dict
        One a finding, by `COLUMNS`; None where a figure does not apply.
    findings : list of Finding
        Row i's own: of the scan that `rows[i]["of"]` names.
    carried : Places
        Row i's places in both scans.
    of : str
        The scan that the findings were given in; those found in the other one come last.
    became : dict
        What row i's finding is in the other scan, where that was found.
    """

    rows: list[Row]
    findings: list[Finding]
    carried: Places
    of: str
    became: dict[int, Finding] = field(default_factory=dict)

    def table(self) -> str:
        """A table for a terminal."""
        header = [
            "finding",
            "of",
            "place there (LPS mm)",
            "slice there",
            "95 % within",
            "place",
            "",
        ]
        lines = [header, *(_told(row) for row in self.rows)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
        return "\n".join(
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def follow(
    run: str | Path | Result,
    findings: str | Path | Sequence[Finding],
    out: str | Path | None = None,
    *,
    of: str = "fixed",
    found: str | Path | Sequence[Finding] | None = None,
    overwrite: bool = False,
) -> Followed:
    """Carry findings of one scan to the other and say how sure each place is.

    Parameters
    ----------
    run : path or Result
    findings : path or list of Finding
        See `read_findings`.
    out : path, optional
        `.csv` file to write; beside it come `.mrk.json`, the carried places for 3D Slicer, and
        `.html`, both scans centred on each finding.
    of : str
        The scan that they lie in: fixed or moving.
    found : path or list of Finding, optional
        What was found in the other scan: paired with them one to one, the rest is new or gone.
    overwrite : bool
        Replace earlier files.

    Raises
    ------
    BadArgument, BadRunFolder, BadPoints, BadVolume
    """
    result = run if isinstance(run, Result) else open_run(run)
    if of not in SIDES:
        raise BadArgument(f"of: expected fixed or moving, found {of!r}")
    files = None if out is None else _files(out, overwrite)
    own = _given(findings, result, of)
    if hint := frame_hint(_places(own), _grid(result, of)):
        log.warning("most findings lie outside the %s image%s", of, hint)
    there = None if found is None else _given(found, result, other(of))
    followed = _followed(result, own, of, there)
    if files is not None:
        _write(files, followed, result)
    return followed


def _given(given: str | Path | Sequence[Finding], result: Result, side: str) -> list[Finding]:
    if isinstance(given, str | Path):
        frame = frame_of_reference(result, side)
        return read_findings(as_path(given, "findings"), _grid(result, side), frame)
    return list(given)


def _grid(result: Result, side: str) -> sitk.Image:
    return result.grid if side == "fixed" else result.moving_grid


def _followed(result: Result, own: list[Finding], of: str, there: list[Finding] | None) -> Followed:
    carried = carry_places(result, _places(own), of, shipped())
    rows = [_row(result, finding, of, carried, row) for row, finding in enumerate(own)]
    if there is None:
        return Followed(rows, own, carried, of)
    reach = carried.radii_mm[:, -1] + CHANGED_SHAPE * _lengths(own)
    later = _is_later(result, of)
    pairs = dict(pair(carried.on(other(of)), np.nan_to_num(reach), _places(there)))
    for k, row in enumerate(rows):
        row["change"] = SAME if k in pairs else NEW if later else GONE
        if k in pairs:
            expected = carried.on(other(of))[k]
            row |= _compared(own[k], there[pairs[k]], expected, later)
    new = [one for k, one in enumerate(there) if k not in pairs.values()]
    back = carry_places(result, _places(new), other(of), shipped())
    rows += [
        _row(result, finding, other(of), back, k) | {"change": GONE if later else NEW}
        for k, finding in enumerate(new)
    ]
    became = {k: there[j] for k, j in pairs.items()}
    return Followed(rows, own + new, _joined(carried, back), of, became)


def _is_later(result: Result, side: str) -> bool:
    """Whether a scan is the later one; if neither says when, what is given counts as earlier."""
    inputs = run_folder.read_run_json(result.folder)["inputs"]
    days = inputs["moving"].get("days_after_fixed")
    return bool(days and (days > 0) == (side == "moving"))


def _places(findings: Sequence[Finding]) -> Points:
    return as_points([finding.place for finding in findings])


def _lengths(findings: Sequence[Finding]) -> Any:
    lengths = [0.0 if one.mask is None else longest_mm(one.mask) for one in findings]
    return np.array(lengths)


def _joined(one: Places, two: Places) -> Places:
    arrays = ("fixed", "moving", "radii_mm", "jacobian", "against_surroundings_mm", "inside")
    both = {name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in arrays}
    return Places(**both, doubts=one.doubts + two.doubts)


def _row(result: Result, finding: Finding, of: str, carried: Places, k: int) -> Row:
    """What is known of a finding by itself."""
    fixed, moving = carried.fixed[k], carried.moving[k]
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"finding": finding.name, "of": of}
    for side, place in (("fixed", fixed), ("moving", moving)):
        row |= {f"{side}_{axis}": float(place[i]) for i, axis in enumerate("xyz")}
        index = physical_to_index(_grid(result, side), [place])[0, 2]
        row[f"{side}_slice"] = round(float(index)) + 1
    levels = zip((50, 80, 95), carried.radii_mm[k].tolist(), strict=True)
    row |= {f"radius_{level}_mm": _known(radius) for level, radius in levels}
    doubts = [*carried.doubts[k], *_cut(_grid(result, of), finding)]
    row |= {
        "against_surroundings_mm": float(carried.against_surroundings_mm[k]),
        "inside": bool(carried.inside[k]),
        "place": "doubtful" if doubts else "good",
        "reasons": "; ".join(doubts),
        "jacobian": float(carried.jacobian[k]),
    }
    if finding.mask is not None:
        own = volume_mm3(finding.mask)
        there = in_moving_mm3 if of == "fixed" else in_fixed_mm3
        volume = there(result.chain, finding.mask)
        row |= {
            "volume_mm3": own,
            "carried_volume_mm3": volume,
            "jacobian": volume / own if of == "fixed" else own / max(volume, 1e-9),
            "longest_mm": longest_mm(finding.mask),
        }
    return row


def _cut(grid: sitk.Image, finding: Finding) -> list[str]:
    """Say it if a structure reaches the end of its scan: its volume is that of a part."""
    if finding.mask is None:
        return []
    index_zyx = np.argwhere(sitk.GetArrayViewFromImage(finding.mask))
    k = physical_to_index(grid, index_to_physical(finding.mask, index_zyx[:, ::-1]))[:, 2]
    ends = k.min() < 0.5 or k.max() > grid.GetSize()[2] - 1.5
    return ["it reaches the end of its scan, so its volume is that of a part"] if ends else []


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _compared(own: Finding, there: Finding, expected: Any, later: bool) -> Row:
    """What a finding became; change is from the earlier to the later scan."""
    row: Row = {"is": there.name, "off_mm": float(np.linalg.norm(there.place - expected))}
    if own.mask is None or there.mask is None:
        return row
    for name, measure in (("volume", volume_mm3), ("longest", longest_mm)):
        before, after = measure(own.mask), measure(there.mask)
        unit = "mm3" if name == "volume" else "mm"
        row[f"found_{name}_{unit}"] = after
        change = before / after if later else after / before
        row[f"{name}_change_percent"] = 100 * (change - 1)
    return row


def _told(row: Mapping[str, Any]) -> list[str]:
    side = other(row["of"])
    place = ", ".join(f"{row[f'{side}_{axis}']:.1f}" for axis in "xyz")
    radius = row["radius_95_mm"]
    became = [word for word in (row["change"], row["is"] and f"as {row['is']}") if word]
    if row["volume_change_percent"] is not None:
        became.append(f"volume {row['volume_change_percent']:+.0f} %")
        became.append(f"longest {row['longest_change_percent']:+.0f} %")
    if row["reasons"]:
        became.append(f"({row['reasons']})")
    return [
        row["finding"],
        row["of"],
        place,
        str(row[f"{side}_slice"]),
        "unknown" if radius is None else f"{radius:.1f} mm",
        row["place"],
        ", ".join(became),
    ]


def _files(out: str | Path, overwrite: bool) -> dict[str, Path]:
    """The three files; refused where one is there already or belongs to a run."""
    path = as_path(out, "out", "the path of a .csv file to write")
    if path.suffix.lower() != ".csv":
        raise BadArgument(f"{path}: unknown suffix, expected .csv")
    files = {suffix: output_place(path.with_suffix(suffix)) for suffix in (".csv", *BESIDE)}
    for file in files.values():
        if run_folder.is_run(file.parent):
            raise BadArgument(f"{file}: lies in the run {file.parent}; name a file elsewhere")
        if file.exists() and not overwrite:
            raise BadArgument(f"{file} exists already; name another file or give --overwrite")
    return files


def _write(files: Mapping[str, Path], followed: Followed, result: Result) -> None:
    # Pillow is slow to load
    from landmark_dir.report.findings_page import write_findings_page

    rows = followed.rows
    there = followed.carried.on(other(followed.of))
    with ExitStack() as stack:
        made = {kind: stack.enter_context(replacing(file)) for kind, file in files.items()}
        write_text(made[".csv"], _csv(rows))
        write_markups(as_points(there), made[".mrk.json"], labels=[r["finding"] for r in rows])
        images = {side: _shown(result, result.image(side), side) for side in SIDES}
        warped = _shown(result, result.given_warped, "moving")
        title = f"Findings followed by {result.folder.name}"
        write_findings_page(made[".html"], title, _spots(followed), images, warped)


def _shown(result: Result, image: sitk.Image | None, side: str) -> sitk.Image | None:
    return None if image is None else result.on_ct_scale(image, side)


def _spots(followed: Followed) -> "list[Spot]":
    from landmark_dir.report.findings_page import Spot, described  # as above

    spots = []
    for k, (row, finding) in enumerate(zip(followed.rows, followed.findings, strict=True)):
        masks = {} if finding.mask is None else {row["of"]: finding.mask}
        if k in followed.became and followed.became[k].mask is not None:
            masks[other(row["of"])] = followed.became[k].mask
        spots.append(
            Spot(
                name=row["finding"],
                caption=described(row),
                side=row["of"],
                places={side: followed.carried.on(side)[k] for side in SIDES},
                masks=masks,
                radius_mm=row["radius_95_mm"],
                size_mm=row["longest_mm"] or 0.0,
                doubtful=bool(row["reasons"]),
            )
        )
    return spots


def _csv(rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else value
