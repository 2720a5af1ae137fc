"""CAR: the invariants that its paper implies, its phases, its memory and its tools."""

import csv
from collections import deque

import numpy as np
import pytest
import torch
from torch import tensor

from tests.support.data import (
    ACT,
    BOX,
    HIGH,
    LENGTH,
    LOW,
    OBS,
    FixedDraws,
    ToyEnv,
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
from zoo.agents import CAR, SPOT
from zoo.agents.core.presets import load_preset
from zoo.agents.shared.proposals import Proposals
from zoo.datasets.dataset import OfflineDataset
from zoo.evaluation.callbacks import ReferenceReturn

ALL, NONE = float("inf"), -1.0  # thresholds: the VAE's loss is never negative
ROWS = 210  # of the toy dataset


def agent(**settings) -> CAR:
    """Past its warm-up at its first update, with every proposal accepted."""
    return tiny(CAR, dtype=torch.float64, **({"warmup_steps": 0, "eps_ood": ALL, "dropout": 0.0} | settings))


def numbered(*ids: int) -> torch.Tensor:
    """Rows of width 2 that carry their number."""
    return tensor(ids).double().unsqueeze(-1).expand(len(ids), 2)


def memory(capacity: int, lead: tuple[int, ...] = ()) -> Proposals:
    return Proposals(capacity, 2, lead, torch.zeros((), dtype=torch.float64))


def held(proposals: Proposals) -> list[int]:
    """The numbers of the rows that a memory holds, sorted."""
    return sorted(proposals.rows[: int(proposals.size), 0].long().tolist())


# The memory


@pytest.mark.parametrize("capacity", [8, 11, 29])
def test_the_memory_keeps_the_newest_accepted_rows_as_a_deque_does(capacity):
    proposals, theirs = memory(capacity), deque(maxlen=capacity)
    rng = np.random.default_rng(0)
    for step in range(12):
        ids, accepted = np.arange(8 * step, 8 * step + 8), rng.random(8) < 0.6
        proposals.append(numbered(*ids), torch.from_numpy(accepted))
        theirs.extend(ids[accepted].tolist())
        assert held(proposals) == sorted(theirs)
        assert proposals.size == len(theirs)
    assert len(theirs) == capacity  # it did overflow


def test_rows_go_around_the_end_in_their_order():
    proposals = memory(4)
    proposals.append(numbered(1, 2, 3), torch.ones(3, dtype=torch.bool))
    proposals.append(numbered(4, 5, 6), tensor([True, False, True]))
    assert proposals.rows[:4, 0].tolist() == [6.0, 2.0, 3.0, 4.0]
    assert (proposals.size, proposals.count) == (4, 5)


def test_nothing_accepted_changes_nothing():
    proposals = memory(4)
    proposals.append(numbered(1, 2), torch.zeros(2, dtype=torch.bool))
    assert proposals.size == 0
    assert proposals.rows[:4].abs().max() == 0.0
    assert proposals.gather(tensor([0.0, 0.99]).double()).tolist() == [[0.0, 0.0]] * 2


def test_gather_reaches_every_filled_row_equally_and_no_other():
    proposals = memory(10)
    proposals.append(numbered(1, 2, 3, 4, 5), tensor([True, True, False, True, True]))
    fractions = torch.arange(0.0, 1.0, 1.0 / 4000).double()
    numbers, counts = proposals.gather(fractions)[:, 0].unique(return_counts=True)
    assert numbers.tolist() == [1.0, 2.0, 4.0, 5.0]
    assert counts.tolist() == [1000] * 4
    largest = torch.nextafter(torch.ones(1), torch.zeros(1)).double()
    assert proposals.gather(largest)[0, 0] == 5.0


def test_members_have_memories_of_their_own():
    proposals = memory(3, (2,))
    rows = torch.stack([numbered(1, 2, 3), numbered(7, 8, 9)])
    proposals.append(rows, tensor([[True, False, True], [False, False, True]]))
    proposals.append(rows, tensor([[True, True, True], [False, False, False]]))
    assert proposals.size.tolist() == [3, 1]
    assert sorted(proposals.rows[0, :3, 0].tolist()) == [1.0, 2.0, 3.0]
    assert proposals.gather(tensor([[0.0, 0.9], [0.0, 0.9]]).double())[1, :, 0].tolist() == [9.0, 9.0]


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"rows": torch.zeros(2, 2)},
        {"rows": torch.zeros(2, 3), "count": torch.tensor(2)},  # another width
        {"rows": torch.zeros(5, 2), "count": torch.tensor(5)},  # more than fit
        {"rows": torch.zeros(2, 2), "count": torch.tensor([2, 2])},  # of a population
    ],
)
def test_tensors_of_another_memory_are_refused(tensors):
    with pytest.raises(ValueError, match="proposals"):
        memory(4).restore(tensors)


