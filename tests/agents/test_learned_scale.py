"""The learned scale on four agents (arXiv 2508.19900, appendix D): its closed form against finite differences."""

import pytest
import torch
from torch import Tensor

from tests.support.data import MemberOf, Recorder, assert_same_state, constant_, tiny, toy_dataset
from zoo.agents import ASPC, CQL, CQLSA, FQL, IQL, Agent, DiffusionQL
from zoo.agents.shared.learned_scale import through_clipping

WARM = 6  # updates, so that Adam's moments are
H = 1e-4  # of the finite differences, in float64
OWN: dict[str, tuple[type[Agent], dict]] = {
    "IQL": (IQL, {"max_weight": 1.2, "return_range": None}),  # so that some weights are at their bound
    "IQL, deterministic": (IQL, {"policy": "deterministic", "temperature": 1.0}),
    "CQL": (CQL, {"cql_alpha": 0.7, "n_critics": 2}),
    "DiffusionQL": (DiffusionQL, {"gradient_clip": 1e3}),
    "DiffusionQL, clipped": (DiffusionQL, {"gradient_clip": 0.05}),
    "FQL": (FQL, {"alpha": 0.5, "normalize_q": True}),
}
EVERY = pytest.mark.parametrize("name", OWN)
AGENTS = pytest.mark.parametrize("name", ["IQL", "CQL", "DiffusionQL", "FQL"])


@pytest.fixture(scope="module")
def data():
    return toy_dataset()


def make(name: str, data, **settings) -> Agent:
    cls, own = OWN[name]
    learned = {} if "scale" in settings else {"scale": "learned"}
    return tiny(cls, data, dtype=torch.float64, **(own | learned | settings))


class Watched:
    """The update of an agent in which its scale is due, with raw moved by `shift` before it and kept after it."""

    def __init__(self, name: str, data, shift: float = 0.0, **settings):
        self.agent = agent = make(name, data, scale_interval=WARM + 1, **settings)
        agent.learn_offline(data, WARM)
        scale = agent.scale
        with torch.no_grad():
            scale.raw += shift
        scale.optimizer.descend = lambda: None
        inner = scale.minimize

        def minimize(loss: Tensor, optimizer, score, max_norm=None):
            before = score()[1].detach()
            self.loss = loss.detach()
            metrics = inner(loss, optimizer, score, max_norm)
            self.parameters = [p.detach().clone() for p in optimizer.parameters]
            l1, mean_q, *_ = score()
            self.scores = torch.autograd.grad(l1 + (mean_q - before).square(), optimizer.parameters)
            return metrics

        scale.minimize = minimize
        log = {}
        agent.learn_offline(data, 1, callback=lambda local, _: log.update(local))
        self.gradient = scale.raw.grad


@EVERY
def test_the_gradient_of_the_scale_is_that_of_finite_differences_through_the_step(name, data):
    base, up, down = (Watched(name, data, shift) for shift in (0.0, H, -H))
    moved = [(high - low) / (2.0 * H) for high, low in zip(up.parameters, down.parameters, strict=True)]
    expected = sum((score * slope).sum() for score, slope in zip(base.scores, moved, strict=True))
    assert expected.abs() > 1e-9
    torch.testing.assert_close(base.gradient, expected, rtol=1e-4, atol=1e-11)


def test_the_bound_of_the_weights_is_reached_by_some_and_not_by_all(data):
    """Or the case of IQL above would not be about it."""
    agent = make("IQL", data).learn_offline(data, WARM)
    batch = agent.sample(agent.offline_table(data))
    weights = agent.weights(agent.advantage(batch, agent.data_q(batch)))
    assert 0 < (weights == weights.max()).sum() < len(weights)


def test_a_clipped_gradient_changes_by_its_direction_alone():
    """By hand: g = (3, 4), h = (1, 0), norm 5 to 1. d (g / |g|) = (h - g (g.h) / 25) / 5 = (0.128, -0.096)."""
    gradients, slopes = [torch.tensor([3.0, 4.0]).double()], [torch.tensor([1.0, 0.0]).double()]
    (found,) = through_clipping(gradients, slopes, 1.0, 0)
    torch.testing.assert_close(found, torch.tensor([0.128, -0.096]).double(), rtol=1e-5, atol=0.0)
    (unclipped,) = through_clipping(gradients, slopes, 6.0, 0)
    assert torch.equal(unclipped, slopes[0])


def last_metrics(agent: Agent, data, updates: int) -> dict[str, Tensor]:
    table = agent.offline_table(data)
    for _ in range(updates):
        metrics = agent.update(agent.sample(table))
    return metrics


@AGENTS
def test_critics_that_do_not_care_leave_the_constraint_and_no_change_of_q(name, data):
    """Their normalised Q is 1 wherever the step goes: L1 is the constraint less alpha, or alpha * penalty less 1."""
    agent = make(name, data, scale_interval=1, critic_lr=1e-30)
    for critic in (agent.critic, agent.target_critic):
        constant_(critic.trunk, 5.0)
    alpha = agent.scale.alpha.item()
    metrics = last_metrics(agent, data, 1)
    assert metrics["scale/value"].item() == pytest.approx(alpha)
    assert metrics["scale/l2"].item() == pytest.approx(0.0, abs=1e-20)
    if name == "CQL":
        penalty = 2.0 * metrics["critic/gap"].item()  # of two critics
        assert metrics["scale/l1"].item() == pytest.approx(alpha * penalty - 1.0)
    elif name == "IQL":
        assert metrics["scale/l1"].item() + alpha == pytest.approx(metrics["actor/error"].item(), abs=0.1)
    else:  # the step of one learning rate changed the constraint a little
        assert metrics["scale/l1"].item() + alpha == pytest.approx(metrics["actor/bc"].item(), abs=0.1)


