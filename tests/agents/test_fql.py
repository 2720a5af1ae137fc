"""FQL: whole updates against numbers recorded from the official code, in float64, and its flow by hand."""

import pytest
import torch
from torch import Tensor

from tests.support.data import ACT, OBS, constant_, tiny, toy_batch, toy_dataset
from tests.support.golden import Case, RecordedDraws, cases
from zoo.agents import FQL
from zoo.policies import VelocityField

OTHER_SIZES = pytest.mark.filterwarnings("ignore:FQL. the preset .* is for")  # than the preset's data have
NAMES = {"next_noise": "next_action_xi", "flow_start": "flow_x0", "flow_time": "t", "policy_noise": "distill_xi"}


class Named(RecordedDraws):
    """The source's draws under our names."""

    def normal(self, name: str, like: Tensor) -> Tensor:
        return super().normal(NAMES[name], like)

    uniform = normal


def build(case: Case) -> FQL:
    """The preset of a dataset, antmaze-umaze, and what the case says that it changed."""
    h = case.hyper
    agent = FQL(
        case.spec(),
        dtype=torch.float64,
        preset="antmaze-umaze",
        actor_hidden=case.hidden("actor"),
        critic_hidden=case.hidden("critic/0"),
        reward_shift=0.0,
        q_aggregate=h["q_agg"],
        normalize_q=h["normalize_q_loss"],
        alpha=h["alpha"],
    )
    c = agent.config
    assert (c.gamma, c.tau, c.actor_lr, c.critic_lr) == (h["discount"], h["tau"], h["lr"], h["lr"])
    assert (c.flow_steps, c.n_critics, agent.critic.trunk.norms[0].eps) == (10, 2, h["layer_norm_eps"])
    return agent


@OTHER_SIZES
@pytest.mark.parametrize("name", cases("fql*"))
def test_losses_gradients_and_parameters_are_those_recorded(name):
    case = Case(name)
    agent, batch = build(case), case.batch()
    networks = {
        "critic": (agent.critic.trunk, True),
        "critic_target": (agent.target_critic.trunk, True),
        "actor": (agent.actor.trunk, False),
        "flow": (agent.flow.trunk, False),
    }
    for net, (mlp, ensemble) in networks.items():
        mlp.load_state_dict(case.network("params", net, mlp, ensemble))
    for step in range(1, case.hyper["updates"] + 1):
        agent.draws = Named(case, step)
        metrics = agent.update(batch)
        here = f"expected/step{step}"
        # The source's loss of the actor holds the flow's too.
        both = metrics["actor/loss"] + metrics["flow/loss"]
        torch.testing.assert_close(both, case.arrays[f"{here}/actor_loss"], **case.tolerance)
        for ours, theirs in {"flow/loss": "bc_flow", "actor/bc": "distill", "critic/loss": "critic"}.items():
            torch.testing.assert_close(metrics[ours], case.arrays[f"{here}/{theirs}_loss"], **case.tolerance)
        for net, (mlp, ensemble) in networks.items():
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(
                    parameter.detach(), after[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
                )


@OTHER_SIZES
def test_the_gradients_of_the_first_update_are_those_recorded():
    case = Case("fql")
    agent = build(case)
    networks = {"actor": (agent.actor.trunk, False), "flow": (agent.flow.trunk, False)}
    networks |= {"critic": (agent.critic.trunk, True), "critic_target": (agent.target_critic.trunk, True)}
    for net, (mlp, ensemble) in networks.items():
        mlp.load_state_dict(case.network("params", net, mlp, ensemble))
    agent.draws = Named(case, 1)
    agent.update(case.batch())
    for net in ("actor", "flow", "critic"):
        mlp, ensemble = networks[net]
        expected = case.network("expected/step1/grad/total_loss", net, mlp, ensemble)
        for key, parameter in mlp.named_parameters():
            torch.testing.assert_close(
                parameter.grad, expected[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
            )


class Constant(VelocityField):
    """The same velocity everywhere."""

    def forward(self, observations: Tensor, x: Tensor, time: Tensor) -> Tensor:
        assert time.unique().numel() == 1
        self.times.append(time[0, 0].item())
        return torch.tensor([0.5, -4.0]).expand(x.shape)


def test_a_constant_velocity_carries_noise_by_itself_and_is_clipped_at_the_end():
    flow = Constant(OBS, ACT, (4,))
    flow.times = []
    noise = torch.tensor([[0.1, 3.5], [0.2, 2.9]])  # outside the box on the way, inside it at the end
    made = flow.integrate(torch.zeros(2, OBS), noise, 10)
    torch.testing.assert_close(made, torch.tensor([[0.6, -0.5], [0.7, -1.0]]), rtol=0.0, atol=1e-5)
    assert flow.times == pytest.approx([k / 10 for k in range(10)])


def test_the_exact_velocity_of_one_known_action_has_no_loss():
    agent = tiny(FQL, dtype=torch.float64)
    batch = toy_batch(8)
    agent.flow.forward = lambda observations, x, time: (batch.actions - x) / (1.0 - time)
    assert agent.flow_loss(batch)[0].item() == pytest.approx(0.0, abs=1e-20)


def test_no_gradient_of_q_or_of_the_distance_reaches_the_flow():
    agent = tiny(FQL, dtype=torch.float64)
    batch = toy_batch(8)
    agent.actor_loss(batch, *agent.lesson(batch))[0].backward()
    assert all(p.grad is None for p in agent.flow.parameters())
    assert all(p.grad is not None for p in agent.actor.parameters())


def test_the_critics_do_not_move_to_please_the_actor():
    one, other = (tiny(FQL, alpha=alpha) for alpha in (0.1, 100.0))
    for agent in (one, other):
        agent.update(agent.normalize(agent.layout.unpack(agent.offline_table(toy_dataset()).rows)))
    assert all(torch.equal(p, q) for p, q in zip(one.critic.parameters(), other.critic.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(one.flow.parameters(), other.flow.parameters(), strict=True))
    assert not torch.equal(one.actor.trunk.linears[0].weight, other.actor.trunk.linears[0].weight)


def test_the_pull_of_the_flow_grows_with_alpha_and_that_of_the_critics_does_not():
    gradients = {}
    for alpha in (1.0, 2.0, 3.0):
        agent = tiny(FQL, dtype=torch.float64, alpha=alpha)
        batch = toy_batch(8)
        agent.actor_loss(batch, *agent.lesson(batch))[0].backward()
        gradients[alpha] = agent.actor.trunk.linears[0].weight.grad
    torch.testing.assert_close(gradients[3.0] - gradients[2.0], gradients[2.0] - gradients[1.0])
    assert (gradients[2.0] - gradients[1.0]).abs().sum() > 0.0


def test_online_another_alpha_may_hold():
    agent = tiny(FQL, alpha=30.0, online_alpha=3.0)
    assert agent.alpha == 30.0
    agent.online = True
    assert agent.alpha == 3.0


def test_the_critics_see_the_clipped_action_and_the_flow_the_unclipped_one():
    agent = tiny(FQL, dtype=torch.float64, alpha=1.0)
    constant_(agent.actor.trunk, 5.0)
    batch, edge = toy_batch(4), torch.ones(4, ACT, dtype=torch.float64)
    _, q, distance = agent.actor_loss(batch, torch.zeros_like(edge), edge)
    assert distance.item() == pytest.approx(16.0)  # (5 - 1)^2
    assert q.item() == pytest.approx(agent.critic(batch.observations, edge).mean().item())
