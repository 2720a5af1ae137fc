"""A user's own agents and environments on the command line, and what other libraries' users type first."""

import re
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

import zoo
from tests.support.data import ToyEnv, tiny, toy_dataset, whole
from tests.support.paths import ROOT
from tests.zoo.test_cli import run_cli
from tests.zoo.test_resuming import write_npz
from zoo.cli.custom import take_imports
from zoo.evaluation.rollouts import evaluate
from zoo.policies import DeterministicActor

MINE = '''
import gymnasium as gym
from zoo import TD3BC
from tests.support.data import ToyEnv

class TD3BCL1(TD3BC):
    """TD3+BC whose cloning error is absolute."""

gym.register("CustomToy-v0", ToyEnv)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """mine.py in the current folder, known to nobody else."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_IMPORT", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    zoo.AGENTS.pop("TD3BCL1", None)
    gym.registry.pop("CustomToy-v0", None)
    sys.modules.pop("mine", None)


def test_an_agent_of_the_current_folder_trains_and_is_loaded_again(module, tmp_path, monkeypatch):
    write_npz(tmp_path / "data.npz")
    small = ["--set", "actor_hidden=(4,)", "critic_hidden=(4,)", "batch_size=4"]
    run_cli(monkeypatch, "train", "TD3BCL1", "data.npz", "--out", "run", "--steps", "2", *small, "--import", "mine")
    assert type(zoo.load("run/final.zip")).__name__ == "TD3BCL1"


def test_an_environment_of_the_current_folder_is_evaluated_in(module, monkeypatch, capsys):
    tiny(zoo.TD3BC, toy_dataset()).save("agent.zip")
    run_cli(monkeypatch, "--import=mine", "evaluate", "agent.zip", "--env", "CustomToy-v0", "--episodes", "2")
    assert "2 episodes of CustomToy-v0" in capsys.readouterr().out


def test_the_option_may_stand_anywhere_and_needs_a_module():
    assert take_imports(["train", "--import", "a", "X", "--import=b"]) == (["train", "X"], ["a", "b"])
    with pytest.raises(ValueError, match="takes a module"):
        take_imports(["train", "--import"])


@pytest.mark.parametrize("first", ["hopper-medium-replay", "MlpPolicy"])
def test_a_name_in_the_datasets_place_says_what_to_write(first):
    with pytest.raises(TypeError, match=r"TD3BC\(zoo.load_dataset\(.*TD3BC\(dataset, env\)"):
        zoo.TD3BC(first, ToyEnv())
    with pytest.raises(TypeError, match=r"dataset first and the environment second"):
        zoo.TD3BC(ToyEnv())


def page_code() -> dict:
    """What the code of docs/agents.md defines."""
    page = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "class TD3BCL1" in block)
    names: dict = {"__name__": "l1"}
    exec(compile(block, "docs/agents.md", "exec"), names)
    return names


def test_the_agent_that_the_page_writes_learns_and_has_the_loss_that_it_says(tmp_path):
    cls, data = page_code()["TD3BCL1"], toy_dataset()
    agent = tiny(cls, data, alpha=0.0)
    batch = whole(data, agent)
    loss, _ = agent.actor_loss(batch)
    actions = agent.policy.normalize_actions(agent.policy(torch.tensor(data.observations)))
    expected = np.abs(actions.detach().numpy() - batch.actions.numpy()).mean()  # alpha is 0: cloning alone
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    agent.learn_offline(data, 3)
    again = zoo.load(agent.save(tmp_path / "l1.zip"), classes=[cls], device="cpu")
    np.testing.assert_array_equal(again.predict(data.observations)[0], agent.predict(data.observations)[0])
    assert (agent.export_onnx(tmp_path / "deploy") / "policy.onnx").exists()


def test_networks_of_ones_own_are_in_policy_targets_and_checkpoint(tmp_path):
    class Doubled(DeterministicActor):
        """Sees every observation twice as large."""

        def forward(self, observations):
            return super().forward(2.0 * observations)

    class Mine(zoo.TD3BC):
        def new_actor(self):
            c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
            return Doubled(*sizes, c.actor_hidden, self.lead, c.search_noise)

    agent = tiny(Mine, toy_dataset()).learn_offline(toy_dataset(), 2)
    assert type(agent.target_actor) is type(agent.actor) is Doubled
    again = Mine.load(agent.save(tmp_path / "mine.zip"), device="cpu")
    rows = toy_dataset().observations
    np.testing.assert_array_equal(again.predict(rows)[0], agent.predict(rows)[0])


def test_learn_says_that_there_are_two_ways():
    with pytest.raises(TypeError, match=r"learn_offline\(dataset, .*finetune_online\(env"):
        tiny(zoo.TD3BC).learn(1000)


def test_no_seed_is_a_random_one_that_the_agent_keeps(tmp_path):
    agents = [tiny(zoo.TD3BC, seed=None) for _ in range(2)]
    assert agents[0].seed != agents[1].seed
    again = tiny(zoo.TD3BC, seed=agents[0].seed)
    assert all(map(torch.equal, agents[0].parameters(), again.parameters()))


def test_evaluate_takes_an_environment_that_can_be_made_again():
    agent = tiny(zoo.TD3BC)
    if "CustomToyMade-v0" not in gym.registry:
        gym.register("CustomToyMade-v0", ToyEnv, disable_env_checker=True)
    expected = evaluate(agent, ToyEnv, episodes=2).tolist()
    for source in ("CustomToyMade-v0", gym.make("CustomToyMade-v0")):
        assert evaluate(agent, source, episodes=2).tolist() == expected
    with pytest.raises(TypeError, match="give the function that makes it"):
        evaluate(agent, ToyEnv(), episodes=2)


def test_a_dictionary_of_observations_is_told_how_to_become_a_vector():
    with pytest.raises(ValueError, match="FlattenObservation"):
        tiny(zoo.TD3BC).spec.check_env(gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (3,))}), ToyEnv.action_space)


def test_torch_still_has_the_fused_step_that_the_optimizer_calls():
    assert callable(torch._fused_adam_)
