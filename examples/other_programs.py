"""Go on from a run without this package: SimpleITK, transformix and elastix with its files.

Run `register_pair.py` first: its run folder is used here. Only `main` imports landmark_dir, to make
the phantom pair again and to write the file that SimpleITK reads.
"""

from contextlib import chdir
from pathlib import Path

import itk
import numpy as np
import SimpleITK as sitk
from register_pair import SMALL

RUN = Path("register_pair")


def with_simpleitk(fixed: sitk.Image, moving: sitk.Image, transform: str) -> sitk.Image:
    """The moving image on the fixed grid, as `landmark-dir export` says it."""
    values = sitk.GetArrayViewFromImage(moving)
    lowest, highest = float(values.min()), float(values.max())
    read = sitk.ReadTransform(transform)
    warped = sitk.Resample(moving, fixed, read, sitk.sitkBSpline, lowest, sitk.sitkFloat32)
    warped = sitk.Clamp(warped, sitk.sitkFloat32, lowest, highest)  # cubic splines overshoot
    return sitk.Cast(sitk.Round(warped), moving.GetPixelID())


def with_transformix(moving: Path) -> itk.Image:
    """The same by transformix; its transform files name each other without a path."""
    image = itk.imread(str(moving.absolute()), itk.F)
    parameters = itk.ParameterObject.New()
    with chdir(RUN):
        parameters.ReadParameterFile("transform.txt")
        return itk.transformix_filter(image, parameters)


def with_elastix(fixed: Path, moving: Path) -> tuple[itk.Image, itk.ParameterObject]:
    """A registration of your own, guided by our landmarks."""
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("affine", 2))
    guided = parameters.GetDefaultParameterMap("bspline", 2, 16.0)
    guided["Registration"] = ("MultiMetricMultiResolutionRegistration",)
    guided["Metric"] = (
        "AdvancedMattesMutualInformation",
        "CorrespondingPointsEuclideanDistanceMetric",  # last
    )
    guided["Metric0Weight"], guided["Metric1Weight"] = ("1.0",), ("0.1",)  # state both
    guided["MaximumNumberOfIterations"] = ("100",)
    parameters.AddParameterMap(guided)
    return itk.elastix_registration_method(
        itk.imread(str(fixed), itk.F),
        itk.imread(str(moving), itk.F),
        parameter_object=parameters,
        fixed_point_set_file_name=str(RUN / "landmarks_fixed.txt"),
        moving_point_set_file_name=str(RUN / "landmarks_moving.txt"),
    )


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def main() -> None:
    import landmark_dir

    pair = landmark_dir.make_phantom(SMALL)
    sitk.WriteImage(pair.fixed, "fixed.nii.gz")
    sitk.WriteImage(pair.moving, "moving.nii.gz")
    landmark_dir.export(RUN, "transform.h5")

    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(RUN / "warped.nii.gz"))).astype(float)
    by_simpleitk = sitk.GetArrayFromImage(with_simpleitk(pair.fixed, pair.moving, "transform.h5"))
    print(f"SimpleITK: largest difference {np.abs(by_simpleitk - ours).max():g} HU")

    by_transformix = itk.array_from_image(with_transformix(Path("moving.nii.gz")))
    off = np.abs(np.clip(by_transformix, ours.min(), ours.max()) - ours)
    print(f"transformix: 99 % of the voxels within {np.percentile(off, 99):.2g} HU")

    warped, _ = with_elastix(Path("fixed.nii.gz"), Path("moving.nii.gz"))
    fixed = sitk.GetArrayFromImage(pair.fixed)
    guided = correlation(itk.array_from_image(warped), fixed)
    before = correlation(sitk.GetArrayFromImage(sitk.Resample(pair.moving, pair.fixed)), fixed)
    print(f"elastix with our landmarks: correlation {guided:.3f}, before {before:.3f}")


if __name__ == "__main__":
    main()
