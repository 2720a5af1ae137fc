"""The guard of the control loop, from disagreement.onnx. Needs numpy and onnxruntime, no other file of this project."""

from __future__ import annotations  # Python 3.9 reads this file

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, see runtime.py
import onnxruntime

FORMAT = 2  # of the metadata that this file reads
# What a policy and its guard have in common.
SAME_AGENT = ("agent", "seed", "config_sha256", "counters", "dataset", "weights_sha256")


class GuardFileError(ValueError):
    """A file that is no usable guard; the message says why and what to do."""


class Disagreement:
    """How far the critics are apart on an action, and the threshold above which that was unusual in the data.

    path: the file, or the directory that holds disagreement.onnx; agent.write_guard writes it.
    policy: the metadata of the OnnxPolicy that it guards; a guard of another agent is then refused.
    threshold: in place of the file's own, in the units of the critics.
    Raises FileNotFoundError, GuardFileError, or ValueError for a threshold that is not positive.

    metadata: what write_guard wrote; metadata["calibration"] says what the threshold means.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        policy: Mapping[str, Any] | None = None,
        threshold: float | None = None,
    ):
        path = Path(path)
        path = path / "disagreement.onnx" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"no guard at {path}; agent.write_guard(dataset, folder) writes one")
        _check_hash(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise GuardFileError(f"{path} cannot be loaded ({error}); it may be damaged, use another copy") from error
        self.metadata = _metadata(path, self.session)
        if policy is not None:
            self._check_owner(path, policy)
        self.threshold = float(self.metadata["calibration"]["threshold"] if threshold is None else threshold)
        if not 0.0 < self.threshold < float("inf"):
            raise ValueError(f"threshold must be a positive number, got {self.threshold}")
        self._sizes = (self.metadata["observation_size"], self.metadata["action_size"])

    def _check_owner(self, path: Path, policy: Mapping[str, Any]) -> None:
        for key in SAME_AGENT:
            mine, its = self.metadata.get(key), policy.get(key)
            if mine != its:
                raise GuardFileError(
                    f"{path} guards another agent: its {key} is {mine!r}, the policy's is {its!r}. "
                    "Write both from the same checkpoint"
                )

    def __call__(self, obs: np.ndarray, action: np.ndarray) -> float:
        """The disagreement on one action (A,) in one state (O,), in the units of the environment; may be NaN.

        Raises ValueError for other shapes.
        """
        feeds = {}
        for name, value, size in zip(("obs", "actions"), (obs, action), self._sizes):  # noqa: B905, not in Python 3.9
            row = np.asarray(value, np.float32)
            if row.shape != (size,):
                raise ValueError(f"{name} must have shape ({size},), got {row.shape}")
            feeds[name] = row[np.newaxis]
        return float(self.session.run(["disagreement"], feeds)[0][0])


def _check_hash(path: Path) -> None:
    """Raises GuardFileError where the contract beside the file was written for another one."""
    contract = path.with_name("contract.json")
    if not contract.is_file():
        return
    try:
        values = json.loads(contract.read_text(encoding="utf-8"))
        files = values["files"]
        expected = files[path.name]["sha256"] if path.name in files else None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise GuardFileError(f"{contract} is not a contract ({error!r}); use another copy of the bundle") from error
    older = expected is None and "weights_sha256" not in values  # guards had no hash then
    if not older and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise GuardFileError(
            f"{path} is not the guard that {contract.name} was written for: "
            f"{'it has no hash of it' if expected is None else 'its SHA-256 differs'}. Write the guard again, or copy "
            "the whole bundle again"
        )


def _metadata(path: Path, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    try:
        metadata = json.loads(session.get_modelmeta().custom_metadata_map["zoo"])
        version, graph = metadata["format"], metadata["graph"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise GuardFileError(f"{path} lacks the metadata 'zoo'; agent.write_guard writes it") from error
    if version > FORMAT:
        raise GuardFileError(f"{path} has format {version}, this reader up to {FORMAT}: use a newer disagreement.py")
    if graph != "disagreement":
        raise GuardFileError(f"{path} is a {graph} and knows no disagreement; open the disagreement.onnx beside it")
    return metadata
