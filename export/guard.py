"""disagreement.onnx: how far the critics of an agent are apart, and from where on that is unusual.

obs (batch, O), actions (batch, A) -> disagreement (batch,), the standard deviation over the ensemble, in units of the
return that the critics learned (PARS and others scale rewards). Critics that saw an action in the data tend to agree
on it. The threshold is a quantile of the disagreement on the dataset's own rows, computed with the file that is
written. zoo_robot.disagreement reads it.
"""

import json
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper
from torch import Tensor

from zoo.export.bundle import extend, read_contract
from zoo.export.description import Description
from zoo.export.onnx import BATCHES, GOLDEN, TOLERANCE, ExportError, Graph, Inputs, Methods, cut, describe, draw, trace
from zoo.policies import Policy, folded

DISAGREEMENT = Graph("disagreement", ("obs", "actions"), "disagreement")
FILE = "disagreement.onnx"
SAME_POLICY = ("agent", "seed", "config_sha256", "counters", "dataset", "weights_sha256")
CHUNK = 4096  # rows at a time; more only takes memory


class Rows(Protocol):
    """What the threshold is made from: columns "observations" (N, O) and "actions" (N, A) of a dataset."""

    @property
    def name(self) -> str: ...
    def __len__(self) -> int: ...
    def column(self, name: str) -> np.ndarray: ...


class Ensemble(Methods):
    """The critics of a policy, asked how far they are apart."""

    def __init__(self, policy: Policy):
        super().__init__(policy, (DISAGREEMENT,))

    def disagreement(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Both in the units of the environment, (B, O) and (B, A) -> (B,)."""
        normalize = self.policy.normalize_observations, self.policy.normalize_actions
        qs = self.policy.critic(normalize[0](obs), normalize[1](actions))  # (E, B)
        return (qs - qs.mean(-2, keepdim=True)).square().mean(-2).sqrt()

    def forward(self, obs: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        return (self.disagreement(obs, actions),)


def write_guard(
    policy: Policy,
    about: Description,
    dataset: Rows,
    directory: str | os.PathLike,
    quantile: float = 0.999,
    rows: int = 100_000,
) -> Path:
    """Writes disagreement.onnx into the directory of the policy's export, and its hash into the contract there.

    Both in one step. Returns its path.

    dataset: the one of the training; at most `rows` of its transitions, evenly spread, set the threshold.
    quantile: the share of them that the guard lets pass. The file also says which share of the actor's own actions in
    the same states it would refuse ("policy_alarms"): look at it before you trust the guard.
    Raises ValueError for one critic alone, a quantile outside (0, 1), a dataset of other sizes, critics that agree
    everywhere or a directory that holds another policy; ExportError where onnxruntime differs from torch by more than
    1e-5 of 1 + max|q|.
    """
    _check(policy, about, dataset, quantile, rows)
    policy = folded(policy).to("cpu", torch.float32).eval().requires_grad_(False)
    ensemble = Ensemble(policy)
    generator = torch.Generator().manual_seed(0)
    batches = {size: draw(policy, size, 1, generator) for size in BATCHES}
    golden = batches[GOLDEN]
    shape = {DISAGREEMENT.output: torch.empty(GOLDEN)}
    model = cut(trace(ensemble, golden), DISAGREEMENT, golden | shape)
    session = _session(model)
    difference = max(_compare(session, ensemble, batch) for batch in batches.values())
    metadata = describe(policy, about, DISAGREEMENT.method, DISAGREEMENT, 1)
    _check_owner(Path(directory), metadata)
    metadata["check"]["largest_difference"] = difference
    metadata["calibration"] = calibrate(session, policy, dataset, quantile, rows)
    helper.set_model_props(model, {"zoo": json.dumps(metadata)})
    onnx.checker.check_model(model)
    extend(Path(directory), {FILE: model.SerializeToString()})
    return Path(directory) / FILE


def calibrate(
    session: onnxruntime.InferenceSession, policy: Policy, dataset: Rows, quantile: float, rows: int
) -> dict[str, str | int | float]:
    """The threshold and what it means on the data and for the actor."""
    chosen = np.linspace(0, len(dataset) - 1, min(rows, len(dataset))).astype(np.int64)
    obs, actions = (dataset.column(name)[chosen].astype(np.float32) for name in ("observations", "actions"))
    on_data = _run(session, obs, actions)
    with torch.no_grad():
        on_policy = _run(session, obs, policy(torch.from_numpy(obs)).numpy())
    threshold = float(np.quantile(on_data, quantile, method="higher"))
    if not threshold > 0.0:
        raise ValueError(f"the critics agree on {quantile:.1%} of {dataset.name}: they did not learn apart, no guard")
    return {
        "dataset": dataset.name,
        "rows": len(chosen),
        "quantile": quantile,
        "threshold": threshold,
        "median": float(np.median(on_data)),
        "policy_alarms": float((on_policy > threshold).mean()),
    }


def _check(policy: Policy, about: Description, dataset: Rows, quantile: float, rows: int) -> None:
    members = policy.critic.members
    if about.history > 1 or about.delay:
        raise ValueError(f"{about.agent} sees the past, and a guard is asked for one observation alone: it has none")
    if not policy.has_critics:
        raise ValueError(f"{about.agent} has no critics, and the guard is their disagreement")
    if members < 2:
        raise ValueError(
            f"{about.agent} has {members} critic, and one cannot disagree with itself; "
            "train it with n_critics=2 or more"
        )
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must be between 0 and 1, got {quantile}")
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    expected = {"observations": len(policy.observation_mean), "actions": len(about.action_low)}
    found = {column: dataset.column(column).shape[1] for column in expected}
    if found != expected:
        raise ValueError(
            f"{dataset.name} has sizes {found}, {about.agent} was trained with {expected}; give its own dataset"
        )


def _check_owner(directory: Path, metadata: dict) -> None:
    """Raises ValueError where the directory is the bundle of another policy."""
    contract, own = read_contract(directory) or {}, json.loads(json.dumps(metadata))
    if different := [key for key in SAME_POLICY if key in contract and contract[key] != own[key]]:
        raise ValueError(
            f"{directory} is the bundle of another policy: {', '.join(different)} differ. Export this one first"
        )


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """The disagreement (N,) of N rows, chunk by chunk."""
    chunks = [slice(i, i + CHUNK) for i in range(0, len(obs), CHUNK)]
    return np.concatenate([session.run(None, {"obs": obs[c], "actions": actions[c]})[0] for c in chunks])


def _compare(session: onnxruntime.InferenceSession, ensemble: Ensemble, batch: Inputs) -> float:
    """The largest difference to torch, relative to 1 + max|q|: the critics' own rounding is of that size."""
    expected = ensemble.disagreement(batch["obs"], batch["actions"])
    scale = 1.0 + ensemble.policy.evaluate(batch["obs"], batch["actions"]).abs().max()
    found = torch.from_numpy(_run(session, batch["obs"].numpy(), batch["actions"].numpy()))
    difference = float(((found - expected).abs() / scale).max())
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{FILE} differs from the critics by {difference:.3g} of 1 + max|q|; {TOLERANCE:g} is allowed. "
            "Nothing was written"
        )
    return difference
