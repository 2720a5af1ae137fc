"""An exported policy on the robot: numpy in, numpy out. Needs numpy and onnxruntime, no other file of this project."""

from __future__ import annotations  # Python 3.9 reads this file

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FORMAT = 1  # of the metadata that this file reads
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class PolicyFileError(ValueError):
    """A file that is no usable policy; the message says why and what to do."""


class OnnxPolicy:
    """The policy of policy.onnx or actor.onnx: observations to actions, both in the units of the environment.

    path: the file, or the directory of an export, whose policy.onnx is taken.
    providers: "auto" runs on CUDA where onnxruntime offers it, else on the CPU; "cpu"; "cuda".
    seed: of the noise that moves the candidates, where there are any. threads: of onnxruntime; small networks need one.
    Raises FileNotFoundError, PolicyFileError, or RuntimeError where CUDA was asked for and cannot run.

    metadata: what the export wrote about the agent. provider: "cpu" or "cuda", the one that really runs.
    observation_size O, action_size A; low, high (A,): the action box.
    evaluation_samples M: candidates that the critics choose from; 1 is the actor's own action.
    """

    def __init__(self, path: str | os.PathLike[str], providers: str = "auto", seed: int = 0, threads: int = 1):
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        path = Path(path)
        path = path / "policy.onnx" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"no policy at {path}; agent.export_onnx(directory) writes one")
        self.session = _open(path, _choose(providers), threads)
        self.provider = "cuda" if self.session.get_providers()[0] == PROVIDERS["cuda"] else "cpu"
        if providers == "cuda" and self.provider != "cuda":
            raise RuntimeError("onnxruntime could not start CUDA, see its log; mend that, or use providers='cpu'")
        self.metadata = _metadata(path, self.session)
        self.observation_size: int = self.metadata["observation_size"]
        self.action_size: int = self.metadata["action_size"]
        self.evaluation_samples: int = self.metadata["evaluation_samples"]
        self.low = np.array(self.metadata["action_low"], np.float32)
        self.high = np.array(self.metadata["action_high"], np.float32)
        self._rng = np.random.default_rng(seed)

    def predict(self, obs: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Actions inside the box: (O,) -> (A,), or (n, O) -> (n, A); float32.

        noise: standard normal (n, M, A) that moves the candidates, n = 1 for one observation; None draws it.
        Raises TypeError or ValueError for another kind, shape or non-finite entries, FloatingPointError where the
        action itself would not be finite.
        """
        obs = np.asarray(obs)
        rows = self._rows(obs)
        feeds = {"obs": rows}
        if self.evaluation_samples > 1:
            feeds["noise"] = self._noise(len(rows), noise)
        elif noise is not None:
            raise ValueError("this policy takes no noise: it was exported with evaluation_samples=1")
        actions = self.session.run(["actions"], feeds)[0]
        if not np.isfinite(actions).all():
            raise FloatingPointError(f"the policy's action is not finite for the observation {obs}")
        actions = np.minimum(np.maximum(actions, self.low), self.high)
        return actions[0] if obs.ndim == 1 else actions

    def _rows(self, obs: np.ndarray) -> np.ndarray:
        size = self.observation_size
        if obs.dtype.kind not in "fiu":
            raise TypeError(f"obs must hold numbers, got dtype {obs.dtype}")
        if obs.ndim not in (1, 2) or obs.shape[-1] != size or not obs.size:
            raise ValueError(f"obs must have shape ({size},) or (n, {size}) with n >= 1, got {obs.shape}")
        rows = np.ascontiguousarray(obs, np.float32).reshape(-1, size)
        if not np.isfinite(rows).all():
            bad = np.flatnonzero(~np.isfinite(rows).all(0)).tolist()
            raise ValueError(f"obs has NaN or infinite entries in dimensions {bad}; expected finite float32 numbers")
        return rows

    def _noise(self, count: int, noise: np.ndarray | None) -> np.ndarray:
        shape = (count, self.evaluation_samples, self.action_size)
        if noise is None:
            return self._rng.standard_normal(shape, np.float32)
        noise = np.asarray(noise)
        if noise.dtype.kind not in "fiu" or noise.shape != shape or not np.isfinite(noise).all():
            raise ValueError(f"noise must be {shape} finite numbers, got shape {noise.shape}, dtype {noise.dtype}")
        return np.ascontiguousarray(noise, np.float32)


def _choose(providers: str) -> list[str]:
    """onnxruntime's names for what `providers` asks for, best first."""
    offered = onnxruntime.get_available_providers()
    if providers not in ("auto", *PROVIDERS):
        raise ValueError(f"providers must be 'auto', 'cpu' or 'cuda', got {providers!r}")
    if providers == "cuda" and PROVIDERS["cuda"] not in offered:
        raise RuntimeError(
            f"this onnxruntime runs on {', '.join(offered)} only: "
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu, or use providers='cpu'"
        )
    if providers == "cpu" or PROVIDERS["cuda"] not in offered:
        return [PROVIDERS["cpu"]]
    return [PROVIDERS["cuda"], PROVIDERS["cpu"]]


def _open(path: Path, providers: list[str], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise PolicyFileError(f"{path} cannot be loaded ({error}); it may be damaged, use another copy") from error


def _metadata(path: Path, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    try:
        metadata = json.loads(session.get_modelmeta().custom_metadata_map["zoo"])
        version, graph = metadata["format"], metadata["graph"]
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyFileError(f"{path} lacks the metadata 'zoo'; agent.export_onnx writes files with it") from error
    if version > FORMAT:
        raise PolicyFileError(f"{path} has format {version}, this runtime reads up to {FORMAT}: use a newer runtime.py")
    if graph == "critic":
        raise PolicyFileError(f"{path} is a critic and gives no actions; open the policy.onnx or actor.onnx beside it")
    return metadata
