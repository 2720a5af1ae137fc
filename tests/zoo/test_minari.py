"""The Minari reader against datasets that Minari's own library wrote."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from zoo.datasets.checks import DatasetNotFoundError, DatasetValueError
from zoo.datasets.load import load_dataset
from zoo.evaluation.envs import make_env

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # minari's, of missing authors

LINE = Box(-np.inf, np.inf, (1,))
BOX = Box(-2.0, 2.0, (1,), np.float32)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def episode(start: float, steps: int, **changes):
    """Observation start + t, action t / 10, reward t; truncated at its end."""
    from minari.data_collector import EpisodeBuffer

    fields = {
        "observations": start + np.arange(steps + 1.0, dtype=np.float32)[:, None],
        "actions": np.arange(steps, dtype=np.float32)[:, None] / 10,
        "rewards": np.arange(steps, dtype=np.float64),
        "terminations": np.zeros(steps, bool),
        "truncations": np.arange(steps) == steps - 1,
    }
    return EpisodeBuffer(**(fields | changes))


def create(*episodes, name="toy/line-v0", observations=LINE, actions=BOX, **options):
    minari.create_dataset_from_buffers(
        name, list(episodes), observation_space=observations, action_space=actions, **options
    )
    return name


def test_every_transition_has_the_observation_that_followed_it():
    name = create(episode(0.0, 3), episode(50.0, 2, terminations=[False, True], truncations=[False, False]))
    dataset = load_dataset(name)
    assert dataset.name == name
    assert dataset.observations[:, 0].tolist() == [0.0, 1.0, 2.0, 50.0, 51.0]
    assert dataset.next_observations[:, 0].tolist() == [1.0, 2.0, 3.0, 51.0, 52.0]
    assert dataset.rewards.tolist() == [0.0, 1.0, 2.0, 0.0, 1.0]
    assert np.flatnonzero(dataset.terminations).tolist() == [4]
    assert np.flatnonzero(dataset.truncations).tolist() == [2]
    assert dataset.episode_ids.tolist() == [0, 0, 0, 1, 1]
    assert dataset.action_space == BOX


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_rows_are_those_of_minaris_own_iterator(data_format):
    if data_format != "hdf5":
        pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    name = create(*(episode(rng.normal(), n) for n in (4, 1, 7)), data_format=data_format)
    dataset = load_dataset(name)
    theirs = list(minari.load_dataset(name).iterate_episodes())
    assert np.array_equal(dataset.observations, np.concatenate([e.observations[:-1] for e in theirs]).astype("f4"))
    assert np.array_equal(dataset.next_observations, np.concatenate([e.observations[1:] for e in theirs]).astype("f4"))
    assert np.array_equal(dataset.actions, np.concatenate([e.actions for e in theirs]))
    assert dataset.episode_lengths().tolist() == [4, 1, 7]


def test_a_dataset_is_found_by_id_folder_data_folder_and_main_file(root):
    create(episode(0.0, 3))
    for path in ("toy/line-v0", "toy/line-v0/data", "toy/line-v0/data/main_data.hdf5"):
        assert load_dataset(root / path).name == "toy/line-v0"


def test_nested_observations_are_in_the_order_of_gymnasiums_flattening():
    space = Dict({
        "zeta": Box(-9.0, 9.0, (2,), np.float64),
        "alpha": Tuple([Box(-9.0, 9.0, (1,), np.float64), Box(-9.0, 9.0, (2, 2), np.float64)]),
    })  # fmt: skip
    space.seed(1)
    samples = [space.sample() for _ in range(3)]
    observations = {
        "zeta": np.stack([s["zeta"] for s in samples]),
        "alpha": tuple(np.stack([s["alpha"][i] for s in samples]) for i in range(2)),
    }
    dataset = load_dataset(create(episode(0.0, 2, observations=observations), observations=space))
    flat = np.stack([gymnasium.spaces.flatten(space, s) for s in samples]).astype(np.float32)
    assert np.array_equal(dataset.observations, flat[:-1])
    assert np.array_equal(dataset.next_observations, flat[1:])
    assert any("concatenated" in warning for warning in dataset.warnings)


class Goal(gymnasium.Env):
    """A dictionary of observations, as the mazes of gymnasium-robotics have it, in another order than its keys'."""

    observation_space = Dict(observation=Box(-1.0, 1.0, (2,)), desired_goal=Box(-1.0, 1.0, (1,)))
    action_space = BOX

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"observation": np.zeros(2, np.float32), "desired_goal": np.ones(1, np.float32)}, {}


