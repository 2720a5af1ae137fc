"""The same log through every door gives the same dataset, each file written by the library that owns the format."""

import numpy as np
import pytest

from tests.support import arm_log
from zoo import Episode, from_columns, from_episodes, load_dataset, read_logs
from zoo.datasets.checks import DatasetKeyError, DatasetValueError
from zoo.datasets.dataset import STORED, OfflineDataset

pytest.importorskip("pyarrow")

BOX = {"action_low": arm_log.LOW, "action_high": arm_log.HIGH}


def expected() -> dict[str, np.ndarray]:
    """Worked out by hand: every row but the last of episode 2, whose successor is not in the log."""
    arrays = arm_log.arrays()
    rows = np.arange(11)
    following = np.array([1, 2, 3, 3, 5, 6, 7, 7, 9, 10, 11])  # terminal rows repeat their own observation
    return {
        "observations": arrays["observations"][rows].astype(np.float32),
        "actions": arrays["actions"][rows].astype(np.float32),
        "rewards": np.array([-0.05, -0.05, -0.05, 9.95, -0.05, -0.05, -0.05, -5, -0.05, -0.05, -0.05], np.float32),
        "next_observations": arrays["observations"][following].astype(np.float32),
        "terminations": np.isin(rows, (3, 7)),
        "truncations": rows == 10,
        "episode_ids": rows // 4,
    }


def check(dataset: OfflineDataset) -> None:
    for name in STORED:
        assert np.array_equal(dataset.column(name), expected()[name]), name
    assert (dataset.action_space.low.tolist(), dataset.action_space.high.tolist()) == (
        list(arm_log.LOW),
        list(arm_log.HIGH),
    )
    assert any("2 last rows are terminal and kept" in warning for warning in dataset.warnings)
    assert any("1 last rows are not terminal" in warning for warning in dataset.warnings)


def test_columns_and_episodes():
    check(from_columns(arm_log.arrays() | BOX))
    space = from_columns(arm_log.arrays() | BOX).action_space
    parts = []
    for i in range(arm_log.EPISODES):
        log = arm_log.episode(i)
        wide = [np.stack([log[name] for name in names], 1) for names in (arm_log.NAMES, arm_log.TORQUES)]
        parts.append(Episode(*wide, log["reward"], bool((log["success"] | log["failed"])[-1])))
    check(from_episodes(parts, action_space=space))


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz_folder", "npy_folder"])
def test_columns_of_names_with_a_map(tmp_path, kind):
    path = getattr(arm_log, f"write_{kind}")(tmp_path / f"arm.{kind}")
    changes = {"episode": "file"} if kind.endswith("folder") else {}
    dataset = load_dataset(path, map=arm_log.MAP | changes)
    check(dataset)
    assert dataset.stated == arm_log.STATED
    assert dataset.provenance["file"] == path.name
    assert len(str(dataset.provenance["sha256"])) == 64


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_arrays_that_say_what_they_are(tmp_path, kind):
    path = getattr(arm_log, f"write_{kind}")(tmp_path / f"arm.{kind}")
    check(load_dataset(path))
    named = {kind: [{k: v for k, v in e.items() if k in ("name", "unit")} for e in arm_log.MAP[kind]]
             for kind in ("observations", "actions")}  # fmt: skip
    dataset = load_dataset(path, map={"control_rate_hz": 20.0, **named})  # a map may only name what is there
    check(dataset)
    assert dataset.observation_names == arm_log.NAMES
    assert dataset.stated["actions"][1] == {"name": "tau2_cmd", "unit": "N m", "low": -8.0, "high": 12.0}


def test_robomimic_with_and_without_a_map(tmp_path):
    path = arm_log.write_robomimic(tmp_path / "demos.hdf5")
    with pytest.raises(DatasetValueError, match="lie outside the action box"):  # robomimic's actions are in [-1, 1]
        load_dataset(path)
    limits = [{"low": low, "high": high} for low, high in zip(arm_log.LOW, arm_log.HIGH, strict=True)]
    check(load_dataset(path, map={"actions": limits}))
    assert "camera" not in str(load_dataset(path, map={"actions": limits}).stated)


