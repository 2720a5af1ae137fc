"""What every agent promises, whatever its paper."""

import csv
import dataclasses
import random
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.callbacks import (
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from tests.support.data import (
    ACT,
    BOX,
    LEARNING_ONLINE,
    LENGTH,
    OBS,
    WITH_CRITICS,
    FixedDraws,
    MemberOf,
    Recorder,
    ToyEnv,
    assert_same_state,
    candidates,
    changed,
    prepared,
    state,
    tiny,
    toy_dataset,
)
from zoo.agents import AGENTS, BC, Agent, CalQL, load
from zoo.datasets.dataset import OfflineDataset

STEPS = 5  # odd, so that a resumed run begins between two delayed updates
ONLINE = {"updates_per_step": 2}
EVERY = pytest.mark.parametrize("cls", AGENTS.values(), ids=AGENTS)
EVERY_ONLINE = pytest.mark.parametrize("cls", LEARNING_ONLINE.values(), ids=LEARNING_ONLINE)
EVERY_WITH_CRITICS = pytest.mark.parametrize("cls", WITH_CRITICS.values(), ids=WITH_CRITICS)


@pytest.fixture(scope="module")
def data():
    return toy_dataset()


def observations(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 3.0, (*shape, OBS)).astype(np.float32)


# Seeds


@EVERY
def test_building_and_learning_leave_the_global_generators_alone(cls, data):
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    tiny(cls, data).learn_offline(data, 2).predict(observations(), evaluation_samples=candidates(cls, 3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert torch.get_default_dtype() == torch.float32


@EVERY
def test_equal_seeds_give_equal_agents_and_others_do_not(cls, data):
    one, same, other = (tiny(cls, data, seed=seed).learn_offline(data, STEPS) for seed in (3, 3, 4))
    assert_same_state(one, same)
    assert all(
        not torch.equal(p, q)
        for p, q in zip(one.policy.actor.parameters(), other.policy.actor.parameters(), strict=True)
    )


@EVERY
def test_a_numpy_seed_is_a_seed_and_saves(cls, data, tmp_path):
    agent = tiny(cls, data, seed=np.int64(3))
    assert_same_state(cls.load(agent.save(tmp_path / "agent")), tiny(cls, data, seed=3))


@EVERY
def test_members_of_a_population_start_apart(cls, data):
    for linear in tiny(cls, data, population=2).policy.actor.trunk.linears:
        assert not torch.equal(linear.weight[0], linear.weight[1])


# Learning


@EVERY
def test_learn_offline_moves_every_parameter_and_keeps_the_normaliser_and_the_box(cls, data):
    agent = tiny(cls, data, **({"tau": 0.5} if cls in WITH_CRITICS.values() else {}))
    before = state(agent)
    assert agent.learn_offline(data, 6) is agent
    buffers = {f"state/{name}" for name, _ in agent.policy.named_buffers(prefix="policy")}
    assert changed(before, agent) >= {f"state/{name}" for name, _ in agent.named_parameters()}
    assert not changed(before, agent) & buffers
    assert (agent.updates, agent.env_steps, agent.num_timesteps) == (6, 0, 6)


@EVERY_ONLINE
def test_online_transitions_hold_true_successors_and_time_limits_are_no_terminations(cls, data):
    agent = prepared(cls, data, **ONLINE)
    agent.finetune_online(ToyEnv(), 2 * LENGTH + 3, dataset=data)
    rows = agent.layout.unpack(agent.replay.rows[: agent.replay.size])
    # The third observation counts the steps of the episode; the second episode ends by termination, the first by time.
    assert rows.observations[:, 2].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 0, 1, 2]
    assert rows.next_observations[:, 2].tolist() == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3]
    assert rows.terminations.nonzero().flatten().tolist() == [2 * LENGTH - 1]
    # place' = 0.9 * place + action: the action stored is the one that was taken, the successor the true one.
    torch.testing.assert_close(
        rows.next_observations[:, :2], 0.9 * rows.observations[:, :2] + rows.actions, rtol=0.0, atol=1e-5
    )
    torch.testing.assert_close(rows.rewards, 1.0 - rows.next_observations[:, 0].abs(), rtol=0.0, atol=1e-5)
    assert (agent.env_steps, agent.num_timesteps, agent.updates) == (17, 17, 34)


@EVERY_ONLINE
def test_two_environments_at_once_count_and_store_both(cls, data):
    agent = prepared(cls, data, **ONLINE)
    agent.finetune_online(DummyVecEnv([ToyEnv, ToyEnv]), 2 * LENGTH, dataset=data)
    rows = agent.layout.unpack(agent.replay.rows[: agent.replay.size])
    assert rows.next_observations[:, 2].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert rows.terminations.sum() == 0.0
    assert (agent.env_steps, agent.updates) == (14, 28)


@EVERY_ONLINE
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_online_batches_may_be_all_online_or_all_offline(cls, data, ratio):
    agent = prepared(cls, data, offline_ratio=ratio, **ONLINE)
    agent.finetune_online(ToyEnv(), 3, dataset=data if ratio else None)
    assert agent.updates == 6


@EVERY_ONLINE
def test_finetuning_without_what_it_needs_says_what_to_give(cls, data):
    with pytest.raises(ValueError, match="needs an environment"):
        tiny(cls, data).finetune_online(None, 1, dataset=data)
    with pytest.raises(ValueError, match=r"8 of 16 rows .* dataset=dataset.* online_buffer=\"none\""):
        prepared(cls, data, offline_ratio=0.5).finetune_online(ToyEnv(), 1)
    with pytest.raises(ValueError, match=r"one by one: agent.member\(i\)"):
        tiny(cls, data, population=2).finetune_online(ToyEnv(), 1, dataset=data)


def test_an_agent_that_learns_from_data_alone_refuses_to_go_online_and_names_others(data):
    with pytest.raises(ValueError, match=r"BC clones data, .* train TD3BC, AWAC or IQL"):
        tiny(BC, data).finetune_online(ToyEnv(), 1, dataset=data)


def test_an_agent_without_critics_refuses_candidates(data):
    with pytest.raises(ValueError, match="evaluation_samples must be 1, got 4"):
        BC(data, evaluation_samples=4)
    with pytest.raises(ValueError, match=r"learned without critics.*evaluation_samples=1"):
        tiny(BC, data).predict(observations(), evaluation_samples=4)


# Checkpoints


@EVERY
@pytest.mark.parametrize("population", [None, 2])
def test_offline_learning_resumes_bit_for_bit(cls, data, population, tmp_path):
    settings = {"population": population, "normalize_observations": True}
    straight = tiny(cls, data, **settings).learn_offline(data, STEPS).learn_offline(data, STEPS)
    path = tiny(cls, data, **settings).learn_offline(data, STEPS).save(tmp_path / "half")
    resumed = cls.load(path)
    assert (resumed.config, resumed.spec, resumed.seed) == (straight.config, straight.spec, straight.seed)
    assert_same_state(straight, resumed.learn_offline(data, STEPS))


@EVERY_ONLINE
def test_online_learning_resumes_bit_for_bit(cls, data, tmp_path):
    def begin() -> Agent:
        return tiny(cls, data, **ONLINE).learn_offline(data, STEPS).finetune_online(ToyEnv(), LENGTH + 2, dataset=data)

    straight = begin().finetune_online(ToyEnv(), LENGTH + 2, dataset=data)
    resumed = cls.load(begin().save(tmp_path / "half")).finetune_online(ToyEnv(), LENGTH + 2, dataset=data)
    assert straight.updates == STEPS + 4 * (LENGTH + 2)
    assert_same_state(straight, resumed)


@EVERY_ONLINE
def test_a_full_replay_table_resumes_where_it_was(cls, data, tmp_path):
    agent = prepared(cls, data, buffer_size=5, **ONLINE).finetune_online(ToyEnv(), 7, dataset=data)
    resumed = cls.load(agent.save(tmp_path / "full"))
    for one in (agent, resumed):
        one.finetune_online(ToyEnv(), 1, dataset=data)
        counts = one.layout.unpack(one.replay.rows).next_observations[:, 2].tolist()
        assert counts == [6.0, 7.0, 1.0, 4.0, 5.0]  # rows 6 and 7 went over 1 and 2, the new episode's 1 over 3
    assert_same_state(agent, resumed)


@EVERY
def test_a_loaded_agent_acts_as_the_saved_one(cls, data, tmp_path):
    agent = tiny(cls, data, evaluation_samples=candidates(cls, 4), normalize_observations=True).learn_offline(
        data, STEPS
    )
    path, batch = agent.save(tmp_path / "agent"), observations(9)
    action = agent.predict(batch)[0]
    for loaded in (cls.load(path), load(path)):
        assert type(loaded) is cls
        assert np.array_equal(loaded.predict(batch)[0], action)


@EVERY
def test_load_takes_an_environment(cls, data, tmp_path):
    assert cls.load(tiny(cls, data).save(tmp_path / "agent"), env=ToyEnv()).get_env().num_envs == 1


# predict


@EVERY
@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("deterministic", [True, False])
def test_predict_gives_float32_actions_inside_the_box_for_one_observation_or_a_batch(cls, data, samples, deterministic):
    agent = tiny(cls, data)
    for shape in ((), (1,), (9,)):
        far = 1e4 * observations(*shape)  # saturates the tanh: the box's edge itself
        action, hidden = agent.predict(far, deterministic=deterministic, evaluation_samples=candidates(cls, samples))
        assert (action.shape, action.dtype, hidden) == ((*shape, ACT), np.float32, None)
        assert (action >= BOX.low).all()
        assert (action <= BOX.high).all()


@EVERY
def test_predict_of_a_batch_is_that_of_its_rows_and_of_the_policy(cls, data):
    agent = tiny(cls, data).learn_offline(data, STEPS)
    policy, batch = agent.policy, observations(9)
    agent.predicting = FixedDraws(evaluation=0.5)  # only a generative actor draws
    noise = torch.full((9, 1, policy.noise_size), 0.5)
    rows = torch.from_numpy(batch)
    expected = policy.search(rows, noise) if policy.generative else policy(rows)
    actions = agent.predict(batch)[0]
    np.testing.assert_allclose(actions, [agent.predict(row)[0] for row in batch], rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(actions, expected.detach(), rtol=0.0, atol=1e-6)


@EVERY
def test_an_actor_that_is_not_generative_draws_nothing_unless_it_is_asked_to(cls, data):
    agent, batch = tiny(cls, data), observations(4)
    agent.predicting = FixedDraws()  # any draw is an error
    if agent.policy.generative:
        with pytest.raises(KeyError, match="evaluation"):
            agent.predict(batch)
    else:
        assert agent.predict(batch)[0].shape == (4, ACT)


@EVERY
def test_predict_passes_the_recurrent_state_through_and_takes_integers_and_doubles(cls, data):
    agent, hidden = tiny(cls, data), (np.zeros(1),)
    assert agent.predict(observations(), hidden, np.array([True]))[1] is hidden
    assert agent.predict(np.zeros(OBS, np.int64))[0].shape == agent.predict(np.zeros(OBS))[0].shape == (ACT,)


@EVERY
def test_predict_of_no_observations_is_no_actions(cls, data):
    assert tiny(cls, data).predict(observations(0))[0].shape == (0, ACT)


@EVERY
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros(OBS + 1), ValueError, r"\(3,\) or \(n, 3\), got \(4,\)"),
        (np.zeros((2, OBS + 1)), ValueError, r"\(3,\) or \(n, 3\), got \(2, 4\)"),
        (np.zeros((2, 2, OBS)), ValueError, r"\(3,\) or \(n, 3\), got \(2, 2, 3\)"),
        (np.float32(0.0), ValueError, r"\(3,\) or \(n, 3\), got \(\)"),
        (np.array(["a"] * OBS), TypeError, "must hold numbers, got dtype <U1"),
        (np.zeros(OBS, bool), TypeError, "must hold numbers, got dtype bool"),
        (np.zeros(OBS, complex), TypeError, "must hold numbers, got dtype complex"),
        ({"observation": np.zeros(OBS)}, TypeError, "must hold numbers, got dtype object"),
        (np.array([0.0, np.nan, 0.0]), ValueError, r"dimensions \[1\]; expected finite"),
        (np.array([[0.0, 0.0, np.inf], [-np.inf, 0.0, 0.0]]), ValueError, r"dimensions \[0, 2\]; expected finite"),
        (np.array([0.0, 1e300, 0.0]), ValueError, r"dimensions \[1\]; expected finite"),  # infinite in float32
    ],
)
def test_predict_refuses_what_is_no_observation_and_names_what_it_expected(cls, data, bad, error, message):
    with pytest.raises(error, match=message):
        tiny(cls, data).predict(bad)


