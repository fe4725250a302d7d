"""SimpleITK with elastix inside. Runs in the worker; see `worker` for the calls."""

import SimpleITK as sitk


def version() -> str:
    """Version of SimpleITK, which does not tell that of the elastix inside it."""
    return f"SimpleITK {sitk.Version.VersionString()}"


def register(
    folder: str,
    fixed: str,
    moving: str,
    parameters: str,
    fixed_mask: str | None = None,
    moving_mask: str | None = None,
    initial_transform: str | None = None,
    fixed_points: str | None = None,
    moving_points: str | None = None,
) -> None:
    """Run the elastix filter."""
    elastix = sitk.ElastixImageFilter()
    elastix.SetFixedImage(_read(fixed))
    elastix.SetMovingImage(_read(moving))
    elastix.SetParameterMap(elastix.ReadParameterFile(parameters))
    if fixed_mask:
        elastix.SetFixedMask(sitk.ReadImage(fixed_mask, sitk.sitkUInt8))
    if moving_mask:
        elastix.SetMovingMask(sitk.ReadImage(moving_mask, sitk.sitkUInt8))
    if initial_transform:
        elastix.SetInitialTransformParameterFileName(initial_transform)
    if fixed_points and moving_points:
        elastix.SetFixedPointSetFileName(fixed_points)
        elastix.SetMovingPointSetFileName(moving_points)
    _run(elastix, folder, "elastix.log")


def warp_image(folder: str, transform: str, moving: str) -> None:
    """Run the transformix filter on an image."""
    transformix = sitk.TransformixImageFilter()
    transformix.SetTransformParameterMap(transformix.ReadParameterFile(transform))
    transformix.SetMovingImage(_read(moving))
    _run(transformix, folder, "transformix.log")
    sitk.WriteImage(transformix.GetResultImage(), f"{folder}/result.mha")


def map_points(folder: str, transform: str, points: str) -> None:
    """Run the transformix filter on a point file."""
    transformix = sitk.TransformixImageFilter()
    transformix.SetTransformParameterMap(transformix.ReadParameterFile(transform))
    transformix.SetMovingImage(sitk.Image(4, 4, 4, sitk.sitkFloat32))  # it insists on one
    transformix.SetFixedPointSetFileName(points)
    _run(transformix, folder, "transformix.log")


def _read(path: str) -> sitk.Image:
    return sitk.ReadImage(path, sitk.sitkFloat32)


def _run(process: sitk.ProcessObject, folder: str, log: str) -> None:
    process.SetOutputDirectory(folder)
    process.SetLogFileName(log)
    process.LogToFileOn()
    process.LogToConsoleOff()
    process.Execute()
