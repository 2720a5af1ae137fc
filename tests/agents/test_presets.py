"""The papers' per-dataset settings: complete, valid, and found by the dataset's name."""

import json
import shutil
import tomllib
import zipfile

import numpy as np
import pytest

import zoo
from tests.support.data import toy_dataset
from tests.support.paths import ROOT
from zoo.agents import AGENTS, IQL, PARS, TD3BC, TD3BCSA
from zoo.agents.core.presets import load_preset
from zoo.datasets.dataset import OfflineDataset

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
    with pytest.raises(ValueError, match=r"TD3BC has no preset 'paper'; it has .*simple-ingredients"):
        TD3BC(toy_dataset(), preset="paper")


def test_a_variant_may_have_a_table_for_the_dataset_and_does_not_take_the_datasets_own():
    # Cetin et al. 2024, figure 7: lambda 0 and advantages up to 1 on AntMaze. IQL's own temperature there is 0.1.
    maze = IQL.Config.build(load_preset("IQL", "antmaze-large-play-v0", "simple-ingredients"))
    assert (maze.pessimism, maze.max_advantage, maze.reward_shift, maze.temperature) == (0.0, 1.0, -1.0, 0.5)
    # Its name begins like theirs, but its rewards are not D4RL's.
    assert load_preset("IQL", "antmaze-large-navigate-v0", "simple-ingredients")["pessimism"] == 0.5


def test_a_variant_may_begin_with_another_one_or_with_the_datasets_own_table():
    large = load_preset("IQL", "antmaze-large-play-v0", "large")
    assert (large["actor_hidden"], large["max_advantage"], large["weights"]) == ([1024] * 5, 1.0, "softmax")
    own, paper = load_preset("CQLSA", "walker2d-medium"), load_preset("CQLSA", "walker2d-medium", "paper")
    assert paper == own | {"n_increments": 20, "anneal_shape": "linear", "online_buffer": "subset"}
    assert load_preset("CQLSA", "antmaze-umaze", "paper")["n_increments"] == 40
    assert load_preset("CQLSA", "my-robot-logs", "paper") == {
        "n_increments": 20,
        "anneal_shape": "linear",
        "online_buffer": "subset",
    }


def test_a_dataset_without_a_preset_gets_the_defaults():
    assert load_preset("PARS", "my-robot-logs") == {}
    assert load_preset("NoSuchAgent", "hopper-medium-v2") == {}


# ASPC and BC have one setting for all data: their defaults.
@pytest.mark.parametrize("cls", [cls for name, cls in AGENTS.items() if name not in ("ASPC", "BC")])
def test_every_table_of_every_preset_file_builds_a_config(cls):
    tables = tomllib.loads((PRESETS / f"{cls.__name__.lower()}.toml").read_text())
    assert tables
    for name, table in tables.items():
        cls.Config.build(load_preset(cls.__name__, name, name))
        for dataset in (key for key, value in table.items() if isinstance(value, dict)):
            cls.Config.build(load_preset(cls.__name__, dataset, name))
        if not any(isinstance(value, dict) for value in table.values()):
            cls.Config.build(load_preset(cls.__name__, name))


