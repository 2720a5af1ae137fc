"""A trained agent as ONNX files: its policy traced once, cut into graphs and compared with torch.

actor.onnx   obs (batch, O) -> actions (batch, A): the actor's own action; a generative one's at noise of zeros.
critic.onnx  obs (batch, O), actions (batch, A) -> q (batch,): the critics' one opinion, where it has critics.
policy.onnx  what agent.predict does. With evaluation samples: obs (batch, O), noise (batch, samples, N), standard
             normal -> actions (batch, A). With one it is the actor's graph; but a generative actor, which has no
             action without noise, takes it for one candidate too, and the critics are not in the graph. N is the
             numbers that a candidate is made of: A, or A for each step of a diffusion model's chain.
golden.npz   a batch of inputs and torch's outputs for it.
report.json  how far onnxruntime is from torch.
contract.json, CARD.md  what a robot and its people must know; see contract.py and bundle.py.

Everything is float32. Observations and actions are in the units of the environment: normaliser and box are inside.
"""

import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.export.description import Description
from zoo.policies import Policy, folded

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper
    from onnx.utils import Extractor

    from zoo.export.bundle import add_contract, golden_file, place
    from zoo.export.contract import Stated, whole_contract
    from zoo.export.leapp import dialect
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"export needs {missing.name}: pip install 'offline-agent-zoo[export]'") from missing

OPSET = 18  # the oldest that torch's exporter writes without converting
IR_VERSION = 8  # the one that came with opset 18, so onnxruntime from 1.14 (2023) on reads the files
TOLERANCE = 1e-5
BATCHES = (1, 7, 256)  # sizes at which onnxruntime is compared with torch
GOLDEN = 7  # the one of them that is traced and kept
OTHER_SAMPLES = 3  # a number of candidates at which the golden batch is compared too, for that dimension is free

Inputs = dict[str, Tensor]  # obs (B, O), actions (B, A), noise (B, M, N); B rows each


@dataclasses.dataclass(frozen=True)
class Graph:
    """A method of Policy, and the names that its inputs and its output have in the file."""

    method: str
    inputs: tuple[str, ...]
    output: str


ACTOR = Graph("forward", ("obs",), "actions")
CRITIC = Graph("evaluate", ("obs", "actions"), "q")
SEARCH = Graph("search", ("obs", "noise"), "actions")


class ExportError(RuntimeError):
    """The files would not do what the agent does; the message has the numbers."""


