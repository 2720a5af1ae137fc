"""ReBRAC (arXiv 2305.09836): what must hold of its two penalties, its networks and its data."""

import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import tensor

from tests.support.data import (
    LENGTH,
    FixedDraws,
    ToyEnv,
    changed,
    constant_,
    state,
    tiny,
    toy_batch,
    toy_dataset,
    whole,
)
from zoo.agents import TD3, TD3BC, Agent, Batch, ReBRAC
from zoo.agents.core.optim import minimize
from zoo.agents.core.presets import load_preset
from zoo.policies import LayerNorm


def agent(**settings) -> ReBRAC:
    return tiny(ReBRAC, dtype=torch.float64, **settings)


def rows(next_actions=((0.5, -0.5), (1.0, 1.0)), valid=(1.0, 1.0)) -> Batch:
    """Rewards 1 and 2, the second row terminated; squared distances to a next action of 0: 0.5 and 2."""
    columns = {"next_actions": next_actions, "next_action_valid": valid, "actions": ((1.0, 0.0), (0.5, -0.5))}
    return toy_batch()._replace(**{name: tensor(values).double() for name, values in columns.items()})


def fixed(**settings) -> ReBRAC:
    """Critics 1, 2, 0, targets 4, 6, 5, and both actors 0."""
    rebrac = agent(gamma=0.5, **settings)
    constant_(rebrac.critic.trunk, [1.0, 2.0, 0.0])
    constant_(rebrac.target_critic.trunk, [4.0, 6.0, 5.0])
    for actor in (rebrac.actor, rebrac.target_actor):
        constant_(actor.trunk, 0.0)
    rebrac.draws = FixedDraws(target_noise=0.0)
    return rebrac


def critic_loss(one: Agent, batch: Batch) -> float:
    return one.critic_loss(batch)[0].item()


# Critic


def test_critics_penalty_is_a_sum_over_dimensions_inside_the_discount():
    rebrac = fixed(critic_cloning=0.2)
    loss, metrics = rebrac.critic_loss(rows())
    # Targets 1 + 0.5 * (4 - 0.2 * 0.5) = 2.95 and, terminated, 2. Critics: (1.95^2 + 1) / 2 = 2.40125,
    # (0.95^2 + 0) / 2 = 0.45125, (2.95^2 + 4) / 2 = 6.35125.
    assert loss.item() == pytest.approx(9.20375)
    assert metrics["critic/cloning"].item() == pytest.approx(1.25)  # (0.5 + 2) / 2


def test_a_terminated_row_has_no_penalty_whatever_its_next_action():
    rebrac = fixed(critic_cloning=0.2)
    elsewhere = rows(next_actions=((0.5, -0.5), (-1.0, 0.3)))
    assert critic_loss(rebrac, elsewhere) == pytest.approx(9.20375)


@pytest.mark.parametrize(("valid", "expected"), [((1.0, 0.0), 9.20375), ((0.0, 1.0), 9.5), ((0.0, 0.0), 9.5)])
def test_a_row_without_a_next_action_has_no_penalty(valid, expected):
    # Without it the first target is 1 + 0.5 * 4 = 3: (4 + 1) / 2 + (1 + 0) / 2 + (9 + 4) / 2 = 9.5.
    assert critic_loss(fixed(critic_cloning=0.2), rows(valid=valid)) == pytest.approx(expected)


def test_the_penalty_is_at_the_smoothed_target_action():
    rebrac = fixed(critic_cloning=0.2, target_noise=0.2)
    rebrac.draws = FixedDraws(target_noise=tensor([[2.0, -1.0]]))  # a' = (0.4, -0.2)
    assert critic_loss(rebrac, rows(next_actions=((0.4, -0.2), (1.0, 1.0)))) == pytest.approx(9.5)
    # At the target actor's own action, 0, the distance is now 0.4^2 + 0.2^2 = 0.2: target 1 + 0.5 * 3.96 = 2.98.
    expected = (1.98**2 + 1.0 + 0.98**2 + 2.98**2 + 4.0) / 2.0
    assert critic_loss(rebrac, rows(next_actions=((0.0, 0.0), (1.0, 1.0)))) == pytest.approx(expected)


