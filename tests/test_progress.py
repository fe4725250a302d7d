"""One callback: the share of the whole never falls, whatever the parts count."""

from landmark_dir.options import RegisterOptions
from landmark_dir.progress import Plan, part
from landmark_dir.registration.session import expected_stages


def test_a_part_is_told_as_its_share_of_the_whole() -> None:
    told: list[tuple[str, float]] = []
    inner = part(lambda *said: told.append(said), 0.5, 0.75, "landmarks")
    inner("encode", 0.0)
    inner("", 0.5)
    inner("match", 1.5)
    part(lambda *said: told.append(said), 0.0, 1.0)("alone", 1.0)
    part(lambda *said: told.append(said), 0.0, 0.5, "case 1", between=", ")("affine", 1.0)
    assert told == [
        ("landmarks: encode", 0.5),
        ("landmarks", 0.625),
        ("landmarks: match", 0.75),
        ("alone", 1.0),
        ("case 1, affine", 0.5),
    ]


def test_a_plan_counts_expected_seconds_and_passes_over_what_is_left_out() -> None:
    told: list[tuple[str, float]] = []
    stages = [("read", 1.0), ("match", 3.0), ("match", 3.0), ("warp", 3.0)]
    plan = Plan(lambda *said: told.append(said), stages)
    plan.begin("read")
    plan.begin("match")("encode", 1.0)
    plan.begin("warp")  # the second matching was not needed
    plan.begin("unheard of")
    assert told == [
        ("read", 0.0),
        ("match", 0.1),
        ("match: encode", 0.4),
        ("warp", 0.7),
        ("unheard of", 1.0),
    ]


def test_the_stages_of_a_run_follow_its_options() -> None:
    alone = [name for name, _ in expected_stages(RegisterOptions.of(landmarks=False), seek=False)]
    assert "landmarks" not in alone
    guided = [name for name, _ in expected_stages(RegisterOptions.of(passes=3), seek=True)]
    assert guided.count("landmarks") == 3
    both = expected_stages(RegisterOptions(), seek=True, arms=("without, ", "with, "))
    assert [name for name, _ in both][-4:] == [
        f"with, {stage}" for stage in ("b-spline", "warp", "metrics", "report")
    ]
    assert all(seconds > 0 for _, seconds in both)
