"""An exported policy in half precision and in 8-bit integers, and what that costs and gains.

write_variants makes fp16/policy.onnx and int8/policy.onnx, which OnnxPolicy opens like any other; figures also has the
error of their actions on the dataset's observations, their return and their latency beside the original's. The command
is `zoo precision`.

Only the networks' layers change: the normaliser, the scaling to the box and the choice among candidates stay float32,
and so do the inputs and outputs.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from zoo.export.bundle import extend
from zoo_robot.runtime import OnnxPolicy, measure

LAYERS = ("Gemm", "MatMul")
WIDE = 64  # both sides of a layer's weights
CALIBRATION_ROWS = 2_000
COMPARED_ROWS = 10_000
CHUNK = 500  # rows at a time
LATENCY_CALLS = {1: 2_000, 64: 200}  # rows in one prediction -> predictions

Feeds = dict[str, np.ndarray]
Evaluation = Callable[[OnnxPolicy], np.ndarray]  # -> undiscounted returns, one for each episode


class Calibration(CalibrationDataReader):
    """The policy's inputs on the dataset's observations, chunk by chunk."""

    def __init__(self, batches: Iterator[Feeds]):
        self.batches = batches

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


def half(path: Path) -> onnx.ModelProto:
    """The layers in fp16, each between two casts: all that lies between layers stays float32.

    onnxruntime's own converter casts the graph's inputs first, and would round observations before they are normalised.
    """
    model = onnx.load(path)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    nodes, halved = [], {}
    for i, node in enumerate(model.graph.node):
        if node.op_type not in LAYERS or node.input[1] not in weights:
            nodes.append(node)
            continue
        for j, name in enumerate(node.input):
            node.input[j] = f"{name}.fp16"
            if name in weights:
                halved[name] = numpy_helper.from_array(weights[name].astype(np.float16), node.input[j])
            else:
                nodes.append(helper.make_node("Cast", [name], [node.input[j]], f"to_fp16_{i}", to=TensorProto.FLOAT16))
        (output,) = node.output
        node.output[0] = f"{output}.fp16"
        nodes += [node, helper.make_node("Cast", [node.output[0]], [output], f"from_fp16_{i}", to=TensorProto.FLOAT)]
    used = {name for node in nodes for name in node.input}
    kept = [weight for weight in model.graph.initializer if weight.name in used]
    body = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, [*kept, *halved.values()])
    return helper.make_model(body, opset_imports=model.opset_import, ir_version=model.ir_version)


def integers(path: Path, batches: Iterator[Feeds]) -> onnx.ModelProto:
    """The wide layers in 8 bits, with ranges fixed by the batches.

    Narrow ones, such as the first and the last of an actor, stay float32: they have little to gain, and most of the
    error is theirs. One scale for each layer, for onnxruntime has no other for
    ensembles; weights take 7 bits with their sign, so that no x86 CPU without VNNI saturates.
    Raises ValueError where no layer is wide.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        for i, node in enumerate(model.graph.node):
            node.name = f"node_{i}"  # layers are chosen by name, and not all have one
        sizes = {weight.name: min(weight.dims[-2:], default=0) for weight in model.graph.initializer}
        layers = [node for node in model.graph.node if node.op_type in LAYERS]
        wide = [node.name for node in layers if sizes.get(node.input[1], 0) >= WIDE]
        if not wide:
            raise ValueError(f"{path} has no layer of {WIDE} x {WIDE} or more: 8 bits have nothing to gain there")
        onnx.save(model, prepared)
        quantize_static(
            prepared,
            quantized,
            Calibration(batches),
            nodes_to_quantize=wide,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(quantized)


def write_variants(directory: Path, observations: np.ndarray, seed: int = 0) -> dict[str, OnnxPolicy]:
    """Writes fp16/policy.onnx and int8/policy.onnx beside the policy.onnx of an export; returns all three, opened.

    Their hashes go into the contract, in the same step.
    observations: (N, O) of the dataset, whose ranges the integers are scaled to; some 2,000 rows of them are used.
    Raises FileNotFoundError or PolicyFileError for the export, ValueError for observations of another size or networks
    too narrow for 8 bits.
    """
    original = OnnxPolicy(directory, providers="cpu")
    if observations.ndim != 2 or observations.shape[1] != original.observation_size:
        raise ValueError(
            f"the policy takes observations (N, {original.observation_size}), got {observations.shape}; "
            "give the dataset that it was trained on"
        )
    path = Path(directory) / "policy.onnx"
    batches = feeds(original, spread(observations, CALIBRATION_ROWS), np.random.default_rng(seed))
    variants = {"fp16": half(path), "int8": integers(path, batches)}
    for name, model in variants.items():
        helper.set_model_props(model, {"zoo": json.dumps(original.metadata | {"precision": name})})
    extend(Path(directory), {f"{name}/policy.onnx": model.SerializeToString() for name, model in variants.items()})
    opened = {name: OnnxPolicy(Path(directory) / name / "policy.onnx", providers="cpu") for name in variants}
    return {"fp32": original, **opened}


def spread(observations: np.ndarray, rows: int) -> np.ndarray:
    """At most `rows` of the observations, evenly spaced."""
    chosen = np.linspace(0, len(observations) - 1, min(rows, len(observations))).astype(np.int64)
    return np.asarray(observations[chosen], np.float32)


def feeds(policy: OnnxPolicy, observations: np.ndarray, rng: np.random.Generator) -> Iterator[Feeds]:
    """What the graph takes for these observations, chunk by chunk; noise where it has candidates."""
    for start in range(0, len(observations), CHUNK):
        obs = observations[start : start + CHUNK]
        shape = (len(obs), policy.evaluation_samples, policy.noise_size)
        noise = {"noise": rng.standard_normal(shape, np.float32)} if policy.noise_size else {}
        yield {"obs": obs} | noise


def action_errors(policy: OnnxPolicy, original: OnnxPolicy, observations: np.ndarray, seed: int = 0) -> np.ndarray:
    """The largest component of |difference| in half boxes, (rows,), on observations of the data, for the same noise."""
    rows = spread(observations, COMPARED_ROWS)
    half_box = (original.high - original.low) / 2
    differences = [
        policy.predict(f["obs"], f.get("noise")) - original.predict(f["obs"], f.get("noise"))
        for f in feeds(original, rows, np.random.default_rng(seed))
    ]
    errors: np.ndarray = np.abs(np.concatenate(differences) / half_box).max(1)
    return errors


def latencies(policies: dict[str, OnnxPolicy], observations: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    """Milliseconds of each prediction of `batch` rows, the policies in turns, so that a busy machine slows all."""
    rows = spread(observations, batch)
    obs = rows[0] if batch == 1 else np.resize(rows, (batch, rows.shape[1]))
    times = measure([partial(policy.predict, obs) for policy in policies.values()], LATENCY_CALLS[batch])
    return dict(zip(policies, times, strict=True))


def figures(directory: Path, observations: np.ndarray, evaluation: Evaluation | None) -> list[dict[str, Any]]:
    """Writes the variants and returns a row of figures for each, the original first. Errors are in half boxes."""
    policies = write_variants(directory, observations)
    original = policies["fp32"]
    rows: list[dict[str, Any]] = []
    times = {batch: latencies(policies, observations, batch) for batch in LATENCY_CALLS}
    for name, policy in policies.items():
        errors = action_errors(policy, original, observations)
        file = Path(directory) / ("" if name == "fp32" else name) / "policy.onnx"
        row: dict[str, Any] = {
            "precision": name,
            "kilobytes": round(file.stat().st_size / 1e3, 1),
            "action_error": {"mean": float(errors.mean()), "p99": float(np.quantile(errors, 0.99))},
        }
        for batch, measured in times.items():
            p50, p99 = np.quantile(measured[name], [0.5, 0.99])
            row[f"latency_ms_batch_{batch}"] = {"median": float(p50), "p99": float(p99)}
        if evaluation is not None:
            returns = evaluation(policy)
            row["return"] = {"mean": float(returns.mean()), "std": float(returns.std()), "episodes": len(returns)}
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| precision | kB | action error, mean | p99 | return | ms, batch 1 | p99 | ms, batch 64 | p99 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        error, one, many = row["action_error"], row["latency_ms_batch_1"], row["latency_ms_batch_64"]
        score = f"{row['return']['mean']:.1f} ± {row['return']['std']:.1f}" if "return" in row else "not run"
        lines.append(
            f"| {row['precision']} | {row['kilobytes']:.0f} | {error['mean']:.1e} | {error['p99']:.1e} | {score} | "
            f"{one['median']:.3f} | {one['p99']:.3f} | {many['median']:.3f} | {many['p99']:.3f} |"
        )
    return "\n".join(lines)
