"""policy.yaml: the actor in the format of LEAPP, which NVIDIA's Isaac tools deploy from (nvidia-isaac/leapp, 0.7).

One node, actor.onnx, with the hash, shapes and names of the contract. A kind, such as "target/joint/torques", is given
where the units say it for the whole tensor. The text is JSON, which every YAML reader reads; the package leapp is not
needed. The control rate is the graph's frequency.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.export.bundle import CONTRACT, extend, read_contract

LEAPP = "policy.yaml"
# Unit of all dimensions -> LEAPP's kind.
INPUT_KINDS = {"rad": "state/joint/position", "rad/s": "state/joint/velocity", "N m": "state/joint/effort"}
OUTPUT_KINDS = {"rad": "target/joint/position", "rad/s": "target/joint/velocity", "N m": "target/joint/torques"}


def write_leapp(directory: str | os.PathLike) -> Path:
    """Adds policy.yaml to the bundle of export_onnx in `directory`, with its hash in the contract. Returns its path.

    Raises FileNotFoundError where there is no bundle, ValueError for a policy that sees the past or takes noise, which
    one node of a graph cannot do.
    """
    directory = Path(directory)
    contract = read_contract(directory)
    if contract is None:
        raise FileNotFoundError(f"no {CONTRACT} in {directory}; export_onnx writes the bundle that {LEAPP} belongs to")
    if contract.get("history", 1) > 1 or contract.get("delay", 0):
        raise ValueError(f"a policy with history or delay remembers, and {LEAPP} describes a graph without memory")
    if contract["generative"]:
        raise ValueError(f"{contract['agent']} draws its actions, and {LEAPP} has no noise")
    extend(directory, {LEAPP: (json.dumps(described(contract, directory), indent=2) + "\n").encode()})
    return directory / LEAPP


def described(contract: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What policy.yaml says."""
    content = (directory / "actor.onnx").read_bytes()
    rate = contract["control_rate_hz"]
    configs = {"agent": contract["agent"], "config_sha256": contract["config_sha256"]}
    return {
        "models": {
            "policy": {
                "inputs": [tensor("obs", contract["observations"], INPUT_KINDS)],
                "outputs": [tensor("actions", contract["actions"], OUTPUT_KINDS)],
                "parameters": {
                    "model_path": "actor.onnx",
                    "md5sum": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                    "sha256sum": hashlib.sha256(content).hexdigest(),
                    "backend": "onnx",
                },
            }
        },
        "pipeline": {
            "inputs": {"policy": ["obs"]},
            "outputs": {"policy": ["actions"]},
            "configs": {} | ({} if rate is None else {"frequency": rate}) | configs,
        },
        "system information": contract["versions"],
    }


def tensor(name: str, entries: Sequence[dict[str, Any]], kinds: dict[str, str]) -> dict[str, Any]:
    """One input or output, a row at a time."""
    units = {entry["unit"] for entry in entries}
    kind = kinds.get(units.pop()) if len(units) == 1 else None
    names = [entry["name"] or f"{name}[{i}]" for i, entry in enumerate(entries)]
    return {
        "name": name,
        "dtype": "float32",
        "shape": [1, len(entries)],
        **({} if kind is None else {"kind": kind}),
        "element_names": [None, names],
        "units": [entry["unit"] for entry in entries],
        "low": [entry["low"] for entry in entries],
        "high": [entry["high"] for entry in entries],
    }


def dialect(contract: dict[str, Any]) -> dict[str, str]:
    """Metadata under the keys that whole_body_tracking and mjlab give their ONNX files, where all names are stated."""
    found = {}
    for key, title in (("observation_names", "observations"), ("joint_names", "actions")):
        names = [entry["name"] for entry in contract[title]]
        if all(names) and not any("," in name for name in names):
            found[key] = ",".join(names)
    return found