def test_lerobot(tmp_path):
    path = arm_log.write_lerobot(tmp_path / "arm")
    with pytest.raises(DatasetKeyError, match="the map lacks terminated"):
        load_dataset(path)
    limits = [{"low": low, "high": high} for low, high in zip(arm_log.LOW, arm_log.HIGH, strict=True)]
    dataset = load_dataset(path, map={"terminated": "`next.success` | failed", "actions": limits})
    check(dataset)
    assert dataset.observation_names == ("observation.state[q1]", "observation.state[q2]")
    assert dataset.stated["control_rate_hz"] == 20.0


@pytest.mark.parametrize(("kind", "suffix"), [("ros1", ".bag"), ("ros2", ""), ("mcap", ".mcap")])
def test_bags_pair_each_command_with_what_was_known(tmp_path, kind, suffix):
    pytest.importorskip("rosbags" if kind.startswith("ros") else "mcap_ros2")
    files = [getattr(arm_log, f"write_{kind}")(tmp_path / f"run{i}{suffix}", i) for i in range(arm_log.EPISODES)]
    dataset = read_logs(files, arm_log.BAG_MAP)
    check(dataset)
    if kind != "mcap":  # its messages have no header
        check(read_logs(files, arm_log.BAG_MAP | {"clock": "header"}))
    assert dataset.stated == arm_log.STATED


def test_minari(tmp_path, monkeypatch):
    """Minari keeps T + 1 observations, so that its collector knows the last successor, too."""
    minari = pytest.importorskip("minari")
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    buffers = []
    for i in range(arm_log.EPISODES):
        log = arm_log.episode(i)
        obs, actions = (
            np.stack([log[name] for name in names], 1).astype(np.float32) for names in (arm_log.NAMES, arm_log.TORQUES)
        )
        over = log["success"] | log["failed"]
        steps = 4 if over.any() else 3
        buffers.append(
            EpisodeBuffer(
                observations=np.concatenate([obs, obs[-1:]])[: steps + 1],
                actions=actions[:steps],
                rewards=log["reward"][:steps],
                terminations=over[:steps],
                truncations=np.arange(steps) == steps - 1 if steps == 3 else np.zeros(4, bool),
            )
        )
    space = from_columns(arm_log.arrays() | BOX).action_space
    from gymnasium.spaces import Box

    minari.create_dataset_from_buffers(
        "toy/arm-v0", buffers, observation_space=Box(-9, 9, (2,), np.float32), action_space=space
    )
    dataset = load_dataset("toy/arm-v0")
    for name in STORED:
        assert np.array_equal(dataset.column(name), expected()[name]), name


# What a map may say


def csv_of(tmp_path, text: str):
    path = tmp_path / "log.csv"
    path.write_text(text)
    return path


ONE = {
    "observations": ["q"],
    "actions": [{"name": "u", "low": -2.0, "high": 2.0}],
    "reward": "r",
    "terminated": "fail",
    "episode": "file",
}


def test_a_last_row_without_an_action_is_the_last_observation(tmp_path):
    path = csv_of(tmp_path, "q,u,r,fail\n0,1,1,0\n1,2,2,0\n2,,,1\n")
    dataset = load_dataset(path, map=ONE)
    assert dataset.next_observations[:, 0].tolist() == [1.0, 2.0]
    assert dataset.terminations.tolist() == [False, True]
    assert dataset.rewards.tolist() == [1.0, 2.0]


def test_outcome_in_the_next_row(tmp_path):
    path = csv_of(tmp_path, "q,u,r,fail\n0,1,0,0\n1,2,1,0\n2,0,2,1\n")
    dataset = load_dataset(path, map=ONE | {"outcome": "next row"})
    assert dataset.rewards.tolist() == [1.0, 2.0]
    assert dataset.next_observations[:, 0].tolist() == [1.0, 2.0]
    assert dataset.terminations.tolist() == [False, True]