def test_without_its_weight_the_critic_loss_is_td3s():
    rebrac = agent(critic_cloning=0.0, critic_norm="none")
    td3 = tiny(TD3, dtype=torch.float64, actor_hidden=(16, 16), critic_norm="none")
    td3.load_state_dict(rebrac.state_dict())
    losses = []
    for one in (rebrac, td3):
        one.draws = FixedDraws(target_noise=0.5)
        losses.append(critic_loss(one, rows()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    penalised = agent(critic_cloning=1.0, critic_norm="none")  # equal seeds, so equal weights
    penalised.draws = FixedDraws(target_noise=0.5)
    assert abs(critic_loss(penalised, rows()) - losses[0]) > 1e-3


def test_critic_loss_leaves_the_actor_and_the_targets_without_gradient():
    rebrac = agent()
    rebrac.critic_loss(rows())[0].backward()
    others = [*rebrac.actor.parameters(), *rebrac.target_actor.parameters(), *rebrac.target_critic.parameters()]
    assert all(parameter.grad is None for parameter in others)


# Actor


def test_actors_penalty_is_a_sum_over_dimensions():
    rebrac = fixed(actor_cloning=0.4)
    constant_(rebrac.critic.trunk, [3.0, 1.0, 2.0])
    loss, metrics = rebrac.actor_loss(rows())
    # |0 - a|^2 is 1 and 0.5, on average 0.75; the least critic over its own magnitude is 1. 0.4 * 0.75 - 1 = -0.7.
    assert loss.item() == pytest.approx(-0.7)
    assert (metrics["actor/bc"].item(), metrics["actor/q"].item()) == pytest.approx((0.75, 1.0))


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0, -1.0, 2.0], 1.3), ([-1.0, 3.0, 2.0], 1.3), ([3.0, 1.0, 2.0], -0.7)]
)
def test_actor_takes_the_least_critic_whichever_it_is(values, expected):
    rebrac = fixed(actor_cloning=0.4)
    constant_(rebrac.critic.trunk, values)
    assert rebrac.actor_loss(rows())[0].item() == pytest.approx(expected)  # 0.3 minus the sign of the least


def test_the_least_critic_is_taken_row_by_row():
    rebrac, batch = agent(), toy_batch(50)
    torch.nn.init.normal_(rebrac.critic.trunk.linears[-1].weight, generator=torch.Generator().manual_seed(0))
    qs = rebrac.critic(batch.observations, rebrac.actor(batch.observations))
    assert len(set(qs.argmin(-2).tolist())) > 1  # not one critic everywhere
    assert rebrac.actor_loss(batch)[1]["actor/q"].item() == pytest.approx(
        sum(map(min, zip(*qs.tolist(), strict=True))) / 50
    )


def test_actor_loss_and_its_gradient_ignore_the_scale_of_the_critics():
    rebrac, batch = agent(actor_cloning=0.01), toy_batch()
    results = []
    for _ in range(2):
        loss = rebrac.actor_loss(batch)[0]
        results.append([loss, *torch.autograd.grad(loss, list(rebrac.actor.parameters()))])
        with torch.no_grad():
            for parameter in rebrac.critic.trunk.linears[-1].parameters():
                parameter.mul_(1000.0)
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12)


def test_with_one_critic_the_actors_gradient_is_td3bcs_in_other_units():
    # beta_1 * sum over 2 dimensions is 2 * beta_1 times TD3+BC's mean: alpha = 1 / (2 * beta_1).
    plain = {"n_critics": 1, "critic_norm": "none"}
    rebrac = agent(actor_cloning=0.05, **plain)
    td3bc = tiny(TD3BC, dtype=torch.float64, alpha=10.0, **plain)
    td3bc.load_state_dict(rebrac.state_dict())
    mine, theirs = (
        torch.autograd.grad(one.actor_loss(toy_batch())[0], list(one.actor.parameters())) for one in (rebrac, td3bc)
    )
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, 0.1 * other, rtol=1e-9, atol=1e-12)


def test_actor_step_leaves_the_critics_untouched():
    rebrac = agent()
    before = state(rebrac)
    minimize(rebrac.actor_loss(toy_batch())[0], rebrac.optimizers["actor"])
    assert {name.split(".")[1] for name in changed(before, rebrac)} == {"actor"}


def test_each_weight_acts_on_its_own_network():
    data = toy_dataset()
    plain = tiny(ReBRAC, data, dtype=torch.float64).learn_offline(data, 1)
    for setting, nets in (("actor_cloning", set()), ("critic_cloning", {"critic"})):  # the first actor step is later
        other = tiny(ReBRAC, data, dtype=torch.float64, **{setting: 0.7}).learn_offline(data, 1)
        assert {name.split(".")[1] for name in changed(state(plain), other)} == nets


# Data


def test_next_actions_are_the_next_rows_own_in_the_units_of_the_networks():
    data = toy_dataset()
    batch = whole(data, tiny(ReBRAC, data))
    valid = batch.next_action_valid
    assert (valid == 0.0).nonzero().flatten().tolist() == list(range(LENGTH - 1, 210, LENGTH))  # the episodes' ends
    inside = valid[:-1] == 1.0
    assert torch.equal(batch.next_actions[:-1][inside], batch.actions[1:][inside])
    assert not (batch.next_actions[:-1] == batch.actions[1:])[~inside].any()  # nothing of the next episode
    assert batch.next_actions.abs().max() <= 1.0 + 1e-6
    assert (batch.next_actions.amax(0) > 0.95).all()
    assert (batch.next_actions.amin(0) < -0.95).all()