# Against SPOT


def test_without_proposals_and_with_a_still_reference_car_is_spot_bit_for_bit():
    data = toy_dataset()
    shared = {"density_steps": 3, "actor_lr": 1e-3, "critic_lr": 1e-3, "dropout": 0.1}
    spot = tiny(SPOT, data, **shared).learn_offline(data, 6)
    car = tiny(CAR, data, warmup_steps=0, eps_ood=NONE, reference_lr=1e-30, **shared).learn_offline(data, 6)
    mine, theirs = state(car), state(spot)
    for name, value in theirs.items():
        assert torch.equal(mine[name], value), name
    assert car.proposals.size == 0
    assert all(torch.equal(p, q) for p, q in zip(car.reference.parameters(), spot.density.parameters(), strict=True))


def test_the_reference_leads_away_from_spot():
    data = toy_dataset()
    cars = [tiny(CAR, data, warmup_steps=0, density_steps=3, eps_ood=eps).learn_offline(data, 8) for eps in (NONE, ALL)]
    assert not torch.equal(*[car.actor.trunk.linears[0].weight for car in cars])


# Acceptance


def test_with_an_infinite_threshold_the_memory_grows_by_a_batch_for_each_actor_step_up_to_its_capacity():
    data = toy_dataset()
    car = tiny(CAR, data, warmup_steps=2, eps_ood=ALL, capacity=0.2)  # 42 rows
    counts = []
    for _ in range(10):
        car.learn_offline(data, 1)
        counts.append(int(car.proposals.size))
    assert counts == [0, 0, 0, 16, 16, 32, 32, 42, 42, 42]
    assert car.proposals.count == 64


@pytest.mark.parametrize("eps_ood", [0.0, NONE])
def test_a_threshold_of_zero_or_less_accepts_nothing(eps_ood):
    data = toy_dataset()
    car = tiny(CAR, data, eps_ood=eps_ood).learn_offline(data, 8)
    assert car.proposals.count == 0


def test_more_is_accepted_up_to_a_larger_threshold_and_exactly_what_is_not_above_it():
    car, batch = agent(), toy_batch(64)
    pi, z = batch.actions, torch.randn(64, 1, 2 * ACT, dtype=torch.float64)
    car.proposing = FixedDraws(z=z)
    with torch.no_grad():
        nll = car.density(batch.observations, pi, z)
    values = nll.sort().values
    accepted = []
    for threshold in (values[0] - 1e-9, values[0], values[31], values[62], values[63]):
        car.eps_ood.copy_(threshold)
        before = int(car.proposals.count)
        metrics = car.propose(batch, pi)
        accepted.append(int(car.proposals.count) - before)
        assert metrics["proposals/accepted"].item() == accepted[-1] / 64
    assert accepted == [0, 1, 32, 63, 64]
    newest = car.proposals.rows[int(car.proposals.count) - 64 : int(car.proposals.count)]
    assert torch.equal(newest, torch.cat([batch.observations, pi], dim=-1))


def test_what_is_kept_is_the_normalised_observation_and_the_action_of_before_the_actors_step():
    car, batch = agent(actor_lr=0.1), toy_batch(16)
    car.updates = 1
    pi = car.actor(batch.observations).detach()
    car.update(batch)
    assert torch.equal(car.proposals.rows[:16], torch.cat([batch.observations, pi], dim=-1))
    assert not torch.equal(car.actor(batch.observations), pi)
    assert not car.proposals.rows.requires_grad