@EVERY
def test_predict_of_diverged_networks_raises_instead_of_returning_nan(cls, data):
    agent = tiny(cls, data)
    with torch.no_grad():
        agent.policy.actor.trunk.linears[0].weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="training has diverged"):
        agent.predict(observations())


@EVERY_WITH_CRITICS
def test_evaluation_sampling_is_the_configs_and_a_call_overrides_it(cls, data):
    batch = observations(20)

    def actions(of_the_config: int, of_the_call: int | None = None) -> np.ndarray:
        """Of a new agent each time, so that weights and draws are equal."""
        return tiny(cls, data, evaluation_samples=of_the_config).predict(batch, evaluation_samples=of_the_call)[0]

    searched, plain = actions(8), actions(1)
    assert not np.array_equal(searched, plain)
    assert np.array_equal(searched, actions(1, 8))
    assert np.array_equal(actions(8, 1), plain)
    with pytest.raises(ValueError, match="evaluation_samples must be at least 1, got 0"):
        actions(1, 0)


@EVERY_WITH_CRITICS
def test_of_many_candidates_the_critics_like_the_chosen_better_than_of_one_draw(cls, data):
    agent = tiny(cls, data).learn_offline(data, 20)
    batch = observations(200)
    rows = torch.from_numpy(batch)
    many, few = (
        agent.policy.evaluate(rows, torch.from_numpy(agent.predict(batch, evaluation_samples=m)[0])) for m in (50, 2)
    )
    assert many.mean() > few.mean()


