"""3D Slicer module: two CT volumes are registered with elastix, guided by landmarks.

Only what needs Qt is here. What the module does is in `LandmarkDirLib`.
"""

import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Optional

import qt
import slicer
import vtk
from LandmarkDirLib import command, registration, scene
from LandmarkDirLib.problem import Problem
from LandmarkDirLib.shown import verdict_text
from LandmarkDirLib.work import Work
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode, vtkMRMLTransformNode
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

POLL_MS = 200
COMMAND_SETTING = "LandmarkDir/command"
SOURCE_SETTING = "LandmarkDir/source"
HELP = """
Registers two CT volumes of one patient with elastix. A network finds landmarks in both, which guide
the b-spline. The moving volume is put under the transform; landmarks, warped volume and a verdict
with its reasons come along. For research only: look at every result before you use it.
"""


class LandmarkDir(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "Landmark DIR"
        self.parent.categories = ["Registration"]
        self.parent.dependencies = []
        self.parent.contributors = ["the landmark_dir contributors"]
        self.parent.helpText = HELP
        self.parent.acknowledgementText = (
            "elastix: S. Klein et al., IEEE Trans. Med. Imaging 29:196, 2010. Landmarks: "
            "M. Grewal et al., see docs/method.md."
        )


@parameterNodeWrapper
class LandmarkDirParameterNode:
    """What a person chose; it is saved with the scene."""

    fixed: vtkMRMLScalarVolumeNode
    moving: vtkMRMLScalarVolumeNode
    preset: Annotated[str, Choice(list(registration.PRESETS))] = registration.PRESETS[0]
    more: str = ""
    transform: vtkMRMLTransformNode
    warped: vtkMRMLScalarVolumeNode
    fixedLandmarks: vtkMRMLMarkupsFiducialNode
    movingLandmarks: vtkMRMLMarkupsFiducialNode


class LandmarkDirLogic(ScriptedLoadableModuleLogic):
    """What Slicer knows and `LandmarkDirLib` has to be told."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        settings = Path(slicer.app.slicerUserSettingsFilePath).parent
        self.home = settings / "LandmarkDir" / "environment"
        self.variables = command.environment(slicer.util.startupEnvironment())
        self.at: Optional[registration.Places] = None
        self._folder: Optional[Path] = None

    def getParameterNode(self) -> LandmarkDirParameterNode:
        """What a person chose in this scene."""
        return LandmarkDirParameterNode(super().getParameterNode())  # type: ignore[call-arg]

    def command(self, named: str) -> Optional[Path]:
        """The command that a registration would run; None if there is none."""
        return command.find_command(named, self.home, self.variables)

    def install(self, source: str) -> Work:
        """Begin to install the package into an environment of its own."""
        slicers = shutil.which("PythonSlicer")
        python = command.find_python(self.variables, [slicers or sys.executable])
        wanted = command.split_source(source)
        self.home.parent.mkdir(parents=True, exist_ok=True)
        return Work(command.install_steps(python, wanted, self.home), self.variables)

    def register(self, chosen: LandmarkDirParameterNode, named: str, keep: str) -> Work:
        """Begin a registration; its run folder lies in `keep`, or goes with the module."""
        found = self.command(named)
        if found is None:
            raise Problem(f"no {command.NAME} was found; press Install, or choose it")
        self.forget()
        self._folder = Path(tempfile.mkdtemp(prefix="LandmarkDir-", dir=slicer.app.temporaryPath))
        stamp = datetime.now().strftime("run-%Y%m%d-%H%M%S")
        self.at = registration.places(self._folder, Path(keep) / stamp if keep else None)
        steps = registration.steps(found, self.at, chosen.preset, chosen.more)
        scene.write_inputs(chosen.fixed, chosen.moving, self.at, _outputs(chosen))
        return Work(steps, self.variables)

    def load(self, chosen: LandmarkDirParameterNode) -> registration.Verdict:
        """Load what the registration left, and name it in the parameters."""
        assert self.at is not None
        verdict = registration.read_verdict(self.at.run)
        filled = scene.load_results(chosen.fixed, chosen.moving, self.at, _outputs(chosen))
        chosen.transform, chosen.warped = filled.transform, filled.warped
        chosen.fixedLandmarks = filled.fixed_landmarks
        chosen.movingLandmarks = filled.moving_landmarks
        for written in (self.at.fixed, self.at.moving):
            written.unlink()
        return verdict

    def forget(self) -> None:
        """Remove the files of the last registration, but for a run folder that is kept."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self.at = None


def _outputs(chosen: LandmarkDirParameterNode) -> scene.Outputs:
    return scene.Outputs(
        chosen.transform, chosen.warped, chosen.fixedLandmarks, chosen.movingLandmarks
    )


class LandmarkDirWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.chosen: Any = None  # LandmarkDirParameterNode, or None
        self.guiTag: Any = None
        self.work: Optional[Work] = None
        self.whenDone: Any = None

    def setup(self) -> None:
        """Make the panel; Slicer calls it once."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/LandmarkDir.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = LandmarkDirLogic()
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.onPoll)
        self.ui.commandPath.currentPath = slicer.util.settingsValue(COMMAND_SETTING, "")
        beside = command.default_source(Path(__file__).parent)
        self.ui.sourceEdit.text = slicer.util.settingsValue(SOURCE_SETTING, beside)
        self.ui.commandPath.connect("currentPathChanged(QString)", self.onCommand)
        self.ui.runButton.connect("clicked(bool)", self.onRun)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.installButton.connect("clicked(bool)", self.onInstall)
        self.ui.reportButton.connect("clicked(bool)", self.onReport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneCloses)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        self.setChosen(self.logic.getParameterNode())
        self.showCommand()

    def cleanup(self) -> None:
        """End what is at work; Slicer calls it when it closes."""
        self.removeObservers()
        self.timer.stop()
        if self.work is not None:
            self.work.end()
        self.logic.forget()

    def enter(self) -> None:
        """Take up the parameters of the scene."""
        self.setChosen(self.logic.getParameterNode())

    def exit(self) -> None:
        """Let go of them unless a registration is at work, which ends with them."""
        if self.work is None:
            self.setChosen(None)

    def onSceneCloses(self, caller: Any, event: Any) -> None:
        """Cancel: the volumes go."""
        self.onCancel()
        self.setChosen(None)

    def onSceneClosed(self, caller: Any, event: Any) -> None:
        """Begin anew, if the panel is shown."""
        if self.parent.isEntered:
            self.setChosen(self.logic.getParameterNode())

    def setChosen(self, chosen: Any) -> None:
        """Connect the panel with parameters; each widget names its own in the .ui file."""
        if self.chosen is not None:
            self.chosen.disconnectGui(self.guiTag)
            self.removeObserver(self.chosen, vtk.vtkCommand.ModifiedEvent, self.onChosen)
        self.chosen = chosen
        if chosen is not None:
            self.guiTag = chosen.connectGui(self.ui)
            self.addObserver(chosen, vtk.vtkCommand.ModifiedEvent, self.onChosen)
        self.onChosen()

    def onChosen(self, caller: Any = None, event: Any = None) -> None:
        """Enable what can be pressed."""
        idle = self.work is None
        both = self.chosen is not None and self.chosen.fixed and self.chosen.moving
        self.ui.runButton.enabled = bool(idle and both)
        self.ui.installButton.enabled = idle
        self.ui.cancelButton.enabled = not idle
        self.ui.inputsButton.enabled = self.ui.outputsButton.enabled = idle

    def onCommand(self, path: str) -> None:
        """Keep the choice for all scenes."""
        qt.QSettings().setValue(COMMAND_SETTING, path)
        self.showCommand()

    def showCommand(self) -> None:
        """Say which command would run."""
        try:
            found = self.logic.command(self.ui.commandPath.currentPath)
            self.ui.commandLabel.text = str(found) if found else "none; press Install"
        except Problem as problem:
            self.ui.commandLabel.text = str(problem)

    def onRun(self) -> None:
        """Write the volumes and begin."""
        self.begin(
            lambda: self.logic.register(
                self.chosen, self.ui.commandPath.currentPath, self.ui.keepPath.currentPath
            ),
            self.onRegistered,
        )

    def onRegistered(self) -> None:
        """Load the results."""
        verdict = self.logic.load(self.chosen)
        self.ui.verdictLabel.text = verdict_text(verdict)
        self.ui.reportButton.enabled = True
        slicer.util.setSliceViewerLayers(
            background=self.chosen.fixed, foreground=self.chosen.warped, foregroundOpacity=0.5
        )

    def onInstall(self) -> None:
        """Ask, then install."""
        source = self.ui.sourceEdit.text
        qt.QSettings().setValue(SOURCE_SETTING, source)
        asked = (
            f"pip will install this and what it needs, some GB, into {self.logic.home}:\n\n"
            f"{source}\n\nSlicer's own Python is not touched."
        )
        if slicer.util.confirmOkCancelDisplay(asked):
            self.begin(lambda: self.logic.install(source), self.showCommand)

    def onReport(self) -> None:
        """Open the page of the run."""
        if self.logic.at is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.logic.at.report)))

    def onCancel(self) -> None:
        """Ask what is at work to end."""
        if self.work is not None:
            self.work.cancel()

    def begin(self, make: Any, whenDone: Any) -> None:
        """Start work that `onPoll` watches."""
        self.ui.verdictLabel.text = ""
        self.ui.reportButton.enabled = False
        self.ui.logEdit.plainText = ""
        try:
            with slicer.util.WaitCursor():
                self.work, self.whenDone = make(), whenDone
        except Problem as problem:
            self.logic.forget()
            slicer.util.errorDisplay(str(problem))
            return
        self.timer.start()
        self.onChosen()

    def onPoll(self) -> None:
        """Show how far it is, and take what it left."""
        work = self.work
        assert work is not None  # the timer runs no longer than it
        try:
            told = work.poll()
            if told is not None:
                self.ui.progressBar.value = round(100 * told.fraction)
                self.ui.stageLabel.text = told.stage
                if len(work.log) != len(self.ui.logEdit.plainText.splitlines()):
                    self.ui.logEdit.plainText = "\n".join(work.log)
                return
            self.stop("done", 100)
            self.whenDone()
        except Problem as problem:
            self.stop(str(problem), 0)
            self.logic.forget()
            if not work.cancelled:
                slicer.util.errorDisplay(str(problem), detailedText="\n".join(work.log))

    def stop(self, said: str, percent: int) -> None:
        """Nothing is at work any more."""
        self.timer.stop()
        self.work = None
        self.ui.stageLabel.text = said
        self.ui.progressBar.value = percent
        self.onChosen()


class LandmarkDirTest(ScriptedLoadableModuleTest):
    """Slicer's own "Reload and Test": the panel is there, and says what it would run."""

    def runTest(self) -> None:
        """Look at the panel without a registration; Testing/Python registers."""
        slicer.mrmlScene.Clear()
        slicer.util.selectModule("LandmarkDir")
        widget = slicer.modules.LandmarkDirWidget
        self.assertFalse(widget.ui.runButton.enabled)
        presets = [widget.ui.presetBox.itemText(i) for i in range(widget.ui.presetBox.count)]
        self.assertEqual(presets, list(registration.PRESETS))
        self.assertTrue(widget.ui.commandLabel.text)