def export_onnx(
    policy: Policy,
    about: Description,
    directory: str | os.PathLike,
    evaluation_samples: int | None = None,
    contract: Stated | None = None,
    scores: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Writes the files above into `directory`, all of them or none, over older ones. Returns the directory.

    about: what the contract says of the policy, see export/description.py.
    evaluation_samples: overrides the description's. Above one, the number of candidates is a free dimension of
    policy.onnx, and this is the number that the runtime takes by default. The policy is left as it is.
    contract: what you know of the robot, a TOML file or a mapping, see export/contract.py.
    scores: known evaluations of the policy as it is, for the contract and the card, each with environment, episodes,
    mean and interval (low, high).
    Nothing is kept before onnxruntime has agreed with torch on random inputs spread as the data: actions to 1e-5 of
    the half box, q to 1e-5 of 1 + max|q|. Raises ExportError where it does not, ValueError for a contract that does not
    fit the policy.
    """
    directory = Path(directory)
    samples = about.evaluation_samples if evaluation_samples is None else evaluation_samples
    if samples < 1:
        raise ValueError(f"evaluation_samples must be at least 1, got {samples}")
    if samples > 1 and not policy.has_critics:
        raise ValueError(f"{about.agent} has no critics to choose of {samples} candidates: give evaluation_samples=1")
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; export_onnx needs the name of a directory")

    searching = samples > 1 or policy.generative
    graphs = {"actor": ACTOR, "critic": CRITIC, "policy": SEARCH if searching else ACTOR}
    if not policy.has_critics:
        del graphs["critic"]
    policy = folded(policy).to("cpu", torch.float32).eval().requires_grad_(False)
    methods = Methods(policy, tuple(dict.fromkeys(graphs.values())))
    generator = torch.Generator().manual_seed(0)
    batches = [draw(policy, size, samples, generator) for size in BATCHES]
    golden = batches[BATCHES.index(GOLDEN)]
    if samples > 1:
        batches.append(draw(policy, GOLDEN, OTHER_SAMPLES, generator))
    stated = whole_contract(policy, about, samples, contract, scores) | file_format()

    traced = trace(methods, golden)
    files, report = {}, {"tolerance": TOLERANCE, "batches": list(BATCHES)}
    for name, graph in graphs.items():
        model = cut(traced, graph, golden)
        helper.set_model_props(
            model, {"zoo": json.dumps(stated | describe_graph(name, graph, samples), allow_nan=False)} | dialect(stated)
        )
        onnx.checker.check_model(model)
        files[f"{name}.onnx"] = model.SerializeToString()
        report[name] = compare(name, graph, files[f"{name}.onnx"], policy, batches)
    files["report.json"] = json.dumps(report, indent=2).encode()
    files["golden.npz"] = golden_file(golden_vectors(policy, graphs, golden))
    place(directory, add_contract(files, stated, report))
    return directory


class Methods(nn.Module):
    """Several methods of a policy in one pass, so that the exporter runs once for all files."""

    def __init__(self, policy: Policy, graphs: Sequence[Graph]):
        super().__init__()
        self.policy = policy
        self.graphs = graphs

    def forward(self, obs: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        batch = {"obs": obs, "actions": actions, "noise": noise}
        return tuple(call(self.policy, graph, batch) for graph in self.graphs)


def call(policy: Policy, graph: Graph, batch: Inputs) -> Tensor:
    method: Callable[..., Tensor] = getattr(policy, graph.method)
    return method(*(batch[name] for name in graph.inputs))


def draw(policy: Policy, size: int, samples: int, generator: torch.Generator) -> Inputs:
    """Random inputs: observations normal with the policy's own statistics, actions uniform in the box."""
    (observation_size,), (action_size,) = policy.observation_mean.shape, policy.action_center.shape
    spread = torch.randn(size, observation_size, generator=generator)
    return {
        "obs": policy.observation_mean + policy.observation_std * spread,
        "actions": policy.scale_actions(2.0 * torch.rand(size, action_size, generator=generator) - 1.0),
        "noise": torch.randn(size, samples, policy.noise_size, generator=generator),
    }


def trace(methods: Methods, batch: Inputs) -> onnx.ModelProto:
    """One model with every method's output, named after the method.

    The batch size stays free, and so does the number of candidates; torch fixes it where the example has one alone.
    """
    free = {name: {0: torch.export.Dim("batch")} for name in batch}
    if batch["noise"].shape[1] > 1:
        free["noise"] |= {1: torch.export.Dim("samples")}
    with quiet_exporter(), torch.no_grad():
        # Exported here and not by torch.onnx.export, which would fix the batch size rather than fail.
        program = torch.export.export(methods, tuple(batch.values()), dynamic_shapes=tuple(free.values()))
        exported = torch.onnx.export(
            program,
            input_names=list(batch),
            output_names=[graph.method for graph in methods.graphs],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:
        start = {attribute.name: attribute.i for attribute in node.attribute}.get("start", 0)
        if node.op_type == "Shape" and node.input[0] in batch and start == 0:
            node.input[0] = "obs"  # asks for the batch size, which all inputs share, but not all graphs have them
    return model


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter warns of torchvision, which we never use, and of its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def cut(traced: onnx.ModelProto, graph: Graph, batch: Inputs) -> onnx.ModelProto:
    """The part of the traced model that computes one method, under the names of the file."""
    part = Extractor(traced).extract_model(list(graph.inputs), [graph.method]).graph
    for node in part.node:
        for names in (node.input, node.output):
            names[:] = [graph.output if name == graph.method else name for name in names]
        del node.metadata_props[:]  # the exporter's notes: traces of the source, with this machine's folders
    shapes: dict[str, tuple[str | int, ...]] = {n: ("batch", *tensor.shape[1:]) for n, tensor in batch.items()}
    samples, size = batch["noise"].shape[1:]
    shapes |= {"q": ("batch",), "noise": ("batch", "samples" if samples > 1 else 1, size)}
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names]
        for names in (graph.inputs, (graph.output,))
    )
    body = helper.make_graph(part.node, graph.method, inputs, outputs, part.initializer)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION, producer_name="offline-agent-zoo")


