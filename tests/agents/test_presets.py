"""The papers' per-dataset settings: complete, valid, and found by the dataset's name."""

import json
import tomllib
import zipfile

import pytest

from tests.support.data import toy_dataset
from tests.support.paths import ROOT
from zoo.agents import AGENTS, IQL, PARS, TD3BC
from zoo.agents.core.config import load_preset

PRESETS = ROOT / "agents" / "presets"

# The 28 datasets of PARS's tables 10 and 11.
MAZES = [f"antmaze-{maze}" for maze in ("umaze", "umaze-diverse")]
MAZES += [f"antmaze-{size}-{kind}" for size in ("medium", "large", "ultra") for kind in ("play", "diverse")]
HANDS = [f"{hand}-{kind}" for hand in ("pen", "door", "hammer", "relocate") for kind in ("cloned", "expert")]
RUNNERS = [
    f"{runner}-{kind}"
    for runner in ("halfcheetah", "hopper", "walker2d")
    for kind in ("random", "medium", "medium-replay", "medium-expert")
]


@pytest.mark.parametrize("name", MAZES + HANDS + RUNNERS)
def test_pars_has_a_valid_preset_for_every_dataset_of_its_paper(name):
    preset = load_preset("PARS", name)
    assert {"reward_scale", "alpha", "beta", "q_min"} <= set(preset)
    PARS.Config.build(preset)


def test_pars_presets_are_the_papers():
    # Single entries of tables 8 to 11, one for each column and family.
    maze = PARS.Config.build(load_preset("PARS", "antmaze-ultra-play-v0"))
    assert (maze.reward_scale, maze.beta, maze.alpha, maze.online_alpha) == (100.0, 0.01, 0.001, 0.0001)
    assert (maze.n_critics, maze.gamma, maze.infeasible_distance, maze.q_min) == (4, 0.995, 1000.0, 0.0)
    hand = PARS.Config.build(load_preset("PARS", "hammer-cloned-v1"))
    assert (hand.beta, hand.alpha, hand.online_beta, hand.q_min) == (0.1, 0.001, 0.0, -348.0)
    assert hand.cosine_steps == 1_000_000
    cheetah = PARS.Config.build(load_preset("PARS", "halfcheetah-medium-v2"))
    assert (cheetah.reward_scale, cheetah.alpha, cheetah.target_noise, cheetah.target_subset) == (5.0, 1e-4, 0.0, 2)
    assert (cheetah.online_actor_subset, cheetah.offline_ratio, cheetah.q_min) == (10, 0.05, -366.0)
    hopper = PARS.Config.build(load_preset("PARS", "hopper-medium-replay-v2"))
    assert (hopper.alpha, hopper.online_alpha, hopper.target_subset, hopper.q_min) == (0.01, 0.1, 10, -166.0)


def test_a_variant_is_asked_for_by_name_and_an_unknown_one_is_refused():
    agent = TD3BC(toy_dataset(name="hopper-medium-v2"), preset="simple-ingredients", batch_size=32)
    assert (agent.config.pessimism, agent.config.policy_noise, agent.config.actor_tau) == (0.5, 0.2, 1.0)
    assert (agent.config.reward_shift, agent.config.batch_size) == (0.0, 32)  # settings win
    with pytest.raises(ValueError, match=r"TD3BC has no preset 'modern'; it has .*simple-ingredients"):
        TD3BC(toy_dataset(), preset="modern")


def test_a_variant_may_have_a_table_for_the_dataset_and_does_not_take_the_datasets_own():
    # Cetin et al. 2024, figure 7: lambda 0 and advantages up to 1 on AntMaze. IQL's own temperature there is 0.1.
    maze = IQL.Config.build(load_preset("IQL", "antmaze-large-play-v0", "simple-ingredients"))
    assert (maze.pessimism, maze.max_advantage, maze.reward_shift, maze.temperature) == (0.0, 1.0, -1.0, 0.5)
    # Its name begins like theirs, but its rewards are not D4RL's.
    assert load_preset("IQL", "antmaze-large-navigate-v0", "simple-ingredients")["pessimism"] == 0.5


def test_a_dataset_without_a_preset_gets_the_defaults():
    assert load_preset("PARS", "my-robot-logs") == {}
    assert load_preset("NoSuchAgent", "hopper-medium-v2") == {}


# ASPC has one setting for all data: its defaults.
@pytest.mark.parametrize("cls", [cls for name, cls in AGENTS.items() if name != "ASPC"])
def test_every_table_of_every_preset_file_builds_a_config(cls):
    tables = tomllib.loads((PRESETS / f"{cls.__name__.lower()}.toml").read_text())
    assert tables
    for name, table in tables.items():
        cls.Config.build(load_preset(cls.__name__, name, name))
        for dataset in (key for key, value in table.items() if isinstance(value, dict)):
            cls.Config.build(load_preset(cls.__name__, dataset, name))
        if not any(isinstance(value, dict) for value in table.values()):
            cls.Config.build(load_preset(cls.__name__, name))


def test_an_agent_takes_the_preset_of_its_dataset_says_so_and_lets_settings_win(capsys):
    agent = PARS(toy_dataset(name="antmaze-umaze-v2"), critic_hidden=(4,), actor_hidden=(4,), beta=0.5, verbose=1)
    assert agent.config.reward_scale == 10_000.0
    assert agent.config.beta == 0.5
    assert "the paper's settings for antmaze-umaze-v2" in capsys.readouterr().out


def test_an_agent_and_its_checkpoint_say_which_preset_was_taken(tmp_path, capsys):
    small = {"critic_hidden": (4,), "actor_hidden": (4,)}
    taken = PARS(toy_dataset(name="antmaze-umaze-v2"), **small)
    variant = PARS(toy_dataset(name="antmaze-umaze-v2"), preset="antmaze", **small)
    none = PARS(toy_dataset(name="my-robot"), verbose=1, **small)
    assert "PARS: no preset for my-robot: the defaults" in capsys.readouterr().out
    assert (taken.preset, variant.preset, none.preset) == ("antmaze-umaze-v2", "antmaze", None)
    path = variant.save(tmp_path / "variant.zip")
    with zipfile.ZipFile(path) as file:
        assert json.loads(file.read("config.json"))["preset"] == "antmaze"
    loaded = PARS.load(path)
    assert (loaded.preset, loaded.config) == ("antmaze", variant.config)
    assert PARS.load(none.save(tmp_path / "none.zip")).preset is None
