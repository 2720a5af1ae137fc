"""One small arm log, written by the libraries that own the formats. Three episodes of 4 rows, two joints, two torques.

Episode 0 ends in success (reward 9.95), 1 in a failure (-5), 2 by the time limit. T observations, T actions, T rewards.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

EPISODES, STEPS = 3, 4
ROWS = EPISODES * STEPS
NAMES = ("q1", "q2")
TORQUES = ("tau1_cmd", "tau2_cmd")
LOW, HIGH = (-40.0, -8.0), (40.0, 12.0)  # N m: asymmetric

MAP = {
    "control_rate_hz": 20.0,
    "observations": [
        {"name": "q1", "unit": "rad", "low": -3.2, "high": 3.2},
        {"name": "q2", "unit": "rad"},
    ],
    "actions": [
        {"name": "tau1_cmd", "unit": "N m", "low": -40.0, "high": 40.0},
        {"name": "tau2_cmd", "unit": "N m", "low": -8.0, "high": 12.0},
    ],
    "reward": "reward",
    "episode": "episode",
    "terminated": "success | failed",
    "time": "t",
}
STATED = {key: MAP[key] for key in ("control_rate_hz", "observations", "actions")}


def columns() -> dict[str, np.ndarray]:
    """The log by column, (12,) each."""
    rng = np.random.default_rng(0)
    last = np.arange(ROWS) % STEPS == STEPS - 1
    episode = np.arange(ROWS) // STEPS
    rewards = np.full(ROWS, -0.05)
    rewards[last] = (9.95, -5.0, -0.05)
    return {
        "t": 0.05 * np.arange(ROWS),
        "episode": episode,
        "q1": rng.normal(size=ROWS).round(3),
        "q2": rng.normal(size=ROWS).round(3),
        "tau1_cmd": rng.uniform(-40, 40, ROWS).round(3),
        "tau2_cmd": rng.uniform(-8, 12, ROWS).round(3),
        "reward": rewards,
        "success": last & (episode == 0),
        "failed": last & (episode == 1),
    }


def arrays() -> dict[str, np.ndarray]:
    """The same under the names of from_columns."""
    log = columns()
    return {
        "observations": np.stack([log[name] for name in NAMES], 1),
        "actions": np.stack([log[name] for name in TORQUES], 1),
        "rewards": log["reward"],
        "terminations": log["success"] | log["failed"],
        "episode_ids": log["episode"],
    }


def episode(i: int) -> dict[str, np.ndarray]:
    """The columns of one episode, (4,) each."""
    return {name: column[i * STEPS : (i + 1) * STEPS] for name, column in columns().items()}


def write_csv(path: Path) -> Path:
    import csv

    log = columns()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(log)
        writer.writerows(zip(*(column.tolist() for column in log.values()), strict=True))
    return path


def write_parquet(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(columns()), path)
    return path


def write_hdf5(path: Path) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        file.update(arrays())
        file.attrs.update({"action_low": LOW, "action_high": HIGH})
    return path


def write_npz(path: Path) -> Path:
    np.savez(path, **arrays(), action_low=LOW, action_high=HIGH)
    return path


def write_npz_folder(path: Path) -> Path:
    path.mkdir()
    for i in range(EPISODES):
        np.savez(path / f"episode_{i}.npz", **episode(i))
    return path


def write_npy_folder(path: Path) -> Path:
    for i in range(EPISODES):
        (path / f"episode_{i}").mkdir(parents=True)
        for name, column in episode(i).items():
            np.save(path / f"episode_{i}" / f"{name}.npy", column)
    return path


def write_robomimic(path: Path) -> Path:
    """In robomimic's layout; next_obs of the last row repeats its own, as its converters do."""
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = '{"env_name": "Arm", "type": 1, "env_kwargs": {}}'
        for i in range(EPISODES):
            log = episode(i)
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = STEPS
            demo["actions"] = np.stack([log[name] for name in TORQUES], 1)
            demo["rewards"] = log["reward"]
            demo["dones"] = (log["success"] | log["failed"]).astype(np.int64)
            demo["obs/joints"] = np.stack([log[name] for name in NAMES], 1)
            demo["obs/camera"] = np.zeros((STEPS, 84, 84, 3), np.uint8)
    return path