def test_the_verifier_draws_from_a_stream_of_its_own():
    car = agent()
    before = car.draws.generator.get_state()
    car.propose(toy_batch(16), toy_batch(16).actions)
    car.fit_reference(toy_batch(16))
    assert torch.equal(car.draws.generator.get_state(), before)


# The threshold that is measured


@pytest.mark.parametrize("density", ["vae", "gaussian", "diffusion"])
def test_the_measured_threshold_accepts_about_its_share_of_the_data(density):
    data = toy_dataset()
    settings = {"density_steps": 100, "density_lr": 3e-3, "warmup_steps": 60, "policy_delay": 100, "batch_size": 64}
    car = tiny(CAR, data, density=density, eps_quantile=0.75, **settings)
    assert car.learn_offline(data, 60).warming
    rows = whole(data, car)
    nll = car.nll(car.density, rows.observations, rows.actions, car.proposing)
    assert (nll <= car.eps_ood).double().mean().item() == pytest.approx(0.75, abs=0.12)
    proposed = car.propose_eps_ood(data)
    assert list(proposed) == [0.5, 0.75, 0.9, 0.95]
    assert proposed[0.5] < proposed[0.75] < proposed[0.95]
    assert proposed[0.5] < car.eps_ood.item() < proposed[0.95]


def test_the_measure_is_the_average_of_its_batches_quantiles_at_first():
    car = agent(warmup_steps=10, eps_ood=None, eps_quantile=0.5)
    batches, medians = [toy_batch(5), toy_batch(9), toy_batch(33)], []
    for batch in batches:
        z = torch.randn(len(batch.rewards), 1, 2 * ACT, dtype=torch.float64)
        car.draws = FixedDraws(z=z, target_noise=0.0)
        medians.append(np.median(car.density(batch.observations, batch.actions, z).detach()))
        car.begin_update()
        car.fit_verifier(batch)
        assert car.eps_ood.item() == pytest.approx(np.mean(medians), rel=1e-9)


def test_a_given_threshold_is_not_measured():
    data = toy_dataset()
    assert tiny(CAR, data, eps_ood=0.3).learn_offline(data, 4).eps_ood.item() == pytest.approx(0.3)


# Phases


def test_in_the_warm_up_verifier_agent_and_nothing_else_learn():
    data = toy_dataset()
    car = tiny(CAR, data, warmup_steps=4, eps_ood=ALL)
    before = state(car)
    car.learn_offline(data, 4)
    assert car.warming
    nets = {name.removeprefix("state/").split(".")[0] for name in changed(before, car)}
    assert nets == {"policy", "target_actor", "target_critic", "density"}
    assert car.proposals.count == 0


def test_after_the_warm_up_the_reference_begins_as_a_copy_and_moves_and_the_verifier_stays():
    data = toy_dataset()
    car = tiny(CAR, data, warmup_steps=2, eps_ood=ALL).learn_offline(data, 3)  # the third moves no actor
    verifier = {name: value.clone() for name, value in car.density.state_dict().items()}
    for name, value in car.reference.state_dict().items():
        assert torch.equal(value, verifier[name])
        assert value.data_ptr() != car.density.state_dict()[name].data_ptr()
    assert not car.warming
    car.learn_offline(data, 5)
    for name, value in car.reference.state_dict().items():
        assert torch.equal(car.density.state_dict()[name], verifier[name])
        assert not torch.equal(value, verifier[name])


def disturbed_actor(disturbed: str, updates: int) -> list[torch.Tensor]:
    """The actor's gradients in an update with one density disturbed; the warm-up lasts 3 updates."""
    car = agent(warmup_steps=3, eps_ood=NONE, density_lr=1e-30)
    car.reference.load_state_dict(car.density.state_dict())
    car.updates = updates - 1
    with torch.no_grad():
        for parameter in getattr(car, disturbed).parameters() if disturbed else ():
            parameter.mul_(1.5)
    car.draws = FixedDraws(z=0.5, target_noise=0.0)
    car.update(toy_batch(4))
    return [parameter.grad.clone() for parameter in car.actor.parameters()]


