"""DiffusionQL: whole updates against numbers recorded from the official code, in float64, and its chain by hand."""

import math

import pytest
import torch
from torch import Tensor

from tests.support.data import ACT, OBS, constant_, tiny, toy_batch, toy_dataset
from tests.support.golden import PARTS, Case, RecordedDraws, cases
from zoo.agents import DiffusionQL
from zoo.policies import DiffusionActor, final_uniform_

OTHER_SIZES = pytest.mark.filterwarnings("ignore:DiffusionQL. the preset .* is for")  # than the preset's data have
LAYERS = {"trunk": ("mid0", "mid1", "mid2", "final"), "time": ("time0", "time1")}


class Chains(RecordedDraws):
    """The source's draws under our names: a chain's noise in one tensor, the coin as an order of the critics."""

    def normal(self, name: str, like: Tensor) -> Tensor:
        theirs = {"next_noise": "next", "policy_noise": "pi"}.get(name)
        if theirs is None:
            return super().normal("bc_xi", like)
        steps = ("init", "step4", "step3", "step2", "step1")  # at step 0 the source draws and does not use it
        return torch.cat([self.draws[f"{theirs}_{step}"] for step in steps], dim=-1).reshape(like.shape)

    def indices(self, name: str, shape: tuple[int, ...], below: int) -> Tensor:
        return super().indices("t", shape, below)

    def subset(self, name: str, lead: tuple[int, ...], size: int, of: int) -> Tensor:
        return torch.tensor([0, 1] if self.draws["q_choice"] > 0.5 else [1, 0])


def build(case: Case) -> DiffusionQL:
    """The preset of a dataset, hopper-medium, and what the case says that it changed of the published settings."""
    h, width = case.hyper, case.info["dimensions"]["H"]
    agent = DiffusionQL(
        case.spec(),
        dtype=torch.float64,
        preset="hopper-medium",
        actor_hidden=(width,) * 3,
        critic_hidden=(width,) * 3,
        actor_lr=h["lr"],
        gradient_clip=h["grad_norm"],
        max_backup=h["max_q_backup"],
        actor_target_start=h["step_start_ema"],
        actor_target_delay=h["update_ema_every"],
    )
    c = agent.config
    assert (c.gamma, c.tau, c.eta, c.critic_lr) == (h["discount"], h["tau"], h["eta"], h["critic_lr"])
    assert (c.diffusion_steps, c.backup_actions) == (h["n_timesteps"], h["max_q_samples"])
    assert 1.0 - c.actor_tau == pytest.approx(h["ema_decay"])
    return agent


def stored(case: Case, where: str, net: str) -> dict[str, Tensor]:
    """A diffusion model's tensors, as a DiffusionActor has them."""
    return {
        f"{mlp}.linears.{k}.{part}": tensor.mT if part == "weight" else tensor
        for mlp, layers in LAYERS.items()
        for k, layer in enumerate(layers)
        for part in PARTS
        for tensor in [case.arrays[f"{where}/{net}/{layer}/{part}"]]
    }


def check(case: Case, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], **case.tolerance, msg=lambda m, n=name: f"{n}: {m}")


@OTHER_SIZES
@pytest.mark.parametrize("name", cases("diffusion_ql*"))
def test_losses_gradients_and_parameters_are_those_recorded(name):
    case = Case(name)
    agent, batch = build(case), case.batch()
    actors = {"actor": agent.actor, "actor_ema": agent.target_actor}
    critics = {"critic": agent.critic.trunk, "critic_target": agent.target_critic.trunk}
    for net, actor in actors.items():
        actor.load_state_dict(stored(case, "params", net))
    for net, mlp in critics.items():
        mlp.load_state_dict(case.network("params", net, mlp, True))
    for step in range(1, case.hyper["updates"] + 1):
        agent.draws = Chains(case, step)
        metrics = agent.update(batch)
        here = f"expected/step{step}"
        for ours, theirs in {"actor/loss": "actor_loss", "actor/bc": "bc_loss", "critic/loss": "critic_loss"}.items():
            torch.testing.assert_close(metrics[ours], case.arrays[f"{here}/{theirs}"], **case.tolerance)
        check(case, dict(agent.actor.named_parameters()), stored(case, f"after{step}", "actor"))
        check(case, dict(agent.target_actor.named_parameters()), stored(case, f"after{step}", "actor_ema"))
        for net, mlp in critics.items():
            check(case, dict(mlp.named_parameters()), case.network(f"after{step}", net, mlp, True))


@OTHER_SIZES
@pytest.mark.parametrize("name", cases("diffusion_ql*"))
def test_the_gradients_of_the_first_losses_are_those_recorded(name):
    case = Case(name)
    agent, batch = build(case), case.batch()
    agent.actor.load_state_dict(stored(case, "params", "actor"))
    agent.target_actor.load_state_dict(stored(case, "params", "actor_ema"))
    for net, mlp in (("critic", agent.critic.trunk), ("critic_target", agent.target_critic.trunk)):
        mlp.load_state_dict(case.network("params", net, mlp, True))
    agent.draws = Chains(case, 1)
    loss, _ = agent.critic_loss(batch)
    loss.backward()
    mlp = agent.critic.trunk
    check(
        case,
        {name: p.grad for name, p in mlp.named_parameters()},
        case.network("expected/step1/grad/critic_loss", "critic", mlp, True),
    )
    agent.critic.trunk.load_state_dict(case.network("after1", "critic", mlp, True))  # the actor sees the new ones
    loss, *_ = agent.actor_loss(batch, agent.drawn(batch))
    loss.backward()
    check(
        case,
        {name: p.grad for name, p in agent.actor.named_parameters()},
        stored(case, "expected/step1/grad/actor_loss", "actor"),
    )