@AGENTS
def test_the_scale_moves_when_it_is_due_by_a_rate_that_falls_and_begins_at_the_agents_setting(name, data):
    agent = make(name, data, scale_interval=5, scale_steps=20)
    start = {"IQL": 3.0, "CQL": 0.7, "DiffusionQL": 1.0, "FQL": 2.0}[name]  # 1 / temperature; 1 / alpha
    assert agent.scale.alpha.item() == pytest.approx(start)
    table, moves = agent.offline_table(data), []
    for update in range(1, 31):
        before = agent.scale.raw.item()
        agent.update(agent.sample(table))
        moves.append(agent.scale.raw.item() - before)
        assert (moves[-1] != 0.0) == (update % 5 == 0)
    # Adam's first step is its rate, 2e-3 * 5 / 10; after 20 updates, 4 steps, it is a hundredth of that.
    assert abs(moves[4]) == pytest.approx(1e-3, rel=1e-2)
    assert abs(moves[24]) <= 1.01e-5 * 3.2
    assert agent.scale.optimizer.rate.item() == pytest.approx(1e-5)


@pytest.mark.parametrize("name", ["IQL", "DiffusionQL"])  # CQL draws in another order, FQL's weight is another term's
def test_a_learned_scale_that_does_not_move_is_the_fixed_one(name, data):
    agents = [make(name, data, scale=kind, scale_interval=2, scale_lr=1e-30) for kind in ("fixed", "learned")]
    fixed, learned = (dict(agent.learn_offline(data, 8).named_parameters()) for agent in agents)
    for key, value in fixed.items():
        torch.testing.assert_close(value, learned[key], rtol=0.0, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}")


@AGENTS
@pytest.mark.parametrize("kind", ["learned", "linear"])
def test_learning_resumes_bit_for_bit(name, kind, data, tmp_path):
    settings = {"scale": kind, "scale_interval": 3, "scale_steps": 20}
    settings |= {"scale_end": 4.0} if kind == "linear" else {}
    straight = make(name, data, **settings).learn_offline(data, 10)
    half = make(name, data, **settings).learn_offline(data, 5)
    resumed = type(half).load(half.save(tmp_path / "half")).learn_offline(data, 5)
    assert_same_state(straight, resumed)
    assert torch.equal(straight.scale.alpha, resumed.scale.alpha)


@AGENTS
def test_members_have_scales_of_their_own(name, data):
    field = {"IQL": "temperature", "CQL": "cql_alpha", "DiffusionQL": "eta", "FQL": "alpha"}[name]
    crowd = make(name, data, population=2, scale_interval=2, **{field: (0.5, 2.0)})
    alone = [crowd.member(i) for i in range(2)]
    recorders = {stream: Recorder(draws) for stream, draws in crowd.generators().items()}
    for stream, recorder in recorders.items():
        setattr(crowd, stream, recorder)
    crowd.learn_offline(data, 6)
    for i, agent in enumerate(alone):
        for stream, recorder in recorders.items():
            setattr(agent, stream, MemberOf(recorder, i))
        agent.learn_offline(data, 6)
        torch.testing.assert_close(agent.scale.alpha, crowd.scale.alpha[i], rtol=0.0, atol=1e-9)


@AGENTS
def test_a_linear_scale_goes_from_its_start_to_its_end(name, data):
    agent = make(name, data, scale="linear", scale_end=5.0, scale_steps=4)
    start = {"IQL": 3.0, "CQL": 0.7, "DiffusionQL": 1.0, "FQL": 2.0}[name]
    table, seen = agent.offline_table(data), []
    for _ in range(6):
        seen.append(agent.update(agent.sample(table))["scale/value"].item())
    assert seen == pytest.approx([start + (5.0 - start) * k / 4 for k in (0, 1, 2, 3, 4, 4)])


def test_aspcs_own_baselines_a_line_and_a_frozen_scale(data):
    linear = tiny(ASPC, data, dtype=torch.float64, alpha_end=10.5, alpha_lr_steps=4, policy_delay=1)
    table = linear.offline_table(data)
    seen = [linear.update(linear.sample(table))["alpha/value"].item() for _ in range(6)]
    assert seen == pytest.approx([2.5, 4.5, 6.5, 8.5, 10.5, 10.5])
    frozen = tiny(ASPC, data, alpha=1.5, alpha_lr=0.0).learn_offline(data, 8)
    assert frozen.alpha.item() == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (IQL, {"scale": "linear"}, "scale_end is where scale='linear' ends: got None"),
        (IQL, {"scale_end": 2.0}, "got 2.0 with scale='fixed'"),
        (IQL, {"scale": "learned", "weights": "softmax"}, "is of exponential weights, got weights='softmax'"),
        (CQL, {"scale": "learned", "target_gap": 5.0}, "both set the penalty's weight"),
        (CQL, {"scale": "learned", "cql_alpha": 0.0}, "must be above 0"),
        (CQLSA, {"scale": "learned"}, "CQLSA learns its weight by state"),
        (FQL, {"scale": "learned", "normalize_q": False}, "give normalize_q=True"),
    ],
)
def test_settings_that_cannot_be_are_refused(cls, settings, message, data):
    with pytest.raises(ValueError, match=message):
        tiny(cls, data, **settings)
