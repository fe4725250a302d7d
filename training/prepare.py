"""Make a pack of CT slices: `python -m training.prepare SOURCE... -o PACK`.

A SOURCE is a volume file (.nii, .nii.gz, .mha, .mhd, .nrrd), an .npz of 2D HU arrays at 1 mm (key
`patient_index`; each array a series of its own), or a folder with any mix of these and of DICOM
files, at any depth. Each series is turned to LPS, resampled to 1 mm in-plane and cropped to the
body; series thinner than 1.5 mm are averaged to slices of about 2 mm, as the sampled anatomy
would else hardly change from slice to slice and be noisier. Slices with little body are dropped.

A patient's series are all in training or all in validation. From DICOM only hashes of patient and
series ids enter the pack; a hash is no cipher: who knows an id can find it. From other files the
name enters, so it must not tell who the patient is. Run again, it goes on where it was, and adds
what is new; patients stay on the side where they are. A file that was changed is packed anew
beside its old self: make a new pack then.
"""

import argparse
import multiprocessing
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from landmark_dir.errors import LandmarkDirError
from landmark_dir.io import dicom
from landmark_dir.preprocessing.slices import PIXEL_MM
from training.data.pack import (
    SPLITS,
    STEP_HU,
    BadPack,
    Encoded,
    Entry,
    Split,
    add_series,
    encode_series,
    list_series,
    open_pack,
    pack_hash,
)
from training.data.sources import (
    MARGIN_PX,
    MIN_BODY_PX,
    THICK_MM,
    THIN_MM,
    Reasons,
    Source,
    find_sources,
    read_slices,
    short_hash,
)


def choose_validation(patients: Iterable[str], share: float, known: dict[str, Split]) -> set[str]:
    """Choose the patients to hold out, by a hash of their ids, so that more data change nothing.

    At least one of two or more; those of `known` stay where they are.
    """
    every = sorted(set(patients) | set(known), key=_draw)
    held = {p for p in every if known.get(p) == "validation"}
    free = [p for p in every if p not in known]
    held |= {p for p in free if _draw(p) < share}
    if not held and share > 0 and len(every) > 1:
        held = set(free[:1])
    if held and len(held) == len(every) and free:
        held.remove(free[-1])  # one at least to train with
    return held


def _draw(patient: str) -> float:
    """Return a number 0..1 that depends on the patient alone."""
    return int(short_hash(f"split {patient}"), 16) / 16**12


def split_patients(
    training: list[Source], validation: list[Source], share: float, entries: list[Entry]
) -> dict[str, Split]:
    """Tell on which side each patient is.

    Raises
    ------
    BadPack
        If one patient would be on both.
    """
    known = {entry.patient: entry.split for entry in entries}
    patients = {source.patient for source in training}
    held = {source.patient for source in validation}
    if not held:
        held = choose_validation(patients, share, known)
        patients -= held
    both = patients & held
    both |= {p for p in patients if known.get(p) == "validation"}
    both |= {p for p in held if known.get(p) == "training"}
    if both:
        raise BadPack(
            f"patient {min(both)}: found in training and in validation, and so would be tested on"
            " what it was trained with; keep each patient on one side (--patient-pattern says"
            " which files are of one patient)"
        )
    return {p: "validation" if p in held else "training" for p in patients | held}


def prepare(
    training: list[Source],
    validation: list[Source],
    folder: Path,
    *,
    share: float = 0.15,
    pattern: str | None = None,
    step_hu: int = STEP_HU,
    jobs: int = 1,
) -> Reasons:
    """Pack all series that are not in the pack yet; return the ones that could not be, and why.

    Raises
    ------
    BadPack
        If the pack was made with other settings, or a patient would be on both sides.
    """
    settings = {
        "step_hu": step_hu,
        "pixel_mm": PIXEL_MM,
        "thin_mm": THIN_MM,
        "thick_mm": THICK_MM,
        "min_body_px": MIN_BODY_PX,
        "margin_px": MARGIN_PX,
        "patient_pattern": pattern,
    }
    entries = open_pack(folder, settings)
    splits = split_patients(training, validation, share, entries)
    done = {entry.source for entry in entries}
    todo = [source for source in [*training, *validation] if source.identity not in done]
    bad: Reasons = {}
    with tqdm(total=len(todo), unit="series", disable=not todo) as bar:
        for source, made in _encode_all(todo, splits, step_hu, jobs):
            if isinstance(made, str):
                bad[source.place] = made
            else:
                add_series(folder, made)
            bar.update()
    return bad