def write_lerobot(path: Path) -> Path:
    """LeRobot's v3 layout: one parquet file of all episodes, features in meta/info.json."""
    import json

    import pyarrow as pa
    import pyarrow.parquet

    log = columns()
    vector = {"dtype": "float64", "shape": [2]}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "arm",
        "total_episodes": EPISODES,
        "total_frames": ROWS,
        "fps": 20,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": {
            "observation.state": {**vector, "names": {"motors": list(NAMES)}},
            "action": {**vector, "names": list(TORQUES)},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            "episode_index": {"dtype": "int64", "shape": [1], "names": None},
        },
    }
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(info))
    state, action = (np.stack([log[name] for name in names], 1).ravel() for names in (NAMES, TORQUES))
    table = {
        "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state), 2),
        "action": pa.FixedSizeListArray.from_arrays(pa.array(action), 2),
        "timestamp": np.tile(0.05 * np.arange(STEPS), EPISODES).astype(np.float32),
        "frame_index": np.tile(np.arange(STEPS), EPISODES),
        "episode_index": log["episode"],
        "index": np.arange(ROWS),
        "task_index": np.zeros(ROWS, np.int64),
        "next.reward": log["reward"],
        "next.success": log["success"],
        "failed": log["failed"],
    }
    (path / "data" / "chunk-000").mkdir(parents=True)
    pyarrow.parquet.write_table(pa.table(table), path / "data" / "chunk-000" / "file-000.parquet")
    return path


BAG_MAP = {
    **MAP,
    "observations": [
        {"name": "q1", "column": "/joint_states.position[q1]", "unit": "rad", "low": -3.2, "high": 3.2},
        {"name": "q2", "column": "/joint_states.position[q2]", "unit": "rad"},
    ],
    "actions": [
        {**entry, "column": f"/command.data[{i}]"}
        for i, entry in enumerate(MAP["actions"])  # type: ignore[arg-type]
    ],
    "tick": "/command",
    "reward": "/reward.data",
    "terminated": "`/outcome.data` == 1",
    "episode": "file",
    "time": "time_s",
}


def messages(i: int) -> list[tuple[str, str, int, dict]]:
    """Topic, type, nanoseconds and fields of one episode's messages, in time order.

    Joint states come twice as often as commands, in an order of names that changes; each command follows the joint
    state that it was computed from by 2 ms. Between two commands lies a joint state that no row must see.
    """
    log, start, found = episode(i), 1_700_000_000 * 10**9, []
    for t in range(STEPS):
        now = start + t * 50_000_000
        names = list(NAMES) if t % 2 == 0 else list(NAMES)[::-1]
        state = {"name": names, "position": np.array([log[name][t] for name in names])}
        between = {"name": list(NAMES), "position": np.array([99.0, 99.0])}
        over = float(log["success"][t] or log["failed"][t])
        found += [
            ("/joint_states", "sensor_msgs/msg/JointState", now, state),
            ("/reward", "std_msgs/msg/Float64", now + 1_000_000, {"data": float(log["reward"][t])}),
            ("/outcome", "std_msgs/msg/Float64", now + 1_000_000, {"data": over}),
            ("/command", "std_msgs/msg/Float64MultiArray", now + 2_000_000,
             {"data": np.array([log[name][t] for name in TORQUES])}),
            ("/joint_states", "sensor_msgs/msg/JointState", now + 25_000_000, between),
        ]  # fmt: skip
    return found


def message_of(store, kind: str, stamp: int, fields: dict):
    """A message of rosbags' types."""
    types = store.types
    if kind.endswith("JointState"):
        header = types["std_msgs/msg/Header"]
        time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        extra = {"seq": 0} if "seq" in header.__dataclass_fields__ else {}
        nothing = np.zeros(0)
        return types[kind](
            header=header(stamp=time, frame_id="arm", **extra), velocity=nothing, effort=nothing, **fields
        )
    if kind.endswith("MultiArray"):
        layout = types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
        return types[kind](layout=layout, **fields)
    return types[kind](**fields)


def write_ros1(path: Path, i: int) -> Path:
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store, connections = get_typestore(Stores.ROS1_NOETIC), {}
    with Writer(path) as writer:
        for topic, kind, stamp, fields in messages(i):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            content = store.serialize_ros1(message_of(store, kind, stamp, fields), kind)
            writer.write(connections[topic], stamp, content)
    return path


def write_ros2(path: Path, i: int) -> Path:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore

    store, connections = get_typestore(Stores.ROS2_HUMBLE), {}
    with Writer(path, version=9) as writer:
        for topic, kind, stamp, fields in messages(i):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], stamp, store.serialize_cdr(message_of(store, kind, stamp, fields), kind))
    return path


DEFINITIONS = {
    "std_msgs/msg/Float64": "float64 data",
    "std_msgs/msg/Float64MultiArray": "float64[] data",
    "sensor_msgs/msg/JointState": "builtin_interfaces/Time stamp\nstring[] name\nfloat64[] position\n"
    + "=" * 80
    + "\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec",
}


def write_mcap(path: Path, i: int) -> Path:
    from mcap_ros2.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file)
        schemas = {kind: writer.register_msgdef(kind, text) for kind, text in DEFINITIONS.items()}
        for topic, kind, stamp, fields in messages(i):
            plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in fields.items()}
            if kind.endswith("JointState"):
                plain["stamp"] = SimpleNamespace(sec=stamp // 10**9, nanosec=stamp % 10**9)
            writer.write_message(topic, schemas[kind], SimpleNamespace(**plain), log_time=stamp, publish_time=stamp)
        writer.finish()
    return path
