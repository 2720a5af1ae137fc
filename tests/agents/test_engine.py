"""Updates that are recorded and replayed, against the same updates one by one."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.data import LEARNING_ONLINE, ToyEnv, assert_same_state, tiny, toy_dataset
from tests.support.tape import Tape
from zoo.agents import AGENTS, CQL, CQLSA, TD3, TD3BC, Agent, car
from zoo.agents.core import compute, learner
from zoo.agents.core.draws import Draws
from zoo.agents.core.replay import Table
from zoo.agents.loop.engine import WARM_UPS, CudaGraphs, Engine
from zoo.datasets.dataset import OfflineDataset
from zoo.policies import Policy

UPDATES = 100
EVERY = pytest.mark.parametrize("cls", AGENTS.values(), ids=AGENTS)
# Whatever changes while an agent trains: a learning rate, a warm-up, spectral norms, rates of each member.
VARIANTS = {
    "plain": {},
    "phases": {"warmup_steps": 50, "n_interval": 20, "alpha_interval": 5, "policy_delay": 3},
    "schedules": {"cosine_steps": 60, "alpha_lr_steps": 60},
    "population": {"population": 2, "actor_lr": (1e-2, 1e-3), "tau": (0.005, 0.05)},
    "residual": {"critic_network": "residual", "critic_norm": "none"},
    "learned scale": {"scale": "learned", "scale_interval": 5, "scale_steps": 60, "normalize_q": True},
    "linear scale": {"scale": "linear", "scale_end": 3.0, "scale_steps": 60, "normalize_q": True},
    "measured": {"eps_ood": None, "warmup_steps": 90},
}
CASES = [
    pytest.param(cls, variant, id=f"{cls.__name__}-{variant}")
    for cls in AGENTS.values()
    for variant, settings in VARIANTS.items()
    if not settings or set(settings) & set(cls.Config.names())  # it changes something of the agent
    if not (cls is CQLSA and "scale" in settings)  # its weight is one for each state
]


def build(cls: type[Agent], data: OfflineDataset, variant: str, **others) -> Agent:
    own = {name: value for name, value in VARIANTS[variant].items() if name in (*cls.Config.names(), "population")}
    return tiny(cls, data, **own, **others)


def trained(agent: Agent, engine: Engine, data: OfflineDataset, updates: int = UPDATES, resident: bool = True) -> dict:
    """The metrics of its last update, after the agent's preparation and so many updates by the engine."""
    table = Table.of(data, agent.layout, agent.device, agent.dtype)
    while agent.prepared < agent.preparation_steps:
        engine.run("preparation", lambda: agent.prepare(table))
        agent.prepared += 1
    agent.annotate(table, data)
    metrics = {}
    for _ in range(updates):
        metrics |= engine.update(lambda: agent.sample(table), resident)
    return {name: value.cpu().numpy() for name, value in metrics.items()}


@pytest.mark.parametrize(("cls", "variant"), CASES)
def test_a_recorded_update_is_the_update(cls, variant):
    data, tape = toy_dataset(), Tape()
    one_by_one, recorded = build(cls, data, variant), build(cls, data, variant)
    expected = trained(one_by_one, Engine(one_by_one), data)
    found = trained(recorded, Engine(recorded, tape), data)
    assert tape.replayed > UPDATES / 2
    assert_same_state(one_by_one, recorded)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("cls", LEARNING_ONLINE.values(), ids=LEARNING_ONLINE)
def test_a_whole_run_offline_and_online_is_the_same_recorded(cls, monkeypatch):
    data, tapes, agents = toy_dataset(), [], []

    def taped(cls, agent):
        tapes.append(Tape())
        return cls(agent, tapes[-1])

    annealed = {name: 20 for name in ("anneal_steps", "decay_steps") if name in cls.Config.names()}
    for recorded in (False, True):
        if recorded:
            monkeypatch.setattr(Engine, "of", classmethod(taped))
        agents.append(tiny(cls, data, **annealed))
        agents[-1].learn_offline(data, 20).finetune_online(ToyEnv(), 30, dataset=data)
    assert tapes[-1].replayed > 20  # the online ones
    assert_same_state(*agents)


def test_every_phase_has_its_own_record_after_the_warm_ups():
    data, tape = toy_dataset(), Tape()
    agent = tiny(TD3, data, policy_delay=2, target_delay=3)  # due: neither, the actor, the targets, both
    trained(agent, Engine(agent, tape), data, updates=60)
    assert tape.recorded == 4
    assert tape.replayed == 60 - 4 * (WARM_UPS + 1)


