"""Between nodes of a MRML scene and files: volumes out; transform, landmarks, warped volume in.

Slicer keeps places in RAS, files are in LPS; its storage nodes know both, and convert.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from LandmarkDirLib.problem import Problem
from LandmarkDirLib.registration import Places

Node = Any  # vtkMRMLNode, or None; Slicer's Python has no types
COLOURS = {"fixed": (1.0, 0.8, 0.1), "moving": (0.2, 0.7, 1.0)}  # of landmarks
EXTENT = (
    "From the fixed to the moving volume. Exact inside the volume {fixed}; outside it the "
    "b-spline ends, and Slicer lets it fade out over one cell of its grid."
)


class Outputs(NamedTuple):
    """Nodes to fill; None: a new one is made."""

    transform: Node = None
    warped: Node = None
    fixed_landmarks: Node = None
    moving_landmarks: Node = None


def write_inputs(fixed: Node, moving: Node, at: Places, outputs: Outputs) -> None:
    """Write two volume nodes as the images of a registration.

    Parameters
    ----------
    outputs : Outputs
        What is to be filled: the moving volume may lie under that transform, of an earlier run.

    Raises
    ------
    Problem
        If a volume has no voxels, lies under another transform, or is to be two things at once.
    """
    if fixed is moving:
        raise Problem(f"{fixed.GetName()} is chosen as fixed and as moving; choose two volumes")
    for side, node in (("fixed", fixed), ("moving", moving)):
        if node is outputs.warped:
            raise Problem(f"{side} volume {node.GetName()}: is to be overwritten; choose another")
        if node.GetImageData() is None:
            raise Problem(f"{side} volume {node.GetName()}: has no voxels; load it again")
        above = node.GetParentTransformNode()
        if above is not None and not (side == "moving" and above is outputs.transform):
            raise Problem(
                f"{side} volume {node.GetName()}: lies under the transform {above.GetName()}, "
                "which its file would not show; harden that, or take the volume off it"
            )
    for node, file in ((fixed, at.fixed), (moving, at.moving)):
        _write_volume(node, file)


def load_results(fixed: Node, moving: Node, at: Places, outputs: Outputs) -> Outputs:
    """Load what a run left into the scene of its volumes, and put the transform to use.

    The moving volume and its landmarks come under the transform, so they show at their place in
    the fixed volume. Landmark nodes are None where no landmark guided.

    Raises
    ------
    Problem
        If a file cannot be read; no node is made then, and the moving volume is where it was.
    """
    scene = fixed.GetScene()
    made: list[Node] = []

    def into(node: Node, kind: str, name: str) -> Node:
        if node is None:
            node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(name))
            made.append(node)
            if kind != "vtkMRMLTransformNode":
                node.CreateDefaultDisplayNodes()
        return node

    def landmarks(side: str, node: Node) -> Node:
        if not at.markups(side).is_file():
            return None
        node = into(node, "vtkMRMLMarkupsFiducialNode", f"Landmarks {side}")
        _read(at.markups(side), node)
        if node in made:
            node.GetDisplayNode().SetSelectedColor(*COLOURS[side])
            node.GetDisplayNode().SetPointLabelsVisibility(False)  # hundreds hide the image
        return node

    try:
        transform = into(
            outputs.transform, "vtkMRMLTransformNode", f"{moving.GetName()} onto {fixed.GetName()}"
        )
        _read(at.transform, transform)
        warped = into(outputs.warped, "vtkMRMLScalarVolumeNode", f"{moving.GetName()} warped")
        _read(at.warped, warped)
        filled = Outputs(
            transform,
            warped,
            landmarks("fixed", outputs.fixed_landmarks),
            landmarks("moving", outputs.moving_landmarks),
        )
    except Problem:
        for node in made:
            scene.RemoveNode(node.GetDisplayNode())
            scene.RemoveNode(node)
        raise
    transform.SetDescription(EXTENT.format(fixed=fixed.GetName()))
    transform.SetAttribute("LandmarkDir.ExactInside", fixed.GetID())
    _show_alike(warped, moving)
    for node in (moving, filled.moving_landmarks):
        if node is not None:
            node.SetAndObserveTransformNodeID(transform.GetID())
    return filled


def _storage(node: Node, file: Path) -> Node:
    """What reads and writes a node; it is left out of the scene, for its file will be gone."""
    storage = node.CreateDefaultStorageNode()
    storage.UnRegister(None)  # whoever creates a node owns it
    storage.SetFileName(str(file))
    return storage


def _write_volume(node: Node, file: Path) -> None:
    storage = _storage(node, file)
    storage.SetUseCompression(0)
    if not storage.WriteData(node):
        raise Problem(f"{node.GetName()} cannot be written to {file}; make room on that disk")


def _read(file: Path, node: Node) -> None:
    if not (file.is_file() and _storage(node, file).ReadData(node)):
        raise Problem(f"{file}: cannot be read into {node.GetName()}; run it again")


def _show_alike(warped: Node, moving: Node) -> None:
    """Show the warped volume in the window of the moving one."""
    shown, like = warped.GetDisplayNode(), moving.GetDisplayNode()
    if shown is not None and like is not None:
        shown.SetAutoWindowLevel(0)
        shown.SetWindowLevel(like.GetWindow(), like.GetLevel())
