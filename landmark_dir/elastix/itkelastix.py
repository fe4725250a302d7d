"""ITKElastix. Runs in the worker; see `worker` for the calls.

The wrapped classes are imported from their own modules: the first touch of `itk.ParameterObject`
would load 1300 modules in 10 to 14 s, these take 2 s. They are the very same classes.
"""

from importlib.metadata import version as distribution_version
from typing import Any

from itk import (
    elxParameterObjectPython,
    itkElastixRegistrationMethodPython,
    itkImageFileReaderPython,
    itkImageFileWriterPython,
    itkImagePython,
    itkMetaImageIOPython,
    itkTransformixFilterPython,
)

ParameterObject = elxParameterObjectPython.elastixParameterObject
Elastix = itkElastixRegistrationMethodPython.itkElastixRegistrationMethodIF3IF3  # float, 3D
Transformix = itkTransformixFilterPython.itkTransformixFilterIF3
Image = itkImagePython.itkImageF3
ImageReader = itkImageFileReaderPython.itkImageFileReaderIF3
MaskReader = itkImageFileReaderPython.itkImageFileReaderIUC3  # unsigned char, 3D
ImageWriter = itkImageFileWriterPython.itkImageFileWriterIF3
MetaImageIO = itkMetaImageIOPython.itkMetaImageIO  # .mha; no other format is loaded


def version() -> str:
    """Version of the itk-elastix wheel."""
    return f"itk-elastix {distribution_version('itk-elastix')}"


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
    elastix = Elastix.New()
    elastix.SetFixedImage(_read(ImageReader, fixed))
    elastix.SetMovingImage(_read(ImageReader, moving))
    parameter_object = ParameterObject.New()
    parameter_object.ReadParameterFile(parameters)
    elastix.SetParameterObject(parameter_object)
    if fixed_mask:
        elastix.SetFixedMask(_read(MaskReader, fixed_mask))
    if moving_mask:
        elastix.SetMovingMask(_read(MaskReader, moving_mask))
    if initial_transform:
        elastix.SetInitialTransformParameterFileName(initial_transform)
    if fixed_points and moving_points:
        elastix.SetFixedPointSetFileName(fixed_points)
        elastix.SetMovingPointSetFileName(moving_points)
    _run(elastix, folder, "elastix.log")


def warp_image(folder: str, transform: str, moving: str) -> None:
    """Run the transformix filter on an image."""
    transformix = Transformix.New()
    transformix.SetTransformParameterFileName(transform)
    transformix.SetMovingImage(_read(ImageReader, moving))
    _run(transformix, folder, "transformix.log")
    writer = ImageWriter.New()
    writer.SetImageIO(MetaImageIO.New())
    writer.SetFileName(f"{folder}/result.mha")
    writer.SetInput(transformix.GetOutput())
    writer.Update()


def map_points(folder: str, transform: str, points: str) -> None:
    """Run the transformix filter on a point file."""
    transformix = Transformix.New()
    transformix.SetTransformParameterFileName(transform)
    transformix.SetMovingImage(_small_image())  # it insists on one
    transformix.SetFixedPointSetFileName(points)
    _run(transformix, folder, "transformix.log")


def _small_image() -> Any:
    image = Image.New()
    image.SetRegions([4, 4, 4])
    image.Allocate()
    return image


def _read(reader_class: Any, path: str) -> Any:
    reader = reader_class.New()
    reader.SetImageIO(MetaImageIO.New())
    reader.SetFileName(path)
    reader.Update()
    return reader.GetOutput()


def _run(process: Any, folder: str, log: str) -> None:
    process.SetOutputDirectory(folder)
    process.SetLogFileName(log)
    process.LogToFileOn()
    process.LogToConsoleOff()
    process.UpdateLargestPossibleRegion()