@pytest.mark.parametrize("cls", [TD3BC, CQL])
def test_batches_from_outside_are_put_where_the_record_expects_them(cls):
    data, tape = toy_dataset(), Tape()
    one_by_one, recorded = tiny(cls, data), tiny(cls, data)
    trained(one_by_one, Engine(one_by_one), data)
    trained(recorded, Engine(recorded, tape), data, resident=False)
    assert tape.replayed > UPDATES / 2
    assert_same_state(one_by_one, recorded)


# What must not be recorded


class Frozen(TD3):
    """A schedule in plain numbers, inside the step: a record keeps the first one."""

    def gradient_step(self, batch):
        self.optimizers["critic"].param_groups[0]["lr"] = 1e-3 / self.updates
        return super().gradient_step(batch)


class Waiting(TD3):
    """A step that reads a value."""

    def gradient_step(self, batch):
        metrics = super().gradient_step(batch)
        assert metrics["critic/loss"].item() >= 0.0
        return metrics


class Reluctant(TD3):
    uncapturable = "its paper asks the host"


def test_the_tape_tells_a_record_that_depends_on_the_host():
    data = toy_dataset()
    one_by_one, recorded = tiny(Frozen, data), tiny(Frozen, data)
    trained(one_by_one, Engine(one_by_one), data, updates=10)
    trained(recorded, Engine(recorded, Tape()), data, updates=10)
    with pytest.raises(AssertionError):
        assert_same_state(one_by_one, recorded)


def test_a_step_that_waits_for_the_device_runs_unrecorded_and_says_why():
    data = toy_dataset()
    agent = tiny(Waiting, data)
    engine = Engine(agent, Tape())
    with pytest.warns(UserWarning, match=r"Waiting trains without CUDA graphs.*reads a value on the host"):
        trained(agent, engine, data, updates=10)
    assert engine.recorder is None
    assert agent.updates == 10


def test_an_agent_that_cannot_be_recorded_says_why_and_one_on_a_cpu_has_nothing_to_say(recwarn):
    agent = tiny(Reluctant)
    assert Engine.of(agent).recorder is None
    assert not recwarn
    agent.device = torch.device("cuda")
    with pytest.warns(UserWarning, match="Reluctant trains without CUDA graphs.*its paper asks the host"):
        assert Engine.of(agent).recorder is None


class Abstract(Draws):
    """Draws on torch's meta device, which has shapes and no numbers."""

    def __init__(self, seed: int, device: torch.device):
        self.generator, self.device = torch.Generator(), device

    def normal(self, name, like):
        return torch.empty(like.shape, dtype=like.dtype, device=self.device)

    uniform = normal

    def subset(self, name, lead, size, of):
        return torch.empty(*lead, size, dtype=torch.long, device=self.device)

    def indices(self, name, shape, below):
        return torch.empty(shape, dtype=torch.long, device=self.device)


class OnDevice(TorchDispatchMode):
    """Refuses tensors of the host, also single numbers, whose value a record would keep."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        found = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor) and t.device.type != "meta"]
        assert not found, f"{func} takes or makes a tensor on the host: {found}"
        return out


@EVERY
@pytest.mark.parametrize("population", [None, 2])
def test_an_update_lies_on_its_device_and_asks_no_value_of_it(cls, population, monkeypatch):
    monkeypatch.setattr(learner, "Draws", Abstract)
    monkeypatch.setattr(car, "Draws", Abstract)
    monkeypatch.setattr(compute, "choose_device", torch.device)  # which refuses devices without numbers
    monkeypatch.setattr(Policy, "constant", [])  # which numbers would tell, once, where an agent is made
    monkeypatch.setattr(torch, "_fused_adam_", lambda *args, **kwargs: None)  # has no shapes of its own
    rates = {} if population is None else {"actor_lr": (1e-2, 1e-3)}
    data = toy_dataset()
    agent = tiny(cls, data, population=population, device="meta", **rates)
    table = Table.of(data, agent.layout, agent.device, agent.dtype)
    for online in (False, True):
        agent.online = online
        for _ in range(6):
            agent.online_updates += online
            agent.begin_update()
            with OnDevice():
                agent.device_step(agent.sample(table))
    if agent.preparation_steps:
        with OnDevice():
            agent.prepare(table)


# With a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("cls", "variant"), CASES)
def test_cuda_graphs_are_the_updates(cls, variant):
    data, on_gpu = toy_dataset(), {"device": "cuda", "dtype": torch.float64}
    one_by_one, recorded = build(cls, data, variant, **on_gpu), build(cls, data, variant, **on_gpu)
    engine = Engine.of(recorded)
    expected = trained(one_by_one, Engine(one_by_one), data)
    found = trained(recorded, engine, data)
    assert isinstance(engine.recorder, CudaGraphs)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-8, err_msg=name)