def _encode_all(
    todo: list[Source], splits: dict[str, Split], step_hu: int, jobs: int
) -> Iterator[tuple[Source, Encoded | str]]:
    """Yield each source with its file, or with the reason why there is none, as they get ready."""
    if jobs == 1:
        for source in todo:
            yield source, _encode(source, splits[source.patient], step_hu)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit the threads of ITK
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, context, _limit_threads, (threads,)) as pool:
        running: dict[Future[Encoded | str], Source] = {
            pool.submit(_encode, source, splits[source.patient], step_hu): source for source in todo
        }
        for future in as_completed(running):
            error = future.exception()  # a process was killed, say for its memory
            yield running[future], str(error) if error else future.result()


def _limit_threads(count: int) -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def _encode(source: Source, split: Split, step_hu: int) -> Encoded | str:
    try:
        return encode_series(read_slices(source), split, step_hu)
    except (LandmarkDirError, RuntimeError, ValueError, OSError, MemoryError) as error:
        return dicom.last_line(error) if str(error) else type(error).__name__


def error_figures(entries: Iterable[Entry]) -> tuple[float, int, int]:
    """Return mean, 95th percentile and maximum of what rounding to levels costs, HU in the body."""
    counts: Counter[int] = Counter()
    for entry in entries:
        counts.update({int(hu): count for hu, count in entry.errors.items()})
    off = np.array(sorted(counts))
    share = np.cumsum([counts[hu] for hu in off.tolist()]) / counts.total()
    mean = sum(hu * count for hu, count in counts.items()) / counts.total()
    return mean, int(off[np.searchsorted(share, 0.95)]), int(off[-1])


def table(folder: Path) -> str:
    """Return a small table of what is in a pack."""
    lines = [f"{'':12}series  patients  slices     MB   HU off in body: mean  p95  max"]
    for split in SPLITS:
        chosen = [entry for entry in list_series(folder) if entry.split == split]
        if not chosen:
            lines.append(f"{split:12}{0:6}")
            continue
        patients = len({entry.patient for entry in chosen})
        slices = sum(entry.slices for entry in chosen)
        megabytes = sum(entry.size_bytes for entry in chosen) / 1e6
        mean, p95, worst = error_figures(chosen)
        lines.append(
            f"{split:12}{len(chosen):6}{patients:10}{slices:8}{megabytes:7.1f}"
            f"{mean:23.2f}{p95:5}{worst:5}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status, 1 where nothing could be packed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path, nargs="+", metavar="SOURCE")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="PACK", help="folder")
    parser.add_argument(
        "--validation", type=Path, nargs="+", default=[], metavar="SOURCE", help="held out"
    )
    parser.add_argument(
        "--validation-share",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="of the patients, where there is no --validation (default: %(default)s)",
    )
    parser.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="its first group, found in a volume file's path below SOURCE without the suffix, is"
        " the patient (default: the file's name)",
    )
    parser.add_argument("--step-hu", type=int, default=STEP_HU, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    args = parser.parse_args(arguments)
    if not 0 <= args.validation_share < 1:
        parser.error(f"--validation-share must be 0..1, found {args.validation_share:g}")
    if args.jobs < 1:
        parser.error(f"--jobs must be 1 or more, found {args.jobs}")
    try:
        re.compile(args.patient_pattern or "")
    except re.error as error:
        parser.error(f"--patient-pattern: expected a regular expression, found {error}")
    try:
        return _run(args)
    except (LandmarkDirError, ValueError) as error:
        sys.exit(f"error: {error}")


def _run(args: argparse.Namespace) -> int:
    training, skipped = find_sources(args.sources, args.patient_pattern)
    validation, more = find_sources(args.validation, args.patient_pattern)
    if not training and not validation:
        reasons = "".join(f"\n  {place}: {why}" for place, why in (skipped | more).items())
        raise BadPack(f"{', '.join(map(str, args.sources))}: no CT series found{reasons}")
    bad = prepare(
        training,
        validation,
        args.out,
        share=args.validation_share,
        pattern=args.patient_pattern,
        step_hu=args.step_hu,
        jobs=args.jobs,
    )
    print(f"{args.out}  {pack_hash(args.out)}\n{table(args.out)}")
    if {entry.split for entry in list_series(args.out)} == {"training"}:
        print(
            "no patient is held out for validation, which training needs; add patients, or name"
            " some with --validation",
            file=sys.stderr,
        )
    left_out = skipped | more | bad
    if left_out:
        print(f"left out {len(left_out)} series:", file=sys.stderr)
    for place, reason in left_out.items():
        print(f"  {reason if place in reason else f'{place}: {reason}'}", file=sys.stderr)
    packed = len(training) + len(validation) - len(bad)
    return 0 if packed else 1


if __name__ == "__main__":
    sys.exit(main())