def data_of(sizes: tuple[int, int], rewards: float = 0.0, **about) -> OfflineDataset:
    """Ten random rows with these sizes of observations and actions."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(11, sizes[0]))
    return OfflineDataset.from_arrays(
        observations[:-1], rng.uniform(-1, 1, (10, sizes[1])), np.full(10, rewards), observations[1:],
        np.zeros(10, bool), np.arange(10) == 9, **about,
    )  # fmt: skip


def maze(**about) -> OfflineDataset:
    return data_of((29, 8), provenance={"benchmark": "antmaze-umaze-v2"}, **about)


TINY = {"critic_hidden": (4,), "actor_hidden": (4,)}


def test_an_agent_takes_the_preset_of_its_dataset_says_so_and_lets_settings_win(capsys):
    agent = PARS(maze(), **TINY, beta=0.5, verbose=1)
    assert agent.config.reward_scale == 10_000.0
    assert agent.config.beta == 0.5
    assert "the paper's settings for antmaze-umaze-v2" in capsys.readouterr().out


def test_a_set_of_a_known_family_without_published_settings_is_told_with_those_that_have_them():
    ultra = data_of((29, 8), provenance={"benchmark": "antmaze-ultra-play-v0"})
    with pytest.warns(UserWarning, match=r"no settings are published for antmaze-ultra-play, .*antmaze-large-play"):
        agent = IQL(ultra, **TINY)
    assert (agent.preset, agent.config) == (None, IQL.Config(**TINY))
    assert PARS(ultra, **TINY).preset == "antmaze-ultra-play-v0"


def test_a_name_is_no_evidence_the_defaults_are_used_and_the_preset_is_named():
    own = data_of((11, 3), name="hopper-medium-replay")
    with pytest.warns(UserWarning, match=r"not known to be .* defaults .* preset='hopper-medium-replay'"):
        agent = PARS(own, **TINY)
    assert (agent.preset, agent.config) == (None, PARS.Config(**TINY))
    asked = PARS(own, preset="hopper-medium-replay", **TINY)
    assert (asked.preset, asked.config.q_min) == ("hopper-medium-replay", -166.0)
    assert PARS(own, preset="hopper-medium-replay-v2", **TINY).config == asked.config


def test_the_embedded_set_is_known_by_its_name_and_by_its_bytes(tmp_path):
    embedded = zoo.load_dataset("hopper-medium-replay")
    shutil.copy(PRESETS.parents[1] / "zoo/datasets/embedded/hopper-medium-replay.hdf5", tmp_path / "mine.hdf5")
    copied = zoo.load_dataset(tmp_path / "mine.hdf5")
    assert PARS(embedded, **TINY).config == PARS(copied, **TINY).config
    assert PARS(copied, **TINY).preset == "hopper-medium-replay"


def test_a_preset_that_contradicts_the_data_says_so():
    with pytest.warns(UserWarning, match=r"for 11 observations and 3 actions, arrays has 29 and 8"):
        PARS(data_of((29, 8)), preset="hopper-medium", **TINY)
    with pytest.warns(UserWarning, match=r"29 observations and 8 actions.* has 3 and 2: the defaults"):
        assert PARS(data_of((3, 2), provenance={"benchmark": "antmaze-umaze-v2"}), **TINY).preset is None
    with pytest.warns(UserWarning, match=r"q_min=-166, above .* -3 / \(1 - 0.99\) = -300"):  # by hand
        PARS(data_of((11, 3), rewards=-3.0), preset="hopper-medium-replay", **TINY)
    with pytest.warns(UserWarning, match=r"min_return=1800 .* the best of arrays returns 10"):
        TD3BCSA(data_of((11, 3), rewards=1.0), preset="hopper-medium", actor_hidden=(4,))


def test_an_agent_and_its_checkpoint_say_which_preset_was_taken(tmp_path, capsys):
    taken = PARS(maze(), **TINY)
    variant = PARS(maze(), preset="antmaze", **TINY)
    none = PARS(toy_dataset(name="my-robot"), verbose=1, **TINY)
    assert "PARS: no preset for my-robot: the defaults" in capsys.readouterr().out
    assert (taken.preset, variant.preset, none.preset) == ("antmaze-umaze-v2", "antmaze", None)
    path = variant.save(tmp_path / "variant.zip")
    with zipfile.ZipFile(path) as file:
        assert json.loads(file.read("config.json"))["preset"] == "antmaze"
    loaded = PARS.load(path)
    assert (loaded.preset, loaded.config) == ("antmaze", variant.config)
    assert PARS.load(none.save(tmp_path / "none.zip")).preset is None