def file_format() -> dict[str, Any]:
    """What the contract says of all files together."""
    return {"opset": OPSET, "ir_version": IR_VERSION, "check": {"tolerance": TOLERANCE, "batches": BATCHES}}


def describe_graph(name: str, graph: Graph, samples: int) -> dict[str, Any]:
    """What a file adds to the contract under its metadata key "zoo"."""
    return {
        "graph": name,
        "inputs": graph.inputs,
        "outputs": [graph.output],
        "evaluation_samples": samples if graph is SEARCH else 1,
    }


def describe(policy: Policy, about: Description, name: str, graph: Graph, samples: int) -> dict[str, Any]:
    """What the file of a graph says of itself and its policy, where nothing is stated of the robot."""
    return whole_contract(policy, about, samples, None, None) | file_format() | describe_graph(name, graph, samples)


def compare(name: str, graph: Graph, content: bytes, policy: Policy, batches: Sequence[Inputs]) -> dict[str, float]:
    """The largest difference between onnxruntime and torch over all batches, relative as export_onnx says.

    Where rounding decides between two candidates of evaluation sampling, choosing the other one counts as a flip and
    not as a difference. Raises ExportError above the tolerance.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest, flips = 0.0, 0
    for batch in batches:
        expected = call(policy, graph, batch)
        if not expected.isfinite().all():
            raise ExportError(f"the agent's own {graph.output} for {name}.onnx are not finite: training has diverged")
        found = torch.from_numpy(session.run([graph.output], {n: batch[n].numpy() for n in graph.inputs})[0])
        relative = relative_q(found, expected) if graph is CRITIC else relative_actions(policy, found, expected)  # (B,)
        if graph is SEARCH:
            flipped = (relative > TOLERANCE) & tied(policy, batch, found, expected)
            relative = relative.masked_fill(flipped, 0.0)
            flips += int(flipped.sum())
        wrong = ~(relative <= TOLERANCE)  # NaN too
        if wrong.any():
            raise ExportError(
                f"{name}.onnx differs from the agent by up to {relative.max():.3g} in {graph.output}, in "
                f"{int(wrong.sum())} of {len(wrong)} rows; {TOLERANCE:g} is allowed. Nothing was written"
            )
        largest = max(largest, float(relative.max()))
    return {"largest_difference": largest} | (
        {"flips": flips, "rows": sum(len(batch["obs"]) for batch in batches)} if graph is SEARCH else {}
    )


def relative_actions(policy: Policy, found: Tensor, expected: Tensor) -> Tensor:
    """The largest difference along the last axis, in half boxes: (..., A) -> (...)."""
    return ((found - expected) / policy.action_half_range).abs().amax(-1)


def relative_q(found: Tensor, expected: Tensor) -> Tensor:
    """|found - expected| / (1 + max|expected|), (B,): values may be in the ten thousands."""
    return (found - expected).abs() / (1.0 + expected.abs().max())


def tied(policy: Policy, batch: Inputs, found: Tensor, expected: Tensor) -> Tensor:
    """Whether the found actions (B, A) are candidates that torch scores like the expected ones; (B,)."""
    normalized = policy.normalize_observations(batch["obs"])
    actor: Any = policy.actor
    candidates = policy.scale_actions(actor.candidates(normalized, batch["noise"]))  # (B, M, A)
    is_candidate = relative_actions(policy, found.unsqueeze(-2), candidates).amin(-1) <= TOLERANCE
    q_found, q_expected = (policy.evaluate(batch["obs"], actions) for actions in (found, expected))
    return is_candidate & (relative_q(q_found, q_expected) <= TOLERANCE)


def golden_vectors(policy: Policy, graphs: dict[str, Graph], batch: Inputs) -> dict[str, Any]:
    """The inputs obs, actions and noise that the graphs take, and torch's actor_actions, q and policy_actions."""
    used = {name for graph in graphs.values() for name in graph.inputs}
    vectors: dict[str, Any] = {name: batch[name].numpy() for name in batch if name in used}
    outputs = {"actor": "actor_actions", "critic": "q", "policy": "policy_actions"}
    for name, graph in graphs.items():
        vectors[outputs[name]] = call(policy, graph, batch).numpy()
    return vectors
