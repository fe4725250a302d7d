"""Make the score of a pair mean something: the probability that it is within 2 mm.

    python -m training.calibrate runs/default/best.safetensors --pack packs/ct --volumes CT...

Pairs with known truth are made from the training patients: slices as in the sets of CT of
`training.evaluation.testsets`, and, from volumes, follow-ups in 3D (`training.followups.pair`),
whose landmarks are found as a user finds them, elastix's affine stage included. A logistic
regression on what speaks for each match (`matching.seek_slice.MatchFeatures`) is written into the
weights file, one for slices and one for volumes. Held-out patients take no part:
`training.evaluate` shows how well the score holds.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import Points, distances_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.matching.seek_slice import MatchFeatures
from landmark_dir.matching.slices import (
    padded,
    seek_slices,
)
from landmark_dir.matching.volumes import FixedVolume
from landmark_dir.models.default import SeekNetwork, scores
from landmark_dir.models.weights import load_weights, save_weights
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.progress import Plan, silent
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import fixed_volume, seek_landmarks
from landmark_dir.registration.stages import open_session
from training.data.pack import read_pack
from training.evaluation import testsets
from training.evaluation.measures import CORRECT_MM
from training.evaluation.tables import reliability_table
from training.followups.pair import make_follow_up

SLICES_PER_PATIENT = 3
ROUNDS = 2  # of volumes: the score chooses the landmarks that it is fitted to
MOTIONS = ("small", "large")  # alternate over the volumes
STEPS = 50  # of Newton's method; it takes about ten
RIDGE = 1e-3  # keeps figures that never vary from having a weight


class Samples(NamedTuple):
    """Pairs with what speaks for them."""

    evidence: NDArray[np.float64]  # [N, E]
    right: NDArray[np.bool_]  # [N]

    @classmethod
    def joined(cls, parts: "Sequence[Samples]") -> "Samples":
        """All of them together."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def fit(samples: Samples) -> NDArray[np.float64]:
    """Logistic regression by Newton's method: intercept and weights [E + 1]."""
    mean, scale = samples.evidence.mean(0), samples.evidence.std(0) + 1e-6
    design = np.column_stack([np.ones(len(samples.right)), (samples.evidence - mean) / scale])
    weights = np.zeros(design.shape[1])
    for _ in range(STEPS):
        probability = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (samples.right - probability) - RIDGE * weights
        bend = (design.T * (probability * (1 - probability))) @ design
        step = np.linalg.solve(bend + RIDGE * np.eye(len(weights)), slope)
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    slopes = weights[1:] / scale
    return np.concatenate([[weights[0] - slopes @ mean], slopes])


def slice_samples(network: SeekNetwork, pack: Path, per_patient: int) -> Samples:
    """Matches of training slices in each of the test sets' transformations."""
    slices = read_pack(pack, "training")
    parts = []
    for i in tqdm(testsets.choose_slices(slices, per_patient), unit="slice", desc="slices"):
        for kind in testsets.CT_SETS:
            pair = testsets.make_pair(kind, slices, i, seed=1)
            image_1, image_2 = (padded(network, hu) for hu in (pair.hu_1, pair.hu_2))
            threshold = network.landmark_threshold
            xy_1, xy_2, evidence = seek_slices(network, image_1, image_2, threshold)
            away = xy_1.numpy() - pair.project_2_to_1(xy_2.numpy())
            parts.append(_samples(evidence, np.linalg.norm(away, axis=1)))
    return Samples.joined(parts)


class Recorded(FixedVolume):
    """A fixed volume that remembers what spoke for the pairs it found, in all passes."""

    def seek(self, *how: Any) -> tuple[PointPairs, MatchFeatures]:
        """As `FixedVolume.seek`."""
        pairs, evidence = super().seek(*how)
        self.seen = [*getattr(self, "seen", []), (pairs.fixed, evidence.features())]
        return pairs, evidence

    def evidence(self, fixed: Points) -> NDArray[np.float64]:
        """What spoke for the pairs at these places [N, 3] when they were found last, [N, E]."""
        for places, features in reversed(self.seen):
            off_mm, rows = cKDTree(places).query(fixed)
            if not off_mm.any():
                return np.asarray(features.double().cpu().numpy()[rows])
        raise AssertionError("landmarks that no pass has found")


def volume_samples(weights: Path, volumes: Sequence[Path], threads: int = 1) -> Samples:
    """What `find_landmarks` returns of simulated follow-ups of volumes, and how right it is.

    So the score speaks of the landmarks that a user gets: chosen for their score among their
    neighbours, and moved onto the dense landmark motion.
    """
    options = RegisterOptions.of(
        weights=str(weights), threads=threads, hold_back=0.0, align="world"
    )
    parts = []
    for number, path in enumerate(tqdm(volumes, unit="volume", desc="volumes")):
        pair = make_follow_up(read_volume(path), MOTIONS[number % len(MOTIONS)], seed=number)
        inputs = load_inputs(pair.fixed, pair.moving, options)
        plan = Plan(silent, [])
        with (
            tempfile.TemporaryDirectory() as scratch,
            open_session(inputs, Path(scratch), options, plan) as session,
        ):
            fixed = fixed_volume(session, Recorded)
            assert isinstance(fixed, Recorded)
            found = seek_landmarks(session, fixed).guiding
        off_mm = distances_mm(found.moving, pair.to_moving(found.fixed))
        parts.append(Samples(fixed.evidence(found.fixed), off_mm < CORRECT_MM))
    return Samples.joined(parts)


def _samples(evidence: MatchFeatures, error_mm: NDArray[np.float64]) -> Samples:
    return Samples(evidence.features().double().numpy(), error_mm < CORRECT_MM)


def calibrate(
    weights: Path, pack: Path | None, volumes: Sequence[Path], per_patient: int, threads: int = 1
) -> str:
    """Write the regressions into the weights file: of slices if there is a pack, of volumes.

    Returns
    -------
    str
        How well the score holds on what it was fitted to, as Markdown.
    """
    loaded = load_weights(weights, fold=False)
    if not isinstance(loaded.network, SeekNetwork):
        raise LandmarkDirError(
            f"{weights}: expected weights of the `default` network, found those of "
            f"`{loaded.metadata['network']}`, whose score is its own"
        )
    text = []

    def learn(row: int, name: str, samples: Samples) -> None:
        calibration = torch.from_numpy(fit(samples)).float()
        with torch.no_grad():
            loaded.network.get_buffer("calibration")[row] = calibration
        save_weights(loaded.network, weights, {k: loaded.metadata[k] for k in ("step", "value")})
        score = scores(calibration, torch.from_numpy(samples.evidence).float()).numpy()
        text.append(f"{name}:\n\n{reliability_table(score, samples.right)}")

    if pack is not None:
        folded = load_weights(weights).network
        assert isinstance(folded, SeekNetwork)
        learn(0, "slices", slice_samples(folded, pack, per_patient))
    for number in range(ROUNDS if volumes else 0):
        learn(1, f"volumes, round {number + 1}", volume_samples(weights, volumes, threads))
    return "\n\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("weights", type=Path, help="file; it is rewritten")
    add("--pack", type=Path, help="folder; its training slices calibrate the score of slices")
    add("--volumes", type=Path, nargs="*", default=[], metavar="CT", help="of training patients")
    add("--per-patient", type=int, default=SLICES_PER_PATIENT, help="slices")
    add("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    try:
        print(calibrate(args.weights, args.pack, args.volumes, args.per_patient, args.threads))
    except (LandmarkDirError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
