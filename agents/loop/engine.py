"""Runs updates: one by one, or on a GPU recorded once and replayed.

An update is some hundred small operations (benchmarks/gpu.py counts them), each a kernel to launch; a CUDA graph
launches them all at once. Agents do not know of it: they keep the host's part of an update (begin_update) from the
device's (gradient_step), and tell by their `phase` which updates run the same operations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Protocol

import torch

from zoo.agents.core.batch import Batch
from zoo.agents.core.learner import Learner, Metrics

Work = Callable[[], Metrics]

WARM_UPS = 2  # runs of each kind of work before it is recorded: optimizers and libraries make their state in the first


class Recorder(Protocol):
    """What can record the operations of some work."""

    def warm_up(self, work: Work) -> Metrics:
        """Runs the work as it is, where it will be recorded."""
        ...

    def record(self, work: Work) -> tuple[Metrics, Callable[[], None]]:
        """Runs the work once. Returns its metrics, and what runs the same operations on the same tensors again."""
        ...


class Engine:
    """Every piece of work is run WARM_UPS times as it is, then recorded, from then on replayed.

    recorder: None runs everything as it is. The results are the same in either way. The first recording that fails is
    told of in a warning, and nothing is recorded after it. Metrics are the same tensors from replay to replay.
    """

    def __init__(self, agent: Learner, recorder: Recorder | None = None):
        self.agent = agent
        self.recorder = recorder
        self.runs: dict[Hashable, int] = {}
        self.records: dict[Hashable, tuple[Metrics, Callable[[], None]]] = {}
        self.batch: Batch | None = None  # where batches from outside lie

    @classmethod
    def of(cls, agent: Learner) -> Engine:
        """The engine for the agent's device: a GPU records, unless the agent says why it cannot be recorded."""
        if agent.device.type != "cuda":
            return cls(agent)
        if agent.uncapturable is not None:
            unrecorded(agent, agent.uncapturable)
            return cls(agent)
        return cls(agent, CudaGraphs([draws.generator for draws in agent.generators().values()]))

    def update(self, draw: Callable[[], Batch], resident: bool = True) -> Metrics:
        """One update of the agent on a batch of its own drawing.

        resident: the rows that it draws from stay where they are in the device's memory, and so does their number;
        then drawing is part of the record.
        """
        agent = self.agent
        agent.begin_update()
        if resident or self.recorder is None:
            return self.run(agent.phase(), lambda: agent.device_step(draw()))
        batch = self.place(draw())
        return self.run(agent.phase(), lambda: agent.device_step(batch))

    def run(self, kind: Hashable, work: Work) -> Metrics:
        """Runs the work, whose operations are the same whenever its kind is."""
        if self.recorder is None:
            return work()
        if kind in self.records:
            metrics, replay = self.records[kind]
            replay()
            return metrics
        self.runs[kind] = self.runs.get(kind, 0) + 1
        if self.runs[kind] <= WARM_UPS:
            return self.recorder.warm_up(work)
        try:
            self.records[kind] = self.recorder.record(work)
        except RuntimeError as error:
            unrecorded(self.agent, str(error))
            self.recorder = None
            return work()
        return self.records[kind][0]

    def place(self, batch: Batch) -> Batch:
        """A batch from outside, in tensors that stay the same from update to update."""
        if self.batch is None:
            columns = batch._asdict().items()
            self.batch = Batch(**{name: column.clone() for name, column in columns if column is not None})
        for place, column in zip(self.batch, batch, strict=True):
            if place is not None and column is not None:
                place.copy_(column)
        return self.batch


def unrecorded(agent: Learner, why: str) -> None:
    warnings.warn(f"{type(agent).__name__} trains without CUDA graphs: {why}", stacklevel=4)


class CudaGraphs:
    """Records with CUDA graphs, which share their memory. generators: all that the work draws from."""

    def __init__(self, generators: list[torch.Generator]):
        self.generators = generators
        self.stream = torch.cuda.Stream()
        self.memory = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> Metrics:
        """On a stream of its own, as recording is: what autograd keeps must not belong to the default one."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            metrics = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return metrics

    def record(self, work: Work) -> tuple[Metrics, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        # Other threads, such as a logger's, may go on using the GPU.
        with torch.cuda.graph(graph, pool=self.memory, stream=self.stream, capture_error_mode="thread_local"):
            metrics = work()
        graph.replay()  # recording alone computes nothing
        return metrics, graph.replay