def test_a_reward_in_a_row_without_an_action_is_not_lost(tmp_path):
    path = csv_of(tmp_path, "q,u,r,fail\n0,1,0,0\n1,,7,1\n")
    with pytest.raises(DatasetValueError, match='outcome = "next row"'):
        load_dataset(path, map=ONE)


def test_expressions_text_and_functions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task_of_the_arm.py").write_text(
        "def reward(columns):\n    return 2 * columns['q'] + columns['step']\n"
    )
    path = csv_of(tmp_path, "q,u,r,state,q-2\n0,1,0,run,10\n1,2,0,run,20\n2,0,0,fell,30\n")
    map = ONE | {"terminated": "state == 'fell'", "observations": ["q", {"name": "twice", "column": "`q-2` / 10 * 2"}]}
    dataset = load_dataset(path, map=map | {"reward": "10 * (q > 1) - 0.5 * abs(u)"})
    assert dataset.observations.tolist() == [[0.0, 2.0], [1.0, 4.0], [2.0, 6.0]]
    assert dataset.rewards.tolist() == [-0.5, -1.0, 10.0]
    assert load_dataset(path, map=map | {"reward": "task_of_the_arm:reward"}).rewards.tolist() == [0.0, 3.0, 6.0]
    assert load_dataset(path, map=map | {"reward": "where(last, 5, 0)"}).rewards.tolist() == [0.0, 0.0, 5.0]


@pytest.mark.parametrize(
    ("changes", "rewards", "ids"),
    [
        ({"episode": "run"}, [0.0, 4.0, 2.0, 3.0], [0, 0, 1, 1]),  # interleaved: brought together
        ({"episode": None, "gap_s": 5.0, "time": "t"}, [0.0, 1.0, 2.0, 3.0, 4.0], [0, 0, 0, 0, 1]),
        ({"episode": None, "ends": "r == 1"}, [0.0, 1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1, 1]),
        ({"episode": None, "max_episode_steps": 3}, [0.0, 1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1, 1]),
    ],
)
def test_what_ends_an_episode(tmp_path, changes, rewards, ids):
    path = csv_of(tmp_path, "t,run,q,u,r\n0,a,0,1,0\n1,b,1,1,1\n2,b,2,1,2\n3,b,3,1,3\n90,a,4,1,4\n")
    own = {"terminated": False, "last_row": "keep"} | changes
    if changes.get("episode") == "run":
        rewards, ids = [0.0, 4.0, 1.0, 2.0, 3.0], [0, 0, 1, 1, 1]
    dataset = load_dataset(path, map=ONE | own)
    assert dataset.rewards.tolist() == rewards
    assert dataset.episode_ids.tolist() == ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terminated": None}, "the map lacks terminated"),
        ({"episode": None}, "what ends an episode"),
        ({"rewrad": "r"}, "unknown rewrad; a map may have"),
        ({"reward": "velocity"}, "names 'velocity', which is no column; there are q, u, r, fail"),
        ({"reward": "__import__('os')"}, "is more than an expression of columns"),
        ({"reward": "q.mean()"}, "is more than an expression of columns"),
        ({"actions": ["u"]}, r"state low and high.*u \(sent 1 to 2\)"),
        ({"observations": ["position"]}, "names 'position'"),
        ({"outcome": "later"}, "outcome must be one of same row, next row"),
        ({"gap_s": -1.0}, "gap_s must be a positive number"),
        ({"reward": "no_such_module:reward"}, "cannot be imported"),
    ],
)
def test_maps_that_do_not_fit_are_refused_with_the_key(tmp_path, changes, message):
    path = csv_of(tmp_path, "q,u,r,fail\n0,1,0,0\n1,2,1,0\n")
    with pytest.raises((DatasetKeyError, DatasetValueError), match=message):
        load_dataset(path, map=ONE | changes)


def test_text_where_numbers_are_needed_is_refused(tmp_path):
    path = csv_of(tmp_path, "q,u,r,fail\n0,1,0,no\n1,2,1,yes\n")
    with pytest.raises(DatasetValueError, match="terminated = 'fail' is text; compare it, such as fail == 'no'"):
        load_dataset(path, map=ONE)