@pytest.mark.parametrize(("update", "holds", "idle"), [(2, "density", "reference"), (6, "reference", "density")])
def test_the_verifier_holds_the_actor_in_the_warm_up_and_the_reference_afterwards(update, holds, idle):
    plain = disturbed_actor("", update)
    assert all(map(torch.equal, disturbed_actor(idle, update), plain))
    assert not any(map(torch.equal, disturbed_actor(holds, update), plain))


def test_an_actor_step_moves_the_actor_and_the_reference_alone():
    car = agent()
    car.updates = 2
    before = state(car)
    car.update_actor(toy_batch(16))
    assert {".".join(name.split(".")[:2]) for name in changed(before, car)} == {
        "state/policy.actor",
        "state/reference.encoder",
        "state/reference.decoder",
    }
    for net in (car.density, car.critic):
        assert all(parameter.grad is None for parameter in net.parameters())


def test_a_reference_step_moves_the_reference_alone():
    car = agent()
    before = state(car)
    car.fit_reference(toy_batch(16))
    assert {name.split(".")[0] for name in changed(before, car)} == {"state/reference"}


# The union of data and proposals


def filled(count: int, **settings) -> CAR:
    """An agent with so many proposals of state and action 77."""
    car = agent(**settings)
    rows = torch.full((count, OBS + ACT), 77.0, dtype=torch.float64)
    car.proposals.append(rows, torch.ones(count, dtype=torch.bool))
    return car


@pytest.mark.parametrize(
    ("count", "settings", "share"),
    [
        (0, {}, 0.0),
        (70, {}, 0.25),  # 70 / (70 + 210)
        (630, {}, 0.75),
        (1050, {}, 5.0 / 6.0),  # full
        (70, {"proposal_share": 0.5}, 0.5),
        (70, {"proposal_share": 0.0}, 0.0),
        (0, {"proposal_share": 0.5}, 0.0),  # there is none yet
    ],
)
def test_proposals_have_their_share_of_the_union(count, settings, share):
    car, batch = filled(count, **settings), toy_batch(4000)
    assert (car.spec.transitions, car.proposals.capacity) == (ROWS, 5 * ROWS)
    observations, actions = car.union(batch)
    proposed = (actions == 77.0).all(-1)
    assert proposed.double().mean().item() == pytest.approx(share, abs=0.03)  # deviation at most 0.008
    assert torch.equal((observations == 77.0).all(-1), proposed)  # a pair stays a pair
    assert torch.equal(observations[~proposed], batch.observations[~proposed])
    assert torch.equal(actions[~proposed], batch.actions[~proposed])


# Two modes: nine in ten of the data's actions are -0.5, the rest 0.5. A policy at 0.5 is inside the data's support,
# one at 0.95 is not.


def test_the_reference_follows_the_policy_inside_the_support_and_outside_only_without_a_threshold():
    data = OfflineDataset.from_arrays(
        observations=np.zeros((50, OBS)),
        actions=np.repeat(np.where(np.arange(50) % 10 == 0, 0.5, -0.5)[:, None], ACT, axis=1),
        rewards=np.zeros(50),
        next_observations=np.zeros((50, OBS)),
        terminations=np.ones(50),
        truncations=np.zeros(50),
    )
    car = tiny(CAR, data, density_steps=80, density_lr=1e-2, batch_size=50, warmup_steps=1, reference_lr=3e-3)
    car.learn_offline(data, 1)
    batch = whole(data, car)
    support = float(car.propose_eps_ood(data, (1.0,))[1.0])  # the rare mode is inside

    def gain(pi: float, eps_ood: float) -> float:
        """How much likelier than the verifier the reference finds the action pi after some proposals of it."""
        car.eps_ood.fill_(eps_ood)
        car.proposals.count.zero_()
        car.reference.load_state_dict(car.density.state_dict())
        car.optimizers["reference"].state.clear()
        actions = torch.full_like(batch.actions, pi)
        for _ in range(25):
            car.propose(batch, actions)
            car.fit_reference(batch)
        losses = [car.nll(net, batch.observations, actions, FixedDraws(z=0.0)) for net in (car.density, car.reference)]
        return (losses[0] - losses[1]).mean().item()

    inside = gain(0.5, support)
    assert inside > 0.1
    assert gain(0.95, support) < 0.1 * inside
    assert gain(0.95, ALL) > 0.3