# Settings


@EVERY
def test_an_unknown_setting_is_refused_with_the_known_ones(cls, data):
    with pytest.raises(TypeError, match=r"has no field learning_rate( \(did you mean .*\?\))?; it has batch_size, "):
        cls(data, learning_rate=1e-3)


@EVERY
def test_policy_kwargs_are_settings(cls, data):
    assert cls(data, policy_kwargs={"batch_size": 7}).config.batch_size == 7


@EVERY
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": "many"}, TypeError, "batch_size must be a whole number, got 'many'"),
        ({"offline_ratio": 1.5}, ValueError, r"offline_ratio must be in \[0.0, 1.0\], got 1.5"),
        ({"offline_ratio": float("nan")}, TypeError, "offline_ratio must be a finite number"),
        ({"precision": "fp8"}, ValueError, "'fp32' or 'bf16', got 'fp8'"),
        ({"actor_lr": (0.1, 0.2, 0.3), "population": 2}, ValueError, "actor_lr has 3 values for a population of 2"),
        ({"actor_lr": (0.1, 0.2)}, ValueError, "is a sweep; give population=2"),
        ({"batch_size": (16, 32), "population": 2}, TypeError, "batch_size is one value for the whole population"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(cls, data, settings, error, message):
    with pytest.raises(error, match=message):
        tiny(cls, data, **settings)


# Populations


def sweepable(cls: type[Agent]) -> list[str]:
    """Fields with a number by default that may be one value for each member."""
    fields = [f for f in dataclasses.fields(cls.Config) if "tuple[float" in str(f.type) and f.default is not None]
    alike = {"gamma", "reward_scale", "reward_shift"} if cls is CalQL else set()  # its floor is one for all members
    return ["nothing", *(field.name for field in fields if field.name not in alike)]


def sweep(cls: type[Agent], field: str) -> dict[str, tuple[float, float]]:
    if field == "nothing":
        return {}
    value = next(f.default for f in dataclasses.fields(cls.Config) if f.name == field)
    return {field: (0.5 * value, value) if value else (0.5, 0.25)}


@contextmanager
def using(agent: Agent, streams: dict):
    """The agent with other streams of random numbers."""
    own = agent.generators()
    for name, stream in streams.items():
        setattr(agent, name, stream)
    yield
    for name, stream in own.items():
        setattr(agent, name, stream)


@pytest.mark.parametrize(
    ("cls", "field"),
    [pytest.param(cls, field, id=f"{name}-{field}") for name, cls in AGENTS.items() for field in sweepable(cls)],
)
def test_a_member_of_a_population_learns_what_it_would_have_learned_alone(cls, field, data):
    settings = sweep(cls, field)
    crowd = tiny(cls, data, population=2, dtype=torch.float64, **settings)
    alone = [crowd.member(i) for i in range(2)]
    streams = crowd.generators()  # by the names of the agent's attributes
    recorders = {name: Recorder(draws) for name, draws in streams.items()}
    with using(crowd, recorders):
        crowd.learn_offline(data, 6)
    for i, agent in enumerate(alone):
        for name, values in settings.items():
            assert getattr(agent.config, name) == values[i]
        with using(agent, {name: MemberOf(recorder, i) for name, recorder in recorders.items()}):
            agent.learn_offline(data, 6)
        mine, theirs = agent.state_dict(), crowd.member(i).state_dict()
        for name, value in agent.named_parameters():
            torch.testing.assert_close(value, theirs[name], rtol=0.0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        assert mine.keys() == theirs.keys()


@EVERY
def test_a_member_saves_loads_and_acts_as_its_row_of_the_population(cls, data, tmp_path):
    crowd = tiny(cls, data, population=3).learn_offline(data, STEPS)
    rows, batch = observations(3), observations(3, 4)
    saved = [crowd.member(i).save(tmp_path / f"member_{i}") for i in range(3)]
    crowd.predicting = FixedDraws(evaluation=0.5)  # the stream of a member is its own
    together, of_batch = crowd.predict(rows)[0], crowd.predict(batch)[0]
    assert (together.shape, of_batch.shape) == ((3, ACT), (3, 4, ACT))
    for i, path in enumerate(saved):
        member = cls.load(path)
        assert member.population is None
        member.predicting = crowd.predicting
        np.testing.assert_allclose(member.predict(rows[i])[0], together[i], rtol=0.0, atol=1e-6)
        np.testing.assert_allclose(member.predict(batch[i])[0], of_batch[i], rtol=0.0, atol=1e-6)
        assert member.learn_offline(data, STEPS).updates == 2 * STEPS


@EVERY
@pytest.mark.filterwarnings("ignore:precision=.bf16")
def test_a_member_keeps_its_own_moments_and_its_agents_precision(cls, data):
    crowd = tiny(cls, data, population=2, precision="bf16").learn_offline(data, STEPS)
    member = crowd.member(1)
    for name, optimizer in crowd.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            own = member.optimizers[name].state_dict()["state"][index]
            assert torch.equal(own["exp_avg"], moments["exp_avg"][1])
            assert torch.equal(own["exp_avg_sq"], moments["exp_avg_sq"][1])
    assert member.precision == "bf16"


@EVERY
@pytest.mark.parametrize(("population", "index"), [(2, 2), (2, -1), (None, 0)])
def test_a_member_that_does_not_exist_is_an_index_error(cls, data, population, index):
    with pytest.raises(IndexError, match=f"member {index} of a population of {population}"):
        tiny(cls, data, population=population).member(index)


@EVERY
def test_a_population_refuses_observations_without_its_axis(cls, data):
    with pytest.raises(ValueError, match=r"\(2, 3\) or \(2, n, 3\), got \(3,\)"):
        tiny(cls, data, population=2).predict(observations())


# Stable-Baselines3's own tools, unmodified


@EVERY
def test_sb3_evaluate_policy_rolls_an_agent_out(cls, data):
    rewards, lengths = evaluate_policy(
        tiny(cls, data), Monitor(ToyEnv()), n_eval_episodes=3, return_episode_rewards=True
    )
    assert lengths == [LENGTH] * 3
    assert all(np.isfinite(rewards))


@EVERY_ONLINE
@pytest.mark.parametrize("online", [False, True])
def test_sb3_callbacks_evaluate_save_and_stop(cls, data, online, tmp_path):
    def learn(agent: Agent, steps: int, callback) -> None:
        if online:
            agent.finetune_online(ToyEnv(), steps, callback, dataset=data)
        else:
            agent.learn_offline(data, steps, callback)

    evaluation = EvalCallback(
        Monitor(ToyEnv()),
        eval_freq=4,
        n_eval_episodes=2,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
    )
    agent = prepared(cls, data, **ONLINE)
    learn(agent, 8, CallbackList([evaluation, CheckpointCallback(3, str(tmp_path), name_prefix="agent")]))
    assert agent.num_timesteps == 8
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [4, 8]
    assert cls.load(tmp_path / "best_model.zip").num_timesteps in (4, 8)
    assert [cls.load(tmp_path / f"agent_{n}_steps.zip").num_timesteps for n in (3, 6)] == [3, 6]

    reached = StopTrainingOnRewardThreshold(reward_threshold=-1e6, verbose=0)
    learn(agent, 100, [EvalCallback(Monitor(ToyEnv()), callback_on_new_best=reached, eval_freq=2, verbose=0)])
    assert agent.num_timesteps == 10


@EVERY
def test_a_plain_function_is_a_callback_and_returning_false_stops(cls, data):
    agent = tiny(cls, data).learn_offline(data, 10, callback=lambda local, _: local["self"].num_timesteps < 3)
    assert agent.num_timesteps == 3


class OtherSpaces(ToyEnv):
    def __init__(self, observations: Box, actions: gym.Space):
        super().__init__()
        self.observation_space, self.action_space = observations, actions


@EVERY
@pytest.mark.parametrize(
    ("env", "message"),
    [
        (OtherSpaces(Box(-1.0, 1.0, (5,)), BOX), r"observations have shape \(5,\), the agent was built for \(3,\)"),
        (OtherSpaces(ToyEnv.observation_space, Box(-1.0, 1.0, (ACT,))), "actions are Box"),
        (OtherSpaces(ToyEnv.observation_space, gym.spaces.Discrete(2)), r"actions are Discrete\(2\)"),
        (VecNormalize(DummyVecEnv([ToyEnv])), "VecNormalize would normalise twice"),
        (VecMonitor(VecNormalize(DummyVecEnv([ToyEnv]))), "VecNormalize would normalise twice"),
    ],
    ids=["observations", "box", "discrete", "VecNormalize", "VecNormalize inside VecMonitor"],
)
def test_an_environment_that_does_not_fit_is_refused(cls, data, env, message):
    agent = tiny(cls, data)
    with pytest.raises(ValueError, match=message):
        agent.set_env(env)
    assert agent.get_env() is None


@EVERY_ONLINE
def test_data_of_another_action_box_are_refused_offline_and_online(cls, data):
    other = OfflineDataset.from_arrays(
        observations=np.zeros((4, OBS)),
        actions=np.zeros((4, ACT)),  # its box is [-1, 1]
        rewards=np.zeros(4),
        next_observations=np.zeros((4, OBS)),
        terminations=np.zeros(4),
        truncations=np.array([0, 0, 0, 1]),
    )
    agent = prepared(cls, data, **ONLINE)
    with pytest.raises(ValueError, match="actions are Box"):
        agent.learn_offline(other, 1)
    with pytest.raises(ValueError, match="actions are Box"):
        agent.finetune_online(ToyEnv(), 1, dataset=other)


@EVERY
def test_data_of_another_environment_are_refused(cls, data):
    other = dataclasses.replace(data, action_space=Box(-9.0, 9.0, (ACT,)))
    with pytest.raises(ValueError, match="the agent was built for"):
        tiny(cls, data).learn_offline(other, 1)


# Logs


@EVERY
@pytest.mark.parametrize("population", [None, 2])
def test_tensorboard_log_gets_csv_and_tensorboard_files_with_every_loss_in_every_row(
    cls, data, population, tmp_path, capsys
):
    agent = tiny(cls, data, population=population, tensorboard_log=str(tmp_path), verbose=1)
    agent.learn_offline(data, 9, log_interval=3)
    run = tmp_path / f"{cls.__name__}_1"
    with open(run / "progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["time/total_timesteps"] for row in rows] == ["3", "6", "9"]
    losses = [name for name in rows[-1] if name.endswith("/loss")]
    assert {"actor/loss", *(["critic/loss"] if cls in WITH_CRITICS.values() else [])} <= set(losses)
    for name in losses:
        cells = [row[name] for row in rows]
        begun = next(i for i, cell in enumerate(cells) if cell)  # a later phase's loss
        assert [float(cell) for cell in cells[begun:]]  # a blank is no number
    assert ("actor/loss/member_1" in rows[-1]) == (population is not None)
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert "total_timesteps" in capsys.readouterr().out
    tiny(cls, data, tensorboard_log=str(tmp_path)).learn_offline(data, 1, log_interval=1)
    assert Path(tmp_path / f"{cls.__name__}_2" / "progress.csv").exists()


@EVERY_ONLINE
def test_online_log_has_the_returns_of_finished_episodes(cls, data, tmp_path):
    agent = prepared(cls, data, tensorboard_log=str(tmp_path), **ONLINE)
    agent.finetune_online(ToyEnv(), 2 * LENGTH, log_interval=LENGTH, dataset=data)
    with open(next(tmp_path.glob("*/progress.csv")), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rollout/ep_len_mean"]) for row in rows] == [LENGTH, LENGTH]
    rewards = agent.layout.unpack(agent.replay.rows[: 2 * LENGTH]).rewards
    # Monitor rounds returns to 6 digits. The last row is the mean of both episodes.
    assert float(rows[1]["rollout/ep_rew_mean"]) == pytest.approx(rewards.sum().item() / 2.0, abs=1e-4)
