"""SPOT (arXiv 2202.06239): its density term, dropout, preparation and decay; golden case: test_parity.py."""

import numpy as np
import pytest
import torch
from torch import tensor

from tests.support.data import (
    OBS,
    FixedDraws,
    assert_same_state,
    changed,
    constant_,
    prepared,
    state,
    tiny,
    toy_batch,
    toy_dataset,
    whole,
)
from zoo.agents import SPOT, TD3BC
from zoo.agents.core.optim import minimize
from zoo.agents.core.presets import load_preset
from zoo.agents.core.replay import Table
from zoo.datasets.dataset import OfflineDataset
from zoo.policies import GaussianDensity


def agent(**settings) -> SPOT:
    return tiny(SPOT, dtype=torch.float64, **({"dropout": 0.0} | settings))


def gradients(net: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters()]


# Actor


def test_without_a_density_the_actor_climbs_the_normalised_q_of_td3():
    # TD3+BC with alpha = 1 pulls nowhere where the data's actions are the actor's own.
    spot, td3bc = agent(density_weight=0.0), tiny(TD3BC, dtype=torch.float64, alpha=1.0)
    td3bc.policy.load_state_dict(spot.policy.state_dict())
    batch = toy_batch(4)
    batch = batch._replace(actions=spot.actor(batch.observations).detach())
    for one in (spot, td3bc):
        one.actor_loss(batch)[0].backward()
    assert any(gradient.abs().max() > 0.0 for gradient in gradients(spot.actor))
    for mine, theirs in zip(gradients(spot.actor), gradients(td3bc.actor), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_the_density_adds_its_loss_at_the_actors_action_times_its_weight():
    weight, batch = 0.3, toy_batch(4)
    with_it, without = agent(density_weight=weight), agent(density_weight=0.0)
    z = torch.randn(4, 1, 4, dtype=torch.float64)
    losses = []
    for spot in (with_it, without):
        spot.draws = FixedDraws(z=z)
        losses.append(spot.actor_loss(batch)[0])
        losses[-1].backward()
    pi = with_it.actor(batch.observations)
    density = weight * with_it.density(batch.observations, pi, z).mean()
    assert (losses[0] - losses[1]).item() == pytest.approx(density.item(), rel=1e-9)
    theirs = torch.autograd.grad(density, list(with_it.actor.parameters()))
    for one, other, pull in zip(gradients(with_it.actor), gradients(without.actor), theirs, strict=True):
        torch.testing.assert_close(one - other, pull, rtol=1e-7, atol=1e-12)


def test_actor_loss_by_hand():
    spot = agent(density_weight=2.0, kl_weight=0.5)
    constant_(spot.actor.trunk, 0.8)  # pi = tanh(0.8) = 0.6640368
    constant_(spot.density.encoder, 0.0)  # the prior: no divergence
    constant_(spot.density.decoder, 0.0)  # reconstructs 0: error 0.6640368^2 = 0.4409449
    constant_(spot.critic.trunk, [-5.0, 1.0, 1.0])  # the first alone counts, by its sign
    loss, metrics = spot.actor_loss(toy_batch())
    assert metrics["actor/nll"].item() == pytest.approx(0.4409449, abs=1e-6)
    assert loss.item() == pytest.approx(1.0 + 2.0 * 0.4409449, abs=1e-6)


def test_actor_loss_ignores_the_scale_of_the_critic():
    spot = agent()
    losses = []
    for _ in range(2):
        spot.draws = FixedDraws(z=0.5)
        losses.append(spot.actor_loss(toy_batch())[0].item())
        with torch.no_grad():
            for parameter in spot.critic.trunk.linears[-1].parameters():
                parameter.mul_(7.0)
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


def test_an_actor_step_moves_the_actor_alone():
    spot = agent()
    before = state(spot)
    minimize(spot.actor_loss(toy_batch())[0], spot.optimizers["actor"])
    assert {".".join(name.split(".")[:2]) for name in changed(before, spot)} == {"state/policy.actor"}
    for net in (spot.density, spot.critic):
        assert all(parameter.grad is None for parameter in net.parameters())


def test_the_density_is_frozen_once_the_agent_learns():
    data = toy_dataset()
    spot = prepared(SPOT, data)
    before = state(spot)
    after = state(spot.learn_offline(data, 4))
    own = [name for name in before if "density" in name]
    assert any(name.startswith("optimizers/") for name in own)
    assert all(torch.equal(before[name], after[name]) for name in own)


# Preparation


def test_the_preparation_fits_the_density_and_nothing_else():
    data = toy_dataset()
    spot = tiny(SPOT, data, density_steps=3)
    before = state(spot)
    spot.learn_offline(data, 0)
    assert (spot.prepared, spot.updates, spot.num_timesteps) == (3, 0, 0)
    assert changed(before, spot) == {f"state/density.{name}" for name, _ in spot.density.named_parameters()}


def test_a_preparation_saved_in_its_middle_goes_on_bit_for_bit(tmp_path):
    data = toy_dataset()
    straight, half = (tiny(SPOT, data, density_steps=4) for _ in range(2))
    straight.learn_offline(data, 2)
    table = Table.of(data, half.layout, half.device, half.dtype)
    for _ in range(2):
        half.prepare(table)
        half.prepared += 1
    resumed = SPOT.load(half.save(tmp_path / "half"))
    assert resumed.prepared == 2
    assert_same_state(straight, resumed.learn_offline(data, 2))


@pytest.mark.parametrize("density", ["vae", "gaussian"])
def test_a_fitted_density_finds_the_datas_actions_likelier_than_others(density):
    rng = np.random.default_rng(0)
    side = rng.choice([-1.0, 1.0], 64)
    observations = np.repeat(side[:, None], OBS, axis=1)
    data = OfflineDataset.from_arrays(
        observations=observations,
        actions=np.stack([0.6 * side, rng.uniform(-0.1, 0.1, 64)], axis=-1),
        rewards=np.zeros(64),
        next_observations=observations,
        terminations=np.ones(64),
        truncations=np.zeros(64),
    )
    spot = tiny(SPOT, data, density=density, density_steps=120, density_lr=1e-2, batch_size=32).learn_offline(data, 0)
    rows = whole(data, spot)
    near, far = (
        spot.nll(spot.density, rows.observations, actions, spot.draws) for actions in (rows.actions, -rows.actions)
    )  # fmt: skip
    assert (far - near).min() > 0.1


def test_the_gaussian_density_is_an_option():
    assert isinstance(agent(density="gaussian").density, GaussianDensity)


# Dropout


def test_dropout_is_active_in_the_actors_loss_and_in_the_targets_action():
    spot = agent(dropout=0.25, target_noise=0.0)
    for actor in (spot.actor, spot.target_actor):
        with torch.no_grad():
            actor.trunk.linears[-1].bias.copy_(tensor([0.3, -0.2]))
    gone = {
        "dropout_0": 0.9,
        "dropout_1": 0.2,
        "target_dropout_0": 0.2,
        "target_dropout_1": 0.24,
    }  # below 0.25: dropped
    spot.draws = FixedDraws(**gone, z=0.0, target_noise=0.0)
    rows = toy_batch()
    expected = tensor([0.3, -0.2]).double().tanh().expand(2, 2)
    torch.testing.assert_close(spot.target_actions(rows.next_observations), expected, rtol=0.0, atol=1e-7)
    q = spot.critic.first(rows.observations, expected).mean().item()
    assert spot.actor_loss(rows)[1]["actor/q"].item() == pytest.approx(q, abs=1e-7)


def test_kept_units_are_scaled_so_that_their_mean_stays():
    spot = agent(dropout=0.2)
    masks = spot.dropout("dropout", torch.zeros(2000, OBS, dtype=torch.float64))
    assert [tuple(mask.shape) for mask in masks] == [(2000, 16), (2000, 16)]
    for mask in masks:
        assert mask.unique().tolist() == [0.0, 1.25]
        assert mask.mean().item() == pytest.approx(1.0, abs=0.015)  # deviation 0.0028
    assert not torch.equal(*masks)


def test_acting_and_exploring_have_no_dropout():
    with_it, without = agent(dropout=0.5, exploration_noise=0.0), agent(exploration_noise=0.0)
    assert not torch.equal(
        with_it.actor(toy_batch().observations, with_it.dropout("dropout", toy_batch().observations)),
        with_it.actor(toy_batch().observations),
    )
    observations = np.random.default_rng(0).normal(size=(5, OBS))
    actions = with_it.predict(observations)[0]
    assert np.array_equal(actions, with_it.predict(observations)[0])
    assert np.array_equal(actions, without.predict(observations)[0])
    rows = torch.as_tensor(observations)
    assert torch.equal(with_it.explore(rows), without.explore(rows))


def test_without_dropout_nothing_is_drawn_for_it():
    spot = agent()
    spot.draws = FixedDraws(z=0.0, target_noise=0.0)  # any other name would be a KeyError
    spot.actor_loss(toy_batch())
    spot.critic_loss(toy_batch())


# Online


@pytest.mark.parametrize(
    ("updates", "share"), [(0, 1.0), (500_000, 0.5), (800_000, 0.2), (1_000_000, 0.2), (5_000_000, 0.2)]
)
def test_the_density_fades_to_a_fifth_online(updates, share):
    spot = agent()
    spot.online_updates = updates
    assert spot.decay == 1.0  # offline
    spot.online = True
    assert spot.decay == pytest.approx(share)


def test_the_decay_acts_in_the_loss():
    spot = agent(density_weight=1.0, decay_steps=10)
    constant_(spot.critic.trunk, [1.0, 1.0, 1.0])
    losses = []
    for updates in (0, 5, 10):
        spot.online, spot.online_updates, spot.draws = True, updates, FixedDraws(z=0.5)
        spot.begin_update()
        losses.append(spot.actor_loss(toy_batch())[0].item() + 1.0)  # without the Q term, whose share is -1
    assert losses[1] == pytest.approx(0.5 * losses[0])
    assert losses[2] == pytest.approx(0.2 * losses[0])


def test_gamma_may_be_another_online():
    spot = agent(gamma=0.5, online_gamma=0.9)
    constant_(spot.critic.trunk, [0.0, 0.0, 0.0])
    constant_(spot.target_critic.trunk, [2.0, 2.0, 2.0])
    losses = []
    for online in (False, True):
        spot.online = online
        losses.append(spot.critic_loss(toy_batch())[0].item())
    # Targets 1 + 0.5 * 2 = 2 and 1 + 0.9 * 2 = 2.8; the terminated row's is 2. Three critics, two rows.
    assert losses == pytest.approx([3.0 * (4.0 + 4.0) / 2.0, 3.0 * (7.84 + 4.0) / 2.0])


# Settings


def test_small_last_layers_are_those_of_actor_and_critics_and_of_their_targets():
    for small in (True, False):
        spot = agent(last_layers="small" if small else "default")
        for net, target, bound in (
            (spot.actor, spot.target_actor, 1e-3),
            (spot.critic, spot.target_critic, 3e-3),
        ):
            last = net.trunk.linears[-1]
            assert (max(last.weight.abs().max(), last.bias.abs().max()) <= bound) == small
            assert net.trunk.linears[0].weight.abs().max() > 0.1
            assert torch.equal(last.weight, target.trunk.linears[-1].weight)


def test_presets_are_the_papers():
    def preset(name: str) -> SPOT.Config:
        return SPOT.Config.build(load_preset("SPOT", name))

    weights = {
        "halfcheetah-medium-v2": 0.05,
        "halfcheetah-medium-expert-v2": 1.0,
        "hopper-medium-replay-v2": 0.1,
        "hopper-medium-expert-v2": 0.2,
        "walker2d-medium-v2": 0.2,
        "walker2d-medium-expert-v2": 0.5,
        "antmaze-umaze-diverse-v2": 0.25,
        "antmaze-medium-play-v2": 0.05,
        "antmaze-medium-diverse-v2": 0.025,
        "antmaze-large-diverse-v2": 0.025,
    }
    assert {name: preset(name).density_weight for name in weights} == weights
    runner, maze = preset("hopper-medium-v2"), preset("antmaze-large-play-v2")
    assert (runner.dropout, runner.last_layers, runner.normalize_observations, runner.reward_shift) == (
        0.1,
        "default",
        True,
        0.0,
    )
    assert (maze.dropout, maze.last_layers, maze.normalize_observations, maze.reward_shift) == (
        0.0,
        "small",
        False,
        -1.0,
    )
    assert (runner.actor_lr, maze.actor_lr, maze.critic_lr) == (3e-4, 1e-4, 3e-4)
    assert (runner.density_hidden, runner.kl_weight, runner.density_lr) == ((750, 750), 0.5, 1e-3)
    assert (runner.density_steps, runner.latent_samples, runner.bound) == (100_000, 1, "elbo")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density_weight": -0.1}, "density_weight must be at least 0.0, got -0.1"),
        ({"dropout": 1.0}, r"dropout must be in \[0.0, 0.99\], got 1.0"),
        ({"last_layers": "tiny"}, "last_layers must be one of 'default', 'small', got 'tiny'"),
        ({"density": "flow"}, "density must be one of 'vae', 'gaussian', 'diffusion', got 'flow'"),
        ({"bound": "exact"}, "bound must be one of 'elbo', 'iwae', got 'exact'"),
        ({"latent_samples": 0}, "latent_samples must be at least 1, got 0"),
        ({"decay_floor": 1.5}, r"decay_floor must be in \[0.0, 1.0\], got 1.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        agent(**settings)
