"""Register or compare many pairs: a file of cases in, a study out, whatever is killed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmark_dir.comparison.compare import check_options
from landmark_dir.errors import BadRunFolder
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.options import DEFAULTS, RegisterOptions, changed
from landmark_dir.progress import Progress, silent
from landmark_dir.study.cases import Case, read_cases, spread, write_cases
from landmark_dir.study.folder import CASES_CSV, MADE_LAST, STUDY_JSON, StudyFolder
from landmark_dir.study.gather import Study, gather
from landmark_dir.study.how import How
from landmark_dir.study.runner import Runner
from landmark_dir.study.task import absolute

if TYPE_CHECKING:  # slow to load
    from distributed import Client


def batch(
    pairs: str | Path | Sequence[Case],
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    compare: bool = False,
    client: "Client | None" = None,
    how: How | None = None,
    resume: bool = True,
    overwrite: bool = False,
    parquet: bool = False,
    progress: Progress = silent,
    **choices: Any,
) -> Study:
    """Register many pairs, or compare them without and with landmarks.

    Each case gets a folder of its own; a case that fails is reported, and the others go on. The
    same call after any interruption keeps what is done: cases of the same files and options.

    Parameters
    ----------
    pairs : path or sequence of Case
        A CSV file with the columns `fixed` and `moving`, and any of `study.cases.COLUMNS`; others
        are carried along into the results.
    out : path
        Folder of the study, to be created or gone on with.
    compare : bool
        Both arms of each pair, measured, instead of one registration.
    client : distributed.Client, optional
        Whose workers do the cases; without it this process does them, one after the other, or as
        `how` says.
    how : How, optional
        Workers, limits, retries: nothing that changes a result.
    resume : bool
        Whether `out` may hold finished cases.
    overwrite : bool
        Do all cases again.
    parquet : bool
        Write `results.parquet`, too; needs pyarrow.
    progress : callable, optional
        Told how many are done, and the share of the whole, 0 to 1.
    **choices
        Single options by name, changed from `options`.

    Returns
    -------
    Study
        Its folder, a row for each case, and counts. Of a shard: without tables.

    Raises
    ------
    BadArgument
        If options or `how` contradict each other.
    LandmarkDirError
        If the file of cases is not as expected, `out` is in the way, or the scheduler goes.
    Interrupted
        On Ctrl-C, after running cases were ended and their traces removed.
    """
    options = absolute(changed(options, choices))
    how = how or How()
    how = how if client is None else replace(how, client=client)
    if compare:
        check_options(options)
    study = StudyFolder(output_place(Path(out)), compare)
    _check_free(study, Path(out), resume or overwrite)
    cases = _cases(pairs)
    begin(study, cases, options, how)
    runner = Runner(study, _shard(cases, how), options, how, overwrite, progress)
    runner.run()
    if how.shard is not None:
        return Study(study.root, compare, counts=runner.counts())
    return gather(study.root, runner.about(), parquet=parquet)


def _cases(pairs: str | Path | Sequence[Case]) -> list[Case]:
    return read_cases(pairs, check_files=False) if isinstance(pairs, str | Path) else spread(pairs)


def _shard(cases: list[Case], how: How) -> list[Case]:
    if how.shard is None:
        return cases
    which, count = how.shard
    return cases[which - 1 :: count]


def _check_free(study: StudyFolder, out: Path, may_exist: bool) -> None:
    root = study.root
    if root.exists() and not root.is_dir():
        raise BadRunFolder(f"{out}: is a file; name a folder")
    if not root.is_dir() or not any(root.iterdir()):
        return
    if run_folder.is_run(root):
        raise BadRunFolder(f"{out} holds one pair, not cases, and is left alone; name another")
    if not (root / STUDY_JSON).is_file():
        raise BadRunFolder(
            f"{out} exists and is no study (it has no {STUDY_JSON}), and is left alone; name "
            "another folder"
        )
    if not may_exist:
        raise BadRunFolder(
            f"{out} exists already; --resume keeps its finished cases, --overwrite replaces them"
        )


def begin(study: StudyFolder, cases: list[Case], options: RegisterOptions, how: How) -> None:
    """Create the study; tables of an earlier time go, so that it does not look finished."""
    content = {"compare": study.compare, "options": options.flat(), "cases": len(cases)}
    try:
        study.cases.mkdir(parents=True, exist_ok=True)
        for name in () if how.shard else MADE_LAST:
            (study.root / name).unlink(missing_ok=True)
        with replacing(study.root / CASES_CSV) as partial:
            write_cases(cases, partial)
        with replacing(study.root / STUDY_JSON) as partial:
            run_folder.write_json(partial, content)
    except OSError as error:
        raise BadRunFolder(f"{study.root}: cannot be written, {error.strerror}") from error