def test_a_map_is_read_from_toml(tmp_path):
    path = csv_of(tmp_path, "q,u,r\n0,1,0\n1,2,1\n")
    toml = tmp_path / "map.toml"
    toml.write_text(
        'observations = ["q"]\nreward = "r"\nterminated = false\nepisode = "file"\n'
        'actions = [{name = "u", unit = "N m", low = -2.0, high = 2.0}]\n'
    )
    dataset = load_dataset(path, map=toml)
    assert dataset.stated["actions"] == [{"name": "u", "unit": "N m", "low": -2.0, "high": 2.0}]
    assert len(str(dataset.provenance["map_sha256"])) == 64


# Resampling


def test_a_clock_holds_the_latest_value_and_never_looks_ahead():
    from zoo.datasets.mapping.logmap import LogMap
    from zoo.datasets.mapping.resample import resample
    from zoo.datasets.table import Streams, Topic

    fast = Topic(np.arange(0.0, 1.0, 0.01), {"x": np.arange(0.0, 1.0, 0.01)})
    slow = Topic(np.array([0.095, 0.195, 0.5]), {"u": np.array([1.0, 2.0, 3.0])})
    event = Topic(np.array([0.3]), {"hit": np.array([1.0])})
    streams = Streams("bag", {"/fast": fast, "/slow": slow, "/event": event})
    log_map = LogMap(
        observations=({"column": "/fast.x"},),
        actions=({"column": "/slow.u"},),
        reward="/event.hit",
        control_rate_hz=10.0,
    )
    table = resample(streams, log_map)
    ticks = 0.095 + 0.1 * np.arange(5)
    assert table.columns["time_s"] == pytest.approx(ticks - 0.095)
    assert table.columns["/slow.u"].tolist() == [1.0, 2.0, 2.0, 2.0, 2.0]
    assert table.columns["/event.hit"].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]  # 0 until it was heard
    assert (table.columns["/fast.x"] <= ticks).all()
    assert table.columns["/fast.x"] == pytest.approx([0.09, 0.19, 0.29, 0.39, 0.49])


# The command line


def zoo(monkeypatch, *arguments) -> None:
    from zoo.cli.main import main

    monkeypatch.setattr("sys.argv", ["zoo", *map(str, arguments)])
    main()


def test_map_and_import_from_the_command_line(tmp_path, monkeypatch, capsys):
    path = arm_log.write_csv(tmp_path / "arm.csv")
    zoo(monkeypatch, "data", "map", path, "--out", tmp_path / "map.toml")
    text = (tmp_path / "map.toml").read_text()
    assert 'terminated = "success | failed"  # guess' in text
    assert "control_rate_hz = 20.0  # guess" in text
    assert '{name = "q1"},  # data' in text
    # the guessed limits are the data's, outwards; the person states the robot's
    for name, low, high in zip(arm_log.TORQUES, arm_log.LOW, arm_log.HIGH, strict=True):
        line = next(line for line in text.splitlines() if f'name = "{name}"' in line)
        assert "limits: guess" in line
        text = text.replace(line, f'  {{name = "{name}", unit = "N m", low = {low}, high = {high}}},')
    (tmp_path / "map.toml").write_text(text)
    zoo(monkeypatch, "data", "import", path, tmp_path / "arm.hdf5", "--map", tmp_path / "map.toml")
    assert "11 transitions in 3 episodes; 2 end in a termination, 1 are cut" in capsys.readouterr().out
    dataset = load_dataset(tmp_path / "arm.hdf5")
    for name in STORED:
        assert np.array_equal(dataset.column(name), expected()[name]), name
    assert dataset.stated["actions"][0] == {"name": "tau1_cmd", "unit": "N m", "low": -40.0, "high": 40.0}
    with pytest.raises(SystemExit):  # corrections are not overwritten
        zoo(monkeypatch, "data", "map", path, "--out", tmp_path / "map.toml")


