"""A policy on the robot: numpy and onnxruntime, no torch. Works installed, and as a copied folder of any name."""

from __future__ import annotations  # Python 3.9 reads this file

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .control import ControlLoop, Limits
    from .disagreement import Disagreement
    from .recorder import Recorder
    from .runlog import read_log
    from .runtime import OnnxPolicy, PolicyFileError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for every file of the folder, see runtime.py

# Handed on when they are asked for: a control loop without a policy's file needs no onnxruntime.
_HOMES = {
    "ControlLoop": ".control",
    "Disagreement": ".disagreement",
    "Limits": ".control",
    "OnnxPolicy": ".runtime",
    "PolicyFileError": ".runtime",
    "Recorder": ".recorder",
    "read_log": ".runlog",
}
__all__ = ["ControlLoop", "Disagreement", "Limits", "OnnxPolicy", "PolicyFileError", "Recorder", "read_log"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