# Online


@pytest.mark.parametrize(("updates", "share"), [(0, 1.0), (100_000, 0.6), (200_000, 0.2), (1_000_000, 0.2)])
def test_the_density_fades_to_a_fifth_in_200_000_online_updates(updates, share):
    car = CAR(toy_dataset(), actor_hidden=(4,), critic_hidden=(4,), density_hidden=(4,), device="cpu")
    car.online_updates = updates
    assert car.decay == 1.0  # offline
    car.online = True
    assert car.decay == pytest.approx(share)


def test_online_both_densities_and_the_memory_are_frozen_and_the_reference_holds_the_actor():
    data = toy_dataset()
    car = tiny(CAR, data, eps_ood=ALL).learn_offline(data, 6)
    before, count = state(car), int(car.proposals.count)
    after = state(car.finetune_online(ToyEnv(), 8, dataset=data))
    own = [name for name in before if any(word in name for word in ("density", "reference", "memory", "eps_ood"))]
    assert any(name.startswith("optimizers/reference") for name in own)
    assert all(torch.equal(before[name], after[name]) for name in own)
    assert (car.online_updates, int(car.proposals.count)) == (8, count)
    assert not car.warming


def test_online_updates_do_not_count_as_warm_up():
    data = toy_dataset()
    car = tiny(CAR, data, warmup_steps=4, eps_ood=ALL).learn_offline(data, 2)
    car.finetune_online(ToyEnv(), 8, dataset=data)
    assert (car.updates, car.offline_updates, car.warming) == (10, 2, True)
    car.learn_offline(data, 3)
    assert (car.offline_updates, car.warming) == (5, False)
    assert all(torch.equal(p, q) for p, q in zip(car.density.parameters(), car.reference.parameters(), strict=True))


# Populations and checkpoints


def test_each_member_accepts_by_its_own_threshold_into_its_own_memory():
    data = toy_dataset()
    crowd = tiny(CAR, data, population=3, eps_ood=(NONE, ALL, 0.2)).learn_offline(data, 8)
    none, every, some = crowd.proposals.count.tolist()
    assert (none, every) == (0, 48)
    assert 0 <= some <= 48
    for index, count in enumerate((none, every, some)):
        member = crowd.member(index)
        assert int(member.proposals.count) == count
        assert torch.equal(member.proposals.rows[:count], crowd.proposals.rows[index, :count])
        assert torch.equal(member.eps_ood, crowd.eps_ood[index])
        for name, value in member.reference.state_dict().items():
            assert torch.equal(value, crowd.reference.state_dict()[name][index])
        assert member.learn_offline(data, 2).updates == 10


def test_measured_thresholds_are_each_members_own():
    data = toy_dataset()
    crowd = tiny(CAR, data, population=2, kl_weight=0.5).learn_offline(data, 2)
    assert crowd.eps_ood.shape == (2,)
    assert crowd.eps_ood[0] != crowd.eps_ood[1]
    assert crowd.propose_eps_ood(data, (0.5,))[0.5].shape == (2,)


@pytest.mark.parametrize("population", [None, 2])
@pytest.mark.parametrize("capacity", [0.2, 5.0])  # 42 rows, which overflow, and more than enough
def test_learning_with_proposals_resumes_bit_for_bit(population, capacity, tmp_path):
    data = toy_dataset()
    settings = {"population": population, "capacity": capacity, "eps_ood": ALL if population is None else (ALL, 0.5)}
    straight = tiny(CAR, data, **settings).learn_offline(data, 15)
    saved = tiny(CAR, data, **settings).learn_offline(data, 9)
    loaded = CAR.load(saved.save(tmp_path / "nine"))
    assert torch.equal(loaded.proposals.count, saved.proposals.count)
    assert loaded.proposals.count.max() == 48  # updates 4, 6 and 8
    assert_same_state(straight, loaded.learn_offline(data, 6))


