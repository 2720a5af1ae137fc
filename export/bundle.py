"""What lies beside the graphs of an export: golden vectors, the contract with its hashes, a card to read."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.export.files import Lock, whole_folder, written_through

CONTRACT = "contract.json"
CARD = "CARD.md"  # without a hash: people may add to it
GRAPHS = ("actor.onnx", "critic.onnx", "policy.onnx", "golden.npz", "report.json")
ADDED = ("disagreement.onnx", "policy.h", "policy.yaml", "fp16/policy.onnx", "int8/policy.onnx")  # later


def add_contract(
    files: Mapping[str, bytes], contract: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, bytes]:
    """The files with contract.json, which has the SHA-256 of each of them, and CARD.md."""
    whole = {**contract, "files": hashes(files)}
    return {**files, CARD: card(whole, report).encode(), CONTRACT: as_text(whole)}


def hashes(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()
    }


def as_text(contract: Mapping[str, Any]) -> bytes:
    return (json.dumps(contract, indent=2, allow_nan=False) + "\n").encode()


def golden_file(vectors: Mapping[str, np.ndarray]) -> bytes:
    """An npz without a clock in it."""
    file = io.BytesIO()
    np.savez(file, **vectors)  # type: ignore[arg-type]  # every keyword is an array
    return file.getvalue()


def place(directory: Path, files: Mapping[str, bytes]) -> None:
    """A bundle of exactly these files takes the name `directory`, in one step; an older bundle there is gone with it.

    Raises FileExistsError where the folder has files that no export wrote, InUseError where somebody else writes it.
    """
    with Lock(directory):
        if foreign := foreign_files(directory):
            raise FileExistsError(
                f"{directory} has files that no export wrote ({', '.join(foreign[:5])}), and an export replaces the "
                "whole folder: give it one of its own"
            )
        with whole_folder(directory) as folder:
            put(folder, files)


def extend(directory: Path, files: Mapping[str, bytes]) -> None:
    """Adds files to a bundle, and their hashes to its contract, in one step; without a bundle, the files alone."""
    with Lock(directory):
        contract = read_contract(directory)
        if contract is not None:
            contract["files"] |= hashes(files)
            files = {**files, CONTRACT: as_text(contract)}
        with whole_folder(directory) as folder:
            if directory.is_dir():
                shutil.copytree(written_through(directory), folder, symlinks=True, dirs_exist_ok=True)
            put(folder, files)


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def read_contract(directory: Path) -> dict[str, Any] | None:
    """contract.json of a bundle; None where there is none. Raises ValueError for a damaged one."""
    path = directory / CONTRACT
    if not path.is_file():
        return None
    try:
        contract: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        contract["files"].keys()
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a contract ({error!r}); export again") from error
    return contract


def foreign_files(directory: Path) -> list[str]:
    """Files of a folder that are no part of a bundle."""
    if not directory.is_dir():
        return []
    try:
        hashed = (read_contract(directory) or {"files": {}})["files"]
    except ValueError:  # damaged, and to be replaced
        hashed = {}
    own: Iterable[str] = (CONTRACT, CARD, *GRAPHS, *ADDED, *hashed)
    paths = (path for path in directory.rglob("*") if not path.is_dir())
    return sorted({path.relative_to(directory).as_posix() for path in paths} - set(own))


def card(contract: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """CARD.md: the contract in the order in which a person asks."""
    dataset, counters, samples = contract["dataset"], contract["counters"], contract["evaluation_samples"]
    rate = contract["control_rate_hz"]
    lines = [
        f"# {contract['agent']} for {dataset['env_id'] or dataset['name']}",
        "",
        f"{contract['summary'] or 'An agent without a description.'} Paper: {contract['paper'] or 'none named'}.",
        "",
        "## Use",
        "",
        "```python",
        "from zoo_robot import OnnxPolicy  # numpy and onnxruntime only",
        "",
        'policy = OnnxPolicy("policy.onnx")',
        f"action = policy.predict(obs)  # ({contract['observation_size']},) -> ({contract['action_size']},), float32",
        "```",
        "",
        "Before the robot moves: `python -m zoo_robot verify .`",
        "",
        f"- Control rate: {'unknown' if rate is None else f'{rate:g} Hz'}.",
        f"- Decision: {decision(samples, contract['search_noise'], contract['generative'])}",
        "",
        "## Observations",
        "",
        *table(contract["observations"]),
        "",
        "The mean and deviation by which the agent normalises them are in contract.json and inside the files.",
        *observed_lines(contract.get("observed")),
        "",
        "## Actions",
        "",
        *table(contract["actions"]),
        "",
        "No action leaves this box.",
        "",
        "## Where it comes from",
        "",
        f"- Data: {dataset['name']}. {'; '.join(f'{name}: {value}' for name, value in dataset['provenance'].items())}",
        f"- Training: seed {contract['seed']}, {counters['updates']:,} gradient steps, {counters['env_steps']:,} "
        "environment steps.",
        f"- Config: SHA-256 {contract['config_sha256']}; every setting is in contract.json.",
        *score_lines(contract["scores"]),
        "",
        "## Checks at export",
        "",
        f"onnxruntime {contract['versions']['onnxruntime']} against torch {contract['versions']['torch']}, largest "
        f"difference on random inputs, {report['tolerance']:g} allowed:",
        "",
        *(
            f"- {name}.onnx: {found['largest_difference']:.2g}"
            for name, found in report.items()
            if isinstance(found, dict)
        ),
        "",
        f"Opset {contract['opset']}, IR version {contract['ir_version']}, free batch.",
        "",
    ]
    return "\n".join(lines)


def decision(samples: int, search_noise: float | None, generative: bool) -> str:
    if samples == 1:
        drawn = "one draw of the actor. OnnxPolicy draws the noise it is made of; its seed is yours to set."
        return drawn if generative else "the actor's own action."
    around = (
        "drawn from the actor"
        if search_noise is None
        else f"the actor's action and noise of {search_noise:g} half boxes"
    )
    return f"the critics' best of {samples} candidates, {around}. OnnxPolicy draws the noise; its seed is yours to set."


def observed_lines(observed: Mapping[str, Any] | None) -> list[str]:
    """What of the observations the policy does not see."""
    if observed is None:
        return []
    lines = ["Far outside the data it was never trained: observations are clipped to `observed` of contract.json."]
    if observed["constant"]:
        which = ", ".join(map(str, observed["constant"]))
        lines.append(f"**Ignored**, because they never moved in the training data: observations {which}.")
    return ["", *lines]


def table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown rows of the dimensions."""
    lines = ["| | name | unit | low | high |", "|---|---|---|---|---|"]
    for index, entry in enumerate(entries):
        low, high = ("" if entry[key] is None else f"{entry[key]:g}" for key in ("low", "high"))
        name, unit = (" ".join((entry[key] or "").replace("|", "/").split()) for key in ("name", "unit"))
        lines.append(f"| {index} | {name} | {unit} | {low} | {high} |")
    return lines


def score_lines(scores: list[Mapping[str, Any]] | None) -> list[str]:
    if not scores:
        return ["- Evaluations: none are known of exactly these weights."]
    return [
        f"- Return {score['mean']:.1f} in {score['environment']}, 95 % interval of the mean over {score['episodes']} "
        f"episodes {score['interval'][0]:.1f} to {score['interval'][1]:.1f}. Another training seed may differ by more."
        for score in scores
    ]
