"""What a caller may want to catch.

Everything that the public functions refuse is a `LandmarkDirError`: the file on disk, the engine,
the weights, the images themselves, and an argument or option that cannot be right (`BadArgument`,
which is a `ValueError`, too). Each message is one sentence: what was expected, what was found, what
to do.
"""


class LandmarkDirError(Exception):
    """Base of all errors this package raises on purpose."""


class BadArgument(LandmarkDirError, ValueError):
    """An argument or option of a wrong type, out of range, or in contradiction to another."""


class BadVolume(LandmarkDirError):
    """An image or mask that cannot be registered: unreadable, not 3D, not finite, empty."""


class NoCommonAnatomy(LandmarkDirError):
    """Two images whose landmarks agree on no way in which one lies to the other."""


class BadPoints(LandmarkDirError):
    """A point file that elastix would misread or that does not fit its partner."""


class BadStructures(LandmarkDirError):
    """Named structures that cannot be read or written: SEG, RTSTRUCT, label map."""


class TooFewLandmarks(LandmarkDirError):
    """The network found fewer landmarks than a registration can lean on."""


class BackendMissing(LandmarkDirError):
    """The asked-for registration engine is not installed."""


class ElastixFailed(LandmarkDirError):
    """The engine ran and gave up; the message quotes its log."""


class BadWeights(LandmarkDirError):
    """A weights file that is unknown, damaged or made for another network."""


class BadRunFolder(LandmarkDirError):
    """A run folder that is occupied or incomplete, or an output that cannot be written."""