def test_the_schedule_and_the_embedding_of_the_steps_are_those_recorded():
    case = Case("diffusion_ql")
    expected = {key.rsplit("/", 1)[1]: v for key, v in case.arrays.items() if key.startswith("expected/schedule/")}
    actor = DiffusionActor(OBS, ACT, steps=5).double()
    bars = torch.tensor(actor.alpha_bars, dtype=torch.float64)
    torch.testing.assert_close(bars, expected["alphas_cumprod"], rtol=1e-12, atol=0.0)
    torch.testing.assert_close(1.0 - torch.tensor(actor.alphas).double(), expected["betas"], rtol=1e-6, atol=0.0)
    torch.testing.assert_close(actor.frequencies, expected["time_embedding"], rtol=1e-6, atol=1e-6)  # made in float32


class Oracle(DiffusionActor):
    """Knows the noise of every noisy action: that which leads to one known action."""

    def __init__(self, action: Tensor):
        super().__init__(OBS, ACT)
        self.known = action

    def generate(self, observations: Tensor, noise: Tensor) -> Tensor:
        self.step = self.steps
        return super().generate(observations, noise)

    def _noise(self, x: Tensor, time: Tensor, observations: Tensor) -> Tensor:
        self.step -= 1
        bar = self.alpha_bars[self.step]
        return (x - math.sqrt(bar) * self.known) / math.sqrt(1.0 - bar)


def test_a_model_that_knows_the_noise_denoises_to_the_action():
    action = torch.tensor([0.3, -0.7])
    made = Oracle(action).sample(
        torch.zeros(6, OBS), torch.randn(6, 5 * ACT, generator=torch.Generator().manual_seed(0))
    )
    torch.testing.assert_close(made, action.expand(6, ACT), rtol=0.0, atol=1e-6)


def test_every_step_of_the_chain_hands_its_gradient_to_the_network():
    actor = DiffusionActor(OBS, ACT, (16, 16, 16))
    final_uniform_(actor.trunk, 1e-3)  # so that no step reaches its clamp
    seen: list[Tensor] = []
    inner = actor._noise

    def kept(*inputs: Tensor) -> Tensor:
        seen.append(inner(*inputs))
        seen[-1].retain_grad()
        return seen[-1]

    actor._noise = kept
    actor.sample(torch.ones(4, OBS), torch.zeros(4, 5 * ACT)).sum().backward()
    assert len(seen) == 5
    assert all(out.grad.abs().sum() > 0.0 for out in seen)


def test_max_backup_is_never_below_the_plain_target():
    agent = tiny(DiffusionQL, dtype=torch.float64, max_backup=True, backup_actions=6)
    batch, drawn = toy_batch(4), {}

    def targets(**settings) -> Tensor:
        object.__setattr__(agent.config, "max_backup", settings["max_backup"])
        constant_(agent.critic.trunk, 0.0)  # so that the loss is made of the target alone
        return agent.critic_loss(batch)[1]["critic/loss"]

    class Same:
        def normal(self, name: str, like: Tensor) -> Tensor:
            drawn.setdefault(name, torch.randn(4, 6, like.shape[-1], dtype=like.dtype))
            return drawn[name][:, : like.shape[1]]

    agent.draws = Same()
    constant_(agent.target_critic.trunk, 50.0)
    same = targets(max_backup=False)
    torch.testing.assert_close(targets(max_backup=True), same)  # critics that do not mind have no best action
    torch.manual_seed(0)
    for linear in agent.target_critic.trunk.linears:
        linear.weight.data.normal_()
    assert targets(max_backup=True) > targets(max_backup=False)


def test_the_slow_actor_waits_and_then_moves_at_its_own_pace():
    agent = tiny(DiffusionQL, actor_target_start=3, actor_target_delay=2)
    data, moved = toy_dataset(), []
    for _ in range(8):
        before = [p.clone() for p in agent.target_actor.parameters()]
        agent.learn_offline(data, 1)
        moved.append(any(not torch.equal(p, q) for p, q in zip(before, agent.target_actor.parameters(), strict=True)))
    assert moved == [False, False, False, False, True, False, True, False]  # after 4 and 6 updates


@OTHER_SIZES
def test_rewards_are_normalised_by_the_data_where_the_preset_says_so():
    data = toy_dataset()
    agent = tiny(DiffusionQL, data, preset="pen-human")
    batch = agent.normalize(agent.layout.unpack(agent.offline_table(data).rows))
    scaled = agent.scaled_rewards(batch)
    assert agent.config.normalize_rewards
    assert scaled.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert scaled.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