@pytest.mark.parametrize("envs", [1, 2])
def test_a_transition_collected_online_has_a_next_action_once_it_is_taken(envs):
    data = toy_dataset()
    rebrac = tiny(ReBRAC, data)
    newest: list[float] = []
    rebrac.gradient_step = lambda batch: newest.extend(rebrac.replay.column("next_action_valid")[-envs:].tolist()) or {}
    rebrac.finetune_online(DummyVecEnv([ToyEnv] * envs), (LENGTH + 3) * envs, dataset=data)
    valid, actions, following = (
        rebrac.replay.column(name).unflatten(0, (-1, envs)) for name in ("next_action_valid", "actions", "next_actions")
    )
    whole_episode, begun = [1.0] * (LENGTH - 1) + [0.0], [1.0, 1.0, 0.0]
    assert valid.T.tolist() == [whole_episode + begun] * envs
    assert torch.equal(following[:-1][valid[:-1] == 1.0], actions[1:][valid[:-1] == 1.0])
    assert set(newest) == {0.0}


def test_observations_are_not_normalised():
    data = toy_dataset()
    assert torch.equal(whole(data, tiny(ReBRAC, data)).observations, torch.from_numpy(data.observations.copy()))


# Networks and presets


def test_networks_are_three_layers_with_biases_of_a_tenth_and_small_last_layers():
    rebrac = ReBRAC(toy_dataset(), device="cpu")
    for network, last in ((rebrac.actor, 1e-3), (rebrac.critic, 3e-3)):
        *hidden, output = network.trunk.linears
        assert [linear.bias.shape[-1] for linear in hidden] == [256, 256, 256]
        for linear in hidden:
            assert (linear.bias == 0.1).all()
            size = linear.weight.abs().max().item() * linear.weight.shape[-2] ** 0.5  # uniform in +-1/sqrt(inputs)
            assert 0.98 < size <= 1.0 + 1e-6
        assert 0.9 * last < output.weight.abs().max().item() <= last
        assert 0.0 < output.bias.abs().max().item() <= last
    assert rebrac.critic.trunk.norm == rebrac.target_critic.trunk.norm == "after"
    assert len(rebrac.actor.trunk.norms) == 0
    for network, target in ((rebrac.actor, rebrac.target_actor), (rebrac.critic, rebrac.target_critic)):
        for name, value in network.state_dict().items():
            assert torch.equal(value, target.state_dict()[name])


def test_layernorm_adds_a_millionth_to_the_variance():
    rebrac = agent(critic_hidden=(2,), n_critics=1)
    x = tensor([[[1e-3, -1e-3]]]).double()  # variance 1e-6: 1e-3 / sqrt(2e-6) = 0.7071068
    for critic in (rebrac.critic, rebrac.target_critic):
        (norm,) = critic.trunk.norms
        torch.testing.assert_close(norm(x), tensor([[[0.7071068, -0.7071068]]]).double(), rtol=0.0, atol=1e-6)


def test_loading_keeps_the_layernorms_constant(tmp_path):
    loaded = ReBRAC.load(agent(actor_norm="before").save(tmp_path / "rebrac"))
    norms = [module.eps for module in loaded.modules() if isinstance(module, LayerNorm)]
    assert norms == [1e-6] * 8  # two layers each of two actors and two critics


def test_presets_are_the_papers():
    def preset(name: str) -> tuple:
        names = ("actor_cloning", "critic_cloning", "batch_size", "actor_lr", "critic_lr", "gamma", "reward_scale")
        config = ReBRAC.Config.build(load_preset("ReBRAC", name))
        return tuple(getattr(config, field) for field in names)

    assert preset("halfcheetah-medium-v2") == (0.001, 0.01, 1024, 1e-3, 1e-3, 0.99, 1.0)
    assert preset("hopper-medium-replay-v2") == (0.05, 0.5, 1024, 1e-3, 1e-3, 0.99, 1.0)
    assert preset("walker2d-random-v2") == (0.01, 0.0, 1024, 1e-3, 1e-3, 0.99, 1.0)
    assert preset("antmaze-umaze-v2") == (0.003, 0.002, 256, 3e-4, 5e-5, 0.999, 100.0)
    assert preset("pen-human-v1") == (0.1, 0.5, 256, 3e-4, 3e-4, 0.99, 1.0)
    assert preset("maze2d-large-v1") == (0.003, 0.001, 256, 3e-4, 3e-4, 0.99, 1.0)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"critic_cloning must be at least 0\.0, got -0\.1"):
        agent(critic_cloning=-0.1)