def test_make_env_concatenates_in_the_order_of_the_data(monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Goal-v0", gymnasium.envs.registration.EnvSpec("Goal-v0", Goal))
    recorded = {"observation": np.zeros((2, 2)), "desired_goal": np.ones((2, 1))}
    dataset = load_dataset(create(episode(0.0, 1, observations=recorded), observations=Goal.observation_space))
    env = make_env("Goal-v0")
    assert dataset.observations[0].tolist() == env.reset()[0].tolist() == [1.0, 0.0, 0.0]
    assert env.observation_space.shape == dataset.observation_space.shape


def test_environment_is_made_as_it_was_recorded():
    spec = gymnasium.spec("Pendulum-v1")
    spec = gymnasium.envs.registration.EnvSpec.from_json(spec.to_json())
    spec.kwargs = {"g": 2.5}
    space = Box(-8.0, 8.0, (3,))
    create(episode(0.0, 1, observations=np.zeros((2, 3))), env=spec, observations=space)
    dataset = load_dataset("toy/line-v0")
    assert dataset.env_id == "Pendulum-v1"
    assert json.loads(dataset.provenance["env_kwargs"]) == {"g": 2.5}
    assert make_env(dataset, trust=True).unwrapped.g == 2.5


def test_provenance_keeps_who_made_it_and_its_reference_returns():
    create(episode(0.0, 1), author={"B", "A"}, algorithm_name="PID")
    minari.load_dataset("toy/line-v0").storage.update_metadata({"ref_min_score": 1.0, "ref_max_score": 5.0})
    provenance = load_dataset("toy/line-v0").provenance
    assert (provenance["author"], provenance["algorithm_name"]) == ("A, B", "PID")
    assert (provenance["ref_min_score"], provenance["ref_max_score"]) == (1.0, 5.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actions": Discrete(2)}, r"actions are Discrete\(2\), expected a Box"),
        ({"observations": Discrete(2)}, r"observations hold Discrete\(2\), expected boxes of numbers"),
        ({"observations": Box(0, 255, (4, 4, 3), np.uint8)}, "neither images nor categories"),
    ],
)
def test_spaces_that_agents_cannot_read_are_refused(options, message):
    name = create(**options)
    with pytest.raises(DatasetValueError, match=message):
        load_dataset(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncations": [True, False, False]}, "episode 0 is truncated in step 0 and goes on for 2 more"),
        ({"observations": np.zeros((2, 1))}, r"episode 0 has observations \(2, 1\)"),
        ({"rewards": np.array([0.0, np.inf, 0.0])}, "rewards holds 1 NaN or inf, the first in row 1"),
        ({"actions": np.array([[0.0], [9.0], [0.0]])}, "1 actions lie outside the action box; the worst is 9"),
    ],
)
def test_broken_episodes_are_refused(changes, message):
    name = create(episode(0.0, 3, **changes))
    with pytest.raises(DatasetValueError, match=message):
        load_dataset(name)


def test_damaged_metadata_and_cut_files_are_refused(root):
    create(episode(0.0, 3))
    data = root / "toy/line-v0/data"
    main = data / "main_data.hdf5"
    main.write_bytes(main.read_bytes()[:-100])
    with pytest.raises(DatasetValueError, match=r"toy/line-v0 in .* is damaged"):
        load_dataset("toy/line-v0")
    (data / "metadata.json").write_text("{")
    with pytest.raises(DatasetValueError, match="minari cannot open"):
        load_dataset("toy/line-v0")


def test_id_that_is_not_there_is_answered_with_the_close_ones():
    create(episode(0.0, 1))
    with pytest.raises(DatasetNotFoundError, match=r"Close names: toy/line-v0"):
        load_dataset("toy/lines-v0")


def test_without_the_package_the_extra_is_named(monkeypatch):
    create(episode(0.0, 1))
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(ImportError, match=r"pip install 'offline-agent-zoo\[minari\]'"):
        load_dataset("toy/line-v0")