# Tools


@pytest.mark.parametrize("density", ["vae", "gaussian", "diffusion"])
def test_a_density_acts_as_a_policy_inside_the_box(density):
    car = prepared(CAR, toy_dataset(), density=density)
    observations = np.random.default_rng(0).normal(2.0, 30.0, (50, OBS)).astype(np.float32)
    for reference in (False, True):
        actions = car.predict_density(observations, reference)
        assert (actions.shape, actions.dtype) == ((50, ACT), np.float32)
        assert (actions >= np.array(LOW, np.float32)).all()
        assert (actions <= np.array(HIGH, np.float32)).all()


def test_in_the_warm_up_the_verifier_acts_for_the_reference():
    car = agent(warmup_steps=3)
    car.predicting = FixedDraws(density=9.0)  # latents of a half
    for net, bias in ((car.density, 0.3), (car.reference, -0.7)):
        constant_(net.decoder, bias)
    # tanh(0.3) = 0.2913126 and tanh(-0.7) = -0.6043678 in the box of centre -0.5 and half range 1.5.
    for updates, expected in ((3, 0.2913126), (4, -0.6043678)):
        car.updates = updates
        actions = car.predict_density(np.zeros((1, OBS), np.float32))
        assert actions[0, 0] == pytest.approx(-0.5 + 1.5 * expected, abs=1e-6)
        verified = car.predict_density(np.zeros((1, OBS), np.float32), reference=False)
        assert verified[0, 0] == pytest.approx(-0.5 + 1.5 * 0.2913126, abs=1e-6)


def test_the_quantiles_proposed_are_those_of_the_verifiers_loss():
    data = toy_dataset()
    car = prepared(CAR, data, dtype=torch.float64)
    rows = whole(data, car)
    car.proposing = FixedDraws(z=0.0)
    with torch.no_grad():
        nll = car.density(rows.observations, rows.actions, torch.zeros(ROWS, 1, 2 * ACT, dtype=torch.float64))
    expected = torch.quantile(nll, tensor([0.25, 0.9]).double()).tolist()
    assert list(car.propose_eps_ood(data, (0.25, 0.9)).values()) == pytest.approx(expected)


def test_the_gaussian_variant_learns_and_proposes():
    data = toy_dataset()
    car = tiny(CAR, data, density="gaussian", eps_ood=ALL).learn_offline(data, 6)
    assert int(car.proposals.count) == 32
    assert not torch.equal(car.reference.trunk.linears[0].weight, car.density.trunk.linears[0].weight)


# Settings


