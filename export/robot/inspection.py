"""Looking after bundles where there is no torch: what verify, info, bench and diff say. Needs runtime.py beside it."""

from __future__ import annotations  # Python 3.9 reads this file

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .runtime import OnnxPolicy, PolicyFileError, measure, open_session

TOLERANCE = 1e-5  # of golden vectors, as at export: in half boxes for actions, in 1 + max|q| for q
FILES = ("actor.onnx", "policy.onnx", "golden.npz")  # those without which nothing can be verified
LARGEST_GOLDEN = 256 * 2**20  # bytes
UNHASHED = ("contract.json", "CARD.md")
OF_A_FILE = ("graph", "inputs", "outputs")  # metadata that the contract does not have
QUANTILES = (0.5, 0.99, 0.999)


@dataclass(frozen=True)
class Finding:
    """One line of verify or diff. bad: the bundle is wrong, or the change could hurt a robot."""

    bad: bool
    text: str


# Verify -----------------------------------------------------------------------------------------------------------


def verify(directory: Path, providers: str = "auto") -> list[Finding]:
    """Whether the files are those of the export and compute here what they computed there."""
    contract = read_contract(directory)
    findings = [*check_files(directory, contract)]
    if any(finding.bad for finding in findings):
        return findings  # damaged files are not run
    try:
        findings += check_golden(directory, contract, providers)
    except (OSError, ValueError, RuntimeError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        findings.append(Finding(True, str(error)))
    return findings


def check_files(directory: Path, contract: dict[str, Any]) -> Iterator[Finding]:
    """Files missing or changed, and metadata that contradict the contract."""
    files = contract.get("files")
    if files is None:
        yield Finding(
            contract["format"] > 1, "contract.json: none, so no hash was checked; exports of format 1 have none"
        )
        return
    digest = hashlib.sha256((directory / "contract.json").read_bytes()).hexdigest()
    yield Finding(False, f"contract.json: SHA-256 {digest}; the export printed the same")
    for name in dict.fromkeys((*FILES, *files)):
        path = directory / name
        if name not in files:
            yield Finding(True, f"{name}: the contract has no hash of it; copy the whole bundle again")
        elif not path.is_file():
            yield Finding(True, f"{name}: missing; copy the whole bundle again")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != files[name]["sha256"]:
            yield Finding(True, f"{name}: its SHA-256 is not the contract's; damaged or of another export")
        else:
            yield Finding(False, f"{name}: as exported")
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        if name not in (*files, *UNHASHED):
            foreign = (
                path.suffix == ".onnx" and "weights_sha256" in contract
            )  # files added to older bundles have no hash
            advice = "not of this export; remove it, or write it again" if foreign else "the contract has no hash of it"
            yield Finding(foreign, f"{name}: {advice}")


def check_golden(directory: Path, contract: dict[str, Any], providers: str) -> Iterator[Finding]:
    """The golden inputs through every file, against torch's outputs."""
    golden = read_golden(directory)
    if "q" in golden:  # a policy that learned without critics has none
        session, provider = open_session(directory / "critic.onnx", providers, 1)

    def q_of(actions: np.ndarray) -> np.ndarray:
        try:
            values: np.ndarray = session.run(["q"], {"obs": golden["obs"], "actions": actions})[0]
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise PolicyFileError(f"critic.onnx cannot be run on golden.npz: {error}") from error
        return values

    if "q" in golden:
        q, expected = q_of(golden["actions"]), golden["q"]
        yield compared("critic.onnx", np.abs(q - expected) / (1 + np.abs(expected).max()), provider)
    for name, noise in (("actor", None), ("policy", golden.get("noise"))):
        policy = OnnxPolicy(directory / f"{name}.onnx", providers)
        own = {key: value for key, value in policy.metadata.items() if key not in OF_A_FILE}
        if name == "actor":
            del own["evaluation_samples"]  # it has one, whatever the policy has
        if contradicting := [key for key in own if contract.get(key) != own[key]]:
            yield Finding(True, f"{name}.onnx: its own metadata contradict the contract in {', '.join(contradicting)}")
        found, expected = policy.predict(golden["obs"], noise), golden[f"{name}_actions"]
        differences = np.abs((found - expected) / ((policy.high - policy.low) / 2)).max(-1)
        if (
            policy.evaluation_samples > 1
        ):  # of two candidates that the critics rate the same, rounding may choose either
            same_q = np.abs(q_of(found) - q_of(expected)) <= TOLERANCE * (1 + np.abs(golden["q"]).max())
            differences = differences[(differences <= TOLERANCE) | ~same_q]
        yield compared(f"{name}.onnx", differences, policy.provider)


def compared(name: str, differences: np.ndarray, provider: str) -> Finding:
    """differences: (rows,), relative; one that is NaN is too large."""
    largest = differences.max(initial=0.0)
    text = f"{name}: largest difference {largest:.2g} in {len(differences)} golden rows on {provider}"
    return Finding(not largest <= TOLERANCE, f"{text}; {TOLERANCE:g} is allowed")


def read_contract(directory: Path) -> dict[str, Any]:
    """contract.json, or for exports of format 1 the metadata of policy.onnx in the same form."""
    path = directory / "contract.json"
    if not directory.is_dir():
        raise FileNotFoundError(f"no directory {directory}; agent.export_onnx(directory) writes one")
    if path.is_file():
        try:
            contract: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if not all(isinstance(entry["sha256"], str) for entry in contract["files"].values()):
                raise TypeError("a hash is no text")
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise PolicyFileError(f"{path} is not a contract ({error!r}); use another copy of the bundle") from error
        return contract
    policy = OnnxPolicy(directory, providers="cpu")
    unknown = {"name": None, "unit": "unknown", "low": None, "high": None}
    box = zip(policy.low.tolist(), policy.high.tolist())  # noqa: B905, not in Python 3.9
    return {
        "observations": [unknown] * policy.observation_size,
        "actions": [{**unknown, "low": low, "high": high} for low, high in box],
        **policy.metadata,
    }


def read_golden(directory: Path) -> dict[str, np.ndarray]:
    path = directory / "golden.npz"
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_GOLDEN:
                raise ValueError(f"it declares more than {LARGEST_GOLDEN:,} bytes")
        with np.load(path, allow_pickle=False) as file:
            golden = dict(file)
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise PolicyFileError(f"{path} cannot be read ({error}); use another copy of the bundle") from error
    if missing := {"obs", "actor_actions", "policy_actions"} - golden.keys():
        raise PolicyFileError(f"{path} lacks {', '.join(sorted(missing))}; use another copy of the bundle")
    return golden


# Info -------------------------------------------------------------------------------------------------------------


def info(directory: Path) -> str:
    """The contract in a screenful."""
    contract = read_contract(directory)
    dataset, counters, rate = contract["dataset"], contract["counters"], contract.get("control_rate_hz")
    samples = contract["evaluation_samples"]
    own = "one draw of the actor" if contract.get("generative") else "the actor's own action"
    chooses = own if samples == 1 else f"the critics' best of {samples} candidates"
    entries = {
        "agent": f"{contract['agent']}, {contract.get('paper') or 'no paper named'}",
        "data": f"{dataset['name']}, environment {dataset['env_id'] or 'unknown'}",
        "training": f"seed {contract['seed']}, {counters['updates']:,} updates, {counters['env_steps']:,} env steps",
        "scores": json.dumps(contract.get("scores")) if contract.get("scores") else "none known",
        "decision": chooses,
        "control rate": "unknown" if rate is None else f"{rate:g} Hz",
        "format": f"{contract['format']}, opset {contract['opset']}, IR version {contract['ir_version']}",
        "runs on": f"onnxruntime {onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}",
    }
    lines = [f"{label:<14}{text}" for label, text in entries.items()]
    for title in ("observations", "actions"):
        lines += ["", f"{title:<32}{'unit':<12}{'low':>12}{'high':>12}"]
        for index, entry in enumerate(contract[title]):
            low, high = ("-" if entry[key] is None else f"{entry[key]:g}" for key in ("low", "high"))
            lines.append(f"{index:>3}  {entry['name'] or '-':<27}{entry['unit']:<12}{low:>12}{high:>12}")
    return "\n".join(lines)


# Bench ------------------------------------------------------------------------------------------------------------


def bench(directory: Path, providers: str, threads: int, calls: int) -> str:
    """Latency of single decisions, OnnxPolicy and bare session.run in turns; milliseconds."""
    lines = [f"{'milliseconds of one decision':<44}" + "".join(f"{f'p{100 * q:g}':>10}" for q in QUANTILES)]
    for name in ("actor", "policy"):
        policy = OnnxPolicy(directory / f"{name}.onnx", providers, threads=threads)
        if name == "policy" and not policy.noise_size:
            continue  # the actor again
        obs, rng = np.zeros(policy.observation_size, np.float32), np.random.default_rng(0)
        feeds = {"obs": obs[np.newaxis]}
        if policy.noise_size:
            shape = (1, policy.evaluation_samples, policy.noise_size)
            feeds["noise"] = rng.standard_normal(shape, np.float32)
        session, _ = open_session(directory / f"{name}.onnx", providers, threads)
        bare, ours = measure([partial(session.run, ["actions"], feeds), partial(policy.predict, obs)], calls)
        label = f"{name}.onnx, {policy.evaluation_samples} candidates" if name == "policy" else f"{name}.onnx"
        rows = [np.quantile(times, QUANTILES) for times in (bare, ours)]
        for text, row in zip((f"{label}: session.run", f"{label}: OnnxPolicy"), rows):  # noqa: B905, not in Python 3.9
            lines.append(f"{text:<44}" + "".join(f"{value:>10.4f}" for value in row))
        lines.append(f"{'    ratio':<44}" + "".join(f"{value:>10.2f}" for value in rows[1] / rows[0]))
        lines.append(f"    {calls} calls, provider {policy.provider}, {threads} thread(s)")
    return "\n".join(lines)


# Diff -------------------------------------------------------------------------------------------------------------


def diff(first: Path, second: Path) -> list[Finding]:
    """What changed from the first bundle to the second; bad where the robot's code or limits may not fit."""
    old, new = read_contract(first), read_contract(second)
    findings = [
        Finding(True, f"{key}: {old.get(key)} -> {new.get(key)}")
        for key in ("observation_size", "action_size", "control_rate_hz", "evaluation_samples", "search_noise")
        if old.get(key) != new.get(key)
    ]
    noise = [contract.get("noise_size", len(contract["actions"])) for contract in (old, new)]
    if noise[0] != noise[1]:
        findings.append(Finding(True, f"noise_size: {noise[0]} -> {noise[1]}"))
    same_sizes = all(len(old[key]) == len(new[key]) for key in ("observations", "actions"))
    if same_sizes:
        for title in ("observations", "actions"):
            for index, entries in enumerate(zip(old[title], new[title])):  # noqa: B905, not in Python 3.9
                findings += changed_dimension(f"{title}[{index}]", *entries)
        findings += changed_normalizer(old.get("normalizer"), new.get("normalizer"))
    for key in ("agent", "seed", "config", "dataset", "counters", "scores", "opset", "ir_version", "versions"):
        if old.get(key) != new.get(key):
            findings.append(Finding(False, f"{key}: {shortened(old.get(key), new.get(key))}"))
    return findings + ([changed_actions(first, second)] if same_sizes else [])


def changed_dimension(label: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Finding]:
    """What was unknown before and is stated now is no change of the robot."""
    for key in ("name", "unit", "low", "high"):
        if old[key] != new[key]:
            known = old[key] not in (None, "unknown")
            yield Finding(known, f"{label} {key}: {old[key]} -> {new[key]}")


def changed_normalizer(old: dict[str, Any] | None, new: dict[str, Any] | None) -> Iterator[Finding]:
    """Bad from one standard deviation or a factor of two on: then the data, a unit or the order are others."""
    if old is None or new is None or old == new:
        return
    mean, std = np.array(old["mean"]), np.array(old["std"])
    shift = np.abs(np.array(new["mean"]) - mean) / std
    factor = np.exp(np.abs(np.log(np.array(new["std"]) / std)))
    bad = bool(shift.max() > 1.0 or factor.max() > 2.0)
    yield Finding(
        bad,
        f"normalizer: a mean moved by {shift.max():.3g} deviations (observations[{shift.argmax()}]), a deviation by a "
        f"factor of {factor.max():.3g} (observations[{factor.argmax()}])",
    )


def changed_actions(first: Path, second: Path) -> Finding:
    """The actors on the first bundle's golden observations, in half boxes of the first."""
    old, new = (OnnxPolicy(directory / "actor.onnx", providers="cpu") for directory in (first, second))
    obs = read_golden(first)["obs"]
    change = np.abs((new.predict(obs) - old.predict(obs)) / ((old.high - old.low) / 2))
    return Finding(
        False,
        f"the actor's actions: {np.median(change):.3g} half boxes apart in the median, {change.max():.3g} at most",
    )


def shortened(old: Any, new: Any) -> str:
    """Of two tables only the entries that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        return ", ".join(f"{name} {old.get(name)} -> {new.get(name)}" for name in names)
    return f"{old} -> {new}"