@pytest.mark.parametrize("kind", ["parquet", "npz", "hdf5", "npz_folder", "robomimic", "lerobot"])
def test_every_format_gets_a_first_map_that_toml_reads(tmp_path, kind):
    import tomllib

    from zoo.datasets.load import open_recording
    from zoo.datasets.mapping.guess import first_map

    suffix = {"robomimic": "hdf5", "lerobot": "folder"}.get(kind, kind)
    path = getattr(arm_log, f"write_{kind}")(tmp_path / f"arm.{suffix}")
    found = tomllib.loads(first_map(open_recording(path), "arm"))
    assert len(found["observations"]) == len(found["actions"]) == 2


@pytest.mark.parametrize(("kind", "suffix"), [("ros1", ".bag"), ("mcap", ".mcap")])
def test_the_first_map_of_a_bag_ticks_by_its_commands(tmp_path, kind, suffix):
    import tomllib

    from zoo.datasets.load import open_recording
    from zoo.datasets.mapping.guess import first_map

    path = getattr(arm_log, f"write_{kind}")(tmp_path / f"run{suffix}", 0)
    found = tomllib.loads(first_map(open_recording(path), "run"))
    assert (found["tick"], found["control_rate_hz"]) == ("/command", 20.0)
    assert {"/joint_states.position[q1]", "/joint_states.position[q2]"} <= {
        entry.get("column", entry["name"]) for entry in found["observations"]
    }


def test_limits_from_the_command_line(tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "arm.npz", **arm_log.arrays())
    with pytest.raises(SystemExit):
        zoo(monkeypatch, "data", "info", tmp_path / "arm.npz")
    assert "--action-low" in capsys.readouterr().err
    out = tmp_path / "arm"
    zoo(monkeypatch, "data", "import", tmp_path / "arm.npz", out, "--action-low", -40, -8, "--action-high", 40, 12)
    from zoo import open_packed

    assert open_packed(out).action_space.low.tolist() == list(arm_log.LOW)


def test_arrays_of_any_names_meet_a_map(tmp_path):
    import h5py

    log = arm_log.arrays()
    path = tmp_path / "odd.hdf5"
    with h5py.File(path, "w") as file:
        file["sensors/joints"] = log["observations"]
        file["commands"] = log["actions"]
        file["score"] = log["rewards"][:, None]
        file["done"] = log["terminations"]
        file["run"] = log["episode_ids"]
        file["calibration"] = np.zeros(3)
    with pytest.raises(DatasetKeyError, match=r"lacks observations.*it has calibration, commands, done.*zoo data map"):
        load_dataset(path)
    map = {
        "observations": ["sensors/joints[0]", "sensors/joints[1]"],
        "actions": [
            {"column": f"commands[{i}]", "low": low, "high": high}
            for i, (low, high) in enumerate(zip(arm_log.LOW, arm_log.HIGH, strict=True))
        ],
        "reward": "score",
        "terminated": "done",
        "episode": "run",
    }
    check(load_dataset(path, map=map))


def test_a_map_settles_what_a_readers_own_names_leave_open(tmp_path):
    """dones alone, and torques without limits: the reader refuses, and the same file with a map is read."""
    log = arm_log.arrays()
    np.savez(tmp_path / "arm.npz", dones=log.pop("terminations"), **log)
    with pytest.raises(DatasetKeyError, match="dones cannot tell a failure from a time limit"):
        load_dataset(tmp_path / "arm.npz")
    limits = [{"low": low, "high": high} for low, high in zip(arm_log.LOW, arm_log.HIGH, strict=True)]
    dataset = load_dataset(tmp_path / "arm.npz", map={"terminated": "dones", "actions": limits})
    for name in STORED:
        assert np.array_equal(dataset.column(name), expected()[name]), name


def test_the_doctor_lists_the_keys_of_a_file_of_other_names(tmp_path):
    import h5py

    from zoo.datasets.doctor.doctor import check as examine

    with h5py.File(tmp_path / "odd.hdf5", "w") as file:
        file["sensors/joints"] = np.zeros((3, 2))
    (finding,) = examine(tmp_path / "odd.hdf5")
    assert "it has sensors/joints" in finding.meaning