def test_presets_begin_with_spots_weights_and_the_papers_rates():
    def preset(name: str) -> CAR.Config:
        return CAR.Config.build(load_preset("CAR", name))

    for name in ("halfcheetah-medium-v2", "walker2d-medium-expert-v2", "antmaze-large-play-v2", "antmaze-umaze-v2"):
        assert preset(name).density_weight == load_preset("SPOT", name)["density_weight"]
    runner, maze, hand = preset("hopper-medium-v2"), preset("antmaze-large-play-v2"), preset("pen-human-v1")
    assert (runner.reward_shift, maze.reward_shift, hand.reward_shift) == (0.0, -1.0, 0.0)
    assert (runner.normalize_observations, maze.normalize_observations, hand.normalize_observations) == (
        True,
        False,
        True,
    )
    assert (runner.dropout, maze.dropout, hand.dropout) == (0.1, 0.0, 0.0)
    for config in (runner, maze, hand):
        assert (config.actor_lr, config.critic_lr, config.reference_lr) == (1e-3, 1e-3, 5e-6)
        assert (config.warmup_steps, config.density_steps, config.capacity) == (100_000, 0, 5.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference_lr": 0.0}, "reference_lr must be"),
        ({"capacity": 0.0}, "capacity must be"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"eps_quantile": 1.5}, r"eps_quantile must be in \[0.0, 1.0\], got 1.5"),
        ({"proposal_share": -0.5}, r"proposal_share must be in \[0.0, 1.0\], got -0.5"),
        ({"eps_ood": None}, "eps_ood=None is measured during the warm-up: give eps_ood, or warmup_steps above 0"),
        ({"eps_ood": (0.1, 0.2)}, "is a sweep; give population=2"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        agent(**settings)


def test_a_batch_always_fits_into_the_memory():
    car = agent(capacity=0.01)  # two rows of the dataset's 210
    assert car.proposals.capacity == 16
    batch = toy_batch(16)
    car.propose(batch, batch.actions)
    assert int(car.proposals.size) == 16


def test_the_returns_of_both_densities_as_policies_come_into_the_log(tmp_path):
    data = toy_dataset()
    car = tiny(CAR, data, tensorboard_log=str(tmp_path))
    car.learn_offline(data, 6, callback=ReferenceReturn(ToyEnv, every=3, episodes=2), log_interval=3)
    with open(next(tmp_path.glob("*/progress.csv")), newline="") as file:
        rows = list(csv.DictReader(file))
    for name, reference in (("reference", True), ("verifier", False)):
        found = [float(row[f"{name}/return"]) for row in rows]
        assert all(np.isfinite(found))
        assert max(found) <= LENGTH  # ToyEnv pays at most 1 a step
        actions = car.predict_density(np.zeros((5, OBS), np.float32), reference)
        assert actions.shape == (5, ACT)
        assert (actions >= BOX.low).all()
        assert (actions <= BOX.high).all()


# Figure 7, and equation 12


def test_with_diffusion_models_it_learns_proposes_and_resumes_bit_for_bit(tmp_path):
    data = toy_dataset()
    car = tiny(CAR, data, density="diffusion", eps_ood=ALL, warmup_steps=2).learn_offline(data, 6)
    assert car.proposals.count > 0
    again = CAR.load(car.save(tmp_path / "car"))
    for one in (car, again):
        one.learn_offline(data, 4).finetune_online(ToyEnv(), 3, dataset=data)
    assert_same_state(car, again)


def test_the_preset_has_the_diffusion_models_own_size_and_rate():
    car = tiny(CAR, preset="diffusion", density_hidden=(256, 256, 256))
    assert (car.config.density, car.config.density_lr) == ("diffusion", 3e-4)
    assert load_preset("CAR", "hopper-medium-v2", "diffusion")["density_weight"] == 0.1
    assert load_preset("CAR", "hopper-medium-v2", "paper") == {
        "density_weight": 0.1,
        "density_lr": 5e-6,
        "reference_lr": 5e-6,
    }


@pytest.mark.parametrize(("updates", "holds"), [(1, "density"), (3, "reference")])
def test_the_mixed_policy_may_take_the_place_of_the_target_actor(updates, holds):
    """Critics that say an action's first entry: the target is r + gamma times that of the density's own action."""
    car = tiny(CAR, dtype=torch.float64, target_policy="mixed", eps_ood=ALL, warmup_steps=2, gamma=0.5, dropout=0.0)
    for name, value in (("density", 0.3), ("reference", -0.6)):
        constant_(getattr(car, name).decoder, float(np.arctanh(value)))  # whatever the latent
    car.updates = updates
    car.target_critic.forward = lambda observations, actions: actions[..., 0].expand(3, -1)
    batch = toy_batch(4)
    constant_(car.critic.trunk, [0.0, 0.0, 0.0])
    action = {"density": 0.3, "reference": -0.6}[holds]
    torch.testing.assert_close(car.target_actions(batch.next_observations), torch.full((4, ACT), action).double())
    targets = [1.0 + 0.5 * action, 2.0, 3.0 + 0.5 * action, 4.0 + 0.5 * action]  # rewards 1 to 4; row 2 is terminated
    expected = 3 * np.mean(np.square(targets))
    assert car.critic_loss(batch)[0].item() == pytest.approx(expected)


def test_learning_with_the_mixed_policy_resumes_bit_for_bit(tmp_path):
    data = toy_dataset()
    car = tiny(CAR, data, target_policy="mixed", eps_ood=ALL).learn_offline(data, 4)
    again = CAR.load(car.save(tmp_path / "car"))
    assert_same_state(car.learn_offline(data, 3), again.learn_offline(data, 3))
