"""A registration from nodes to nodes, with the real command, on an oblique pair.

Runs on PyPI's `slicer-core` (`make test-slicer`), and in 3D Slicer with ctest. What it takes:
LANDMARK_DIR_COMMAND, the command `landmark-dir`, and LANDMARK_DIR_PAIR, a folder with
`fixed.nii.gz` and `moving.nii.gz`. Nothing of the package is imported: its answers come from its
command, as files.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

sys.path.insert(0, str(Path(__file__).parents[2]))

from LandmarkDirLib import command, registration, scene
from LandmarkDirLib.problem import Problem
from LandmarkDirLib.work import Work

TO_LPS = np.array([-1.0, -1.0, 1.0])  # and back
EXACT_MM = 1e-5
INVERSE_MM = 2e-3  # VTK inverts a b-spline by iteration, to 0.001 mm
PLACES = 4000
COMMAND = os.environ.get("LANDMARK_DIR_COMMAND", "")
PAIR = os.environ.get("LANDMARK_DIR_PAIR", "")


def load_volume(mrml, file):
    node = mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", Path(file).name.split(".")[0])
    storage = mrml.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(file))
    assert storage.ReadData(node)
    node.CreateDefaultDisplayNodes()
    return node


def voxels(node):
    """Values [z, y, x]."""
    image = node.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def ijk_to_ras(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def places_in(node, beyond_mm=0.0, seed=0):
    """Random places [N, 3], RAS mm, in the box of a volume, or up to some mm beyond it."""
    matrix = ijk_to_ras(node)
    size = np.array(node.GetImageData().GetDimensions())
    more = beyond_mm / np.linalg.norm(matrix[:3, :3], axis=0)
    rng = np.random.default_rng(seed)
    index = rng.uniform(-0.5 - more, size - 0.5 + more, (PLACES, 3))
    return index @ matrix[:3, :3].T + matrix[:3, 3]


def is_inside(node, points_ras):
    matrix = ijk_to_ras(node)
    index = (points_ras - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    size = np.array(node.GetImageData().GetDimensions())
    return ((index >= -0.5) & (index <= size - 0.5)).all(axis=1)


def through(transform, points_ras):
    """Points [N, 3] through a VTK transform, in double precision."""
    return np.array([transform.TransformDoublePoint(point) for point in points_ras.tolist()])


def positions(markups, world=False):
    place, found = [0.0] * 3, []
    for row in range(markups.GetNumberOfControlPoints()):
        if world:
            markups.GetNthControlPointPositionWorld(row, place)
        else:
            markups.GetNthControlPointPosition(row, place)
        found.append(list(place))
    return np.array(found)


def off_mm(found, wanted):
    return np.linalg.norm(found - wanted, axis=1)


def finish(work):
    """Poll to the end; what was told on the way."""
    told = []
    while (now := work.poll()) is not None:
        told.append(now)
        time.sleep(0.05)
    return told


@unittest.skipUnless(COMMAND and PAIR, "LANDMARK_DIR_COMMAND and LANDMARK_DIR_PAIR are not set")
class TestScene(unittest.TestCase):
    """One registration, looked at from all sides."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="in a scene "))  # a space, as users have them
        cls.variables = command.environment(os.environ)
        cls.mrml = slicer.vtkMRMLScene()
        cls.logics = (slicer.vtkSlicerApplicationLogic(), slicer.vtkSlicerMarkupsLogic())
        for logic in cls.logics:  # make their nodes known to a scene, as Slicer does
            logic.SetMRMLScene(cls.mrml)
        cls.fixed = load_volume(cls.mrml, Path(PAIR) / "fixed.nii.gz")
        cls.moving = load_volume(cls.mrml, Path(PAIR) / "moving.nii.gz")
        cls.at = registration.places(cls.folder)
        scene.write_inputs(cls.fixed, cls.moving, cls.at, scene.Outputs())
        cls.command = command.find_command(COMMAND, cls.folder, cls.variables)
        steps = registration.steps(cls.command, cls.at, "fast", "--threads 1")
        cls.told = finish(Work(steps, cls.variables))
        cls.filled = scene.load_results(cls.fixed, cls.moving, cls.at, scene.Outputs())

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def mapped(self, points_ras, *, inverse=False):
        """Points through the run, by its own command: RAS mm to RAS mm."""
        given, out = self.folder / "given.mrk.json", self.folder / "mapped.mrk.json"
        listed = [{"label": "", "position": point} for point in (points_ras * TO_LPS).tolist()]
        markup = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": listed}
        given.write_text(json.dumps({"markups": [markup]}))
        call = [self.command, "warp-points", self.at.run, given, "-o", out]
        subprocess.run(
            [*call, *(["--inverse"] if inverse else [])],
            check=True,
            env=self.variables,
            capture_output=True,
        )
        points = json.loads(out.read_text())["markups"][0]["controlPoints"]
        return np.array([point["position"] for point in points]) * TO_LPS

    def test_progress_is_told_and_never_falls(self):
        shares = [told.fraction for told in self.told]
        self.assertEqual(shares, sorted(shares))
        stages = {told.stage.split(":")[0] for told in self.told}
        self.assertGreater(len(stages), 4, stages)
        self.assertGreater(len({share for share in shares if 0 < share < 1}), 4)

    def test_the_volumes_are_oblique_anisotropic_and_elsewhere(self):
        for node in (self.fixed, self.moving):
            matrix = ijk_to_ras(node)
            spacing = np.linalg.norm(matrix[:3, :3], axis=0)
            self.assertLess(np.abs(matrix[:3, :3] / spacing).max(), np.cos(np.radians(5)))
            self.assertGreater(np.ptp(spacing), 0.5)
        self.assertGreater(np.abs(ijk_to_ras(self.fixed)[:3, 3]).min(), 1)

    def test_what_is_written_is_what_the_scene_holds(self):
        again = load_volume(self.mrml, self.at.moving)
        np.testing.assert_array_equal(voxels(again), voxels(self.moving))
        np.testing.assert_allclose(ijk_to_ras(again), ijk_to_ras(self.moving), atol=1e-9)
        self.mrml.RemoveNode(again)

    def test_the_transform_agrees_inside_the_fixed_volume(self):
        points = places_in(self.fixed)
        found = through(self.filled.transform.GetTransformFromParent(), points)
        wanted = self.mapped(points)
        self.assertGreater(np.median(off_mm(wanted, points)), 2)  # mm: there is something to see
        worst = off_mm(found, wanted).max()
        print(f"inside the fixed volume: within {worst:.1e} mm of warp-points")
        self.assertLess(worst, EXACT_MM)

    def test_the_other_file_says_the_same(self):
        file = self.folder / "transform.tfm"
        call = [self.command, "export", self.at.run, "-o", file]
        subprocess.run(call, check=True, env=self.variables, capture_output=True)
        node = self.mrml.AddNewNodeByClass("vtkMRMLTransformNode")
        storage = self.mrml.AddNewNodeByClass("vtkMRMLTransformStorageNode")
        storage.SetFileName(str(file))
        self.assertTrue(storage.ReadData(node))
        points = places_in(self.fixed)
        found = through(node.GetTransformFromParent(), points)
        self.assertLess(off_mm(found, self.mapped(points)).max(), EXACT_MM)
        self.mrml.RemoveNode(node)

    def test_a_field_is_a_grid_transform_that_ends_with_the_fixed_volume(self):
        file = self.folder / "field.nrrd"
        call = [self.command, "field", self.at.run, "-o", file]
        subprocess.run(call, check=True, env=self.variables, capture_output=True)
        node = self.mrml.AddNewNodeByClass("vtkMRMLTransformNode")
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(str(file))
        self.assertTrue(storage.ReadData(node))
        grid = node.GetTransformFromParentAs("vtkOrientedGridTransform").GetDisplacementGrid()
        size = self.fixed.GetImageData().GetDimensions()
        self.assertEqual(grid.GetDimensions(), size)
        matrix = ijk_to_ras(self.fixed)
        index = np.random.default_rng(1).integers(0, size, (500, 3))
        points = index @ matrix[:3, :3].T + matrix[:3, 3]
        found = through(node.GetTransformFromParent(), points)
        self.assertLess(off_mm(found, self.mapped(points)).max(), 1e-3)  # mm: single precision
        self.mrml.RemoveNode(node)

    def test_outside_the_fixed_volume_they_differ_and_the_node_says_so(self):
        points = places_in(self.fixed, beyond_mm=60.0)
        off = off_mm(
            through(self.filled.transform.GetTransformFromParent(), points), self.mapped(points)
        )
        inside = is_inside(self.fixed, points)
        print(
            f"up to 60 mm outside it: median {np.median(off[~inside]):.2f}, p95 "
            f"{np.percentile(off[~inside], 95):.2f}, max {off.max():.2f} mm off"
        )
        self.assertLess(off[inside].max(), EXACT_MM)
        self.assertGreater(off.max(), 0.1)  # mm: if this fails, the notes on it may go
        self.assertIn("outside", self.filled.transform.GetDescription())
        ends = self.filled.transform.GetAttribute("LandmarkDir.ExactInside")
        self.assertEqual(ends, self.fixed.GetID())

    def test_the_moving_volume_is_under_the_transform(self):
        self.assertIs(self.moving.GetParentTransformNode(), self.filled.transform)
        self.assertIsNone(self.fixed.GetParentTransformNode())

    def test_landmarks_are_those_of_the_run(self):
        for side, node in (
            ("fixed", self.filled.fixed_landmarks),
            ("moving", self.filled.moving_landmarks),
        ):
            rows = (self.at.run / f"landmarks_{side}.txt").read_text().split("\n")[2:]
            wanted = np.array([row.split() for row in rows if row], float) * TO_LPS
            self.assertGreater(len(wanted), 50)
            self.assertLess(off_mm(positions(node), wanted).max(), EXACT_MM)
            self.assertFalse(node.GetDisplayNode().GetPointLabelsVisibility())

    def test_a_markups_file_that_is_dropped_on_slicer_brings_its_display(self):
        storage = self.mrml.AddNewNodeByClass("vtkMRMLMarkupsJsonStorageNode")
        node = storage.AddNewMarkupsNodeFromFile(str(self.at.markups("moving")))
        display = node.GetDisplayNode()
        self.assertFalse(display.GetPointLabelsVisibility())
        self.assertEqual(display.GetGlyphSize(), 3.0)  # mm
        wanted = positions(self.filled.moving_landmarks)
        np.testing.assert_array_equal(positions(node), wanted)
        for one in (display, node, storage):
            self.mrml.RemoveNode(one)

    def test_hardened_fixed_landmarks_lie_where_warp_points_puts_them(self):
        """Under the inverse of the node, a list goes the way of T, which needs no iteration."""
        node = self.filled.fixed_landmarks
        copy = self.mrml.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
        copy.Copy(node)
        before = positions(copy)
        other_way = self.mrml.AddNewNodeByClass("vtkMRMLTransformNode")
        other_way.Copy(self.filled.transform)
        other_way.Inverse()
        copy.SetAndObserveTransformNodeID(other_way.GetID())
        self.assertTrue(copy.HardenTransform())
        self.assertLess(off_mm(positions(copy), self.mapped(before)).max(), EXACT_MM)
        self.mrml.RemoveNode(copy)
        self.mrml.RemoveNode(other_way)

    def test_moving_landmarks_show_at_their_place_in_the_fixed_volume(self):
        node = self.filled.moving_landmarks
        shown = positions(node, world=True)
        inside = is_inside(self.fixed, shown)
        self.assertGreater(inside.mean(), 0.9)
        wanted = self.mapped(positions(node), inverse=True)
        off = off_mm(shown, wanted)[inside]
        print(f"moving landmarks, by the inverse: within {off.max():.1e} mm of warp-points")
        self.assertLess(off.max(), INVERSE_MM)
        before = off_mm(positions(node), positions(self.filled.fixed_landmarks))
        after = off_mm(shown, positions(self.filled.fixed_landmarks))
        self.assertLess(np.median(after), 0.3 * np.median(before))

    def test_the_hardened_moving_volume_matches_the_warped_one(self):
        """On the fixed grid, as Slicer resamples: linear, where ours is cubic."""
        warped = self.filled.warped
        matrix, size = ijk_to_ras(warped), warped.GetImageData().GetDimensions()
        np.testing.assert_allclose(matrix, ijk_to_ras(self.fixed), atol=1e-3)
        copy = self.mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        copy.Copy(self.moving)
        copy.SetAndObserveTransformNodeID(self.filled.transform.GetID())
        self.assertTrue(copy.HardenTransform())
        to_index = np.linalg.inv(ijk_to_ras(copy))
        z, y, x = np.indices(size[::-1]).reshape(3, -1)
        ras = np.stack([x, y, z], 1) @ matrix[:3, :3].T + matrix[:3, 3]
        index = np.rint(ras @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        values, wanted = voxels(copy), voxels(warped).ravel()
        held = ((index >= 2) & (index < np.array(values.shape[::-1]) - 2)).all(axis=1)
        found = values[index[held, 2], index[held, 1], index[held, 0]]
        likeness = np.corrcoef(found, wanted[held])[0, 1]
        unmoved = voxels(self.moving)
        self.assertGreater(held.mean(), 0.3)
        self.assertGreater(likeness, 0.9, unmoved.shape)
        self.mrml.RemoveNode(copy)

    def test_the_verdict_is_that_of_the_run(self):
        verdict = registration.read_verdict(self.at.run)
        self.assertIn(verdict.word, ("good", "doubtful"))
        self.assertTrue(verdict.reasons)
        self.assertTrue(self.at.report.is_file())

    def test_a_second_run_fills_the_same_nodes(self):
        scene.write_inputs(self.fixed, self.moving, self.at, self.filled)
        count = self.mrml.GetNumberOfNodes()
        again = scene.load_results(self.fixed, self.moving, self.at, self.filled)
        for one, other in zip(again, self.filled):
            self.assertIs(one, other)
        self.assertEqual(self.mrml.GetNumberOfNodes(), count)

    def test_a_volume_under_another_transform_is_refused(self):
        with self.assertRaisesRegex(Problem, "moving: lies under the transform"):
            scene.write_inputs(self.fixed, self.moving, self.at, scene.Outputs())

    def test_what_cannot_be_is_refused(self):
        outputs = self.filled
        with self.assertRaisesRegex(Problem, "chosen as fixed and as moving"):
            scene.write_inputs(self.fixed, self.fixed, self.at, outputs)
        with self.assertRaisesRegex(Problem, "is to be overwritten"):
            other = outputs._replace(warped=self.fixed)
            scene.write_inputs(self.fixed, self.moving, self.at, other)
        empty = self.mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
        with self.assertRaisesRegex(Problem, "nothing: has no voxels"):
            scene.write_inputs(empty, self.moving, self.at, outputs)
        self.mrml.RemoveNode(empty)

    def test_a_damaged_result_leaves_the_scene_as_it_was(self):
        broken = self.at._replace(transform=self.folder / "none.h5")
        count = self.mrml.GetNumberOfNodes()
        with self.assertRaisesRegex(Problem, "none.h5: cannot be read"):
            scene.load_results(self.fixed, self.moving, broken, scene.Outputs())
        self.assertEqual(self.mrml.GetNumberOfNodes(), count)


if __name__ == "__main__":
    unittest.main()
