"""A run goes on with equal settings, and with no others; data are found again by what they are."""

import shutil

import h5py
import numpy as np
import pytest

import zoo
from tests.support.data import LENGTH, tiny, toy_dataset
from tests.zoo.test_cli import run_cli
from zoo.cli import demonstration as demo
from zoo.cli.resuming import begin_run, differences
from zoo.datasets.reopen import reopen
from zoo.evaluation.callbacks import read_curve

SMALL = ["--set", "actor_hidden=(8,)", "critic_hidden=(8,)", "batch_size=8"]


def write_npz(path, seed: int = 0, rows: int = 20 * LENGTH):
    """Actions in the unit box: what an .npz file is read with."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(rows + 1, 3))
    np.savez(
        path,
        observations=walk[:-1],
        next_observations=walk[1:],
        actions=rng.uniform(-1, 1, (rows, 2)),
        rewards=rng.normal(size=rows),
        terminations=np.zeros(rows, bool),
        truncations=np.arange(rows) % LENGTH == LENGTH - 1,
    )
    return path


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A run of 20 steps on day1.npz, and what begins it."""
    write_npz(tmp_path / "day1.npz")
    monkeypatch.chdir(tmp_path)
    command = ["train", "TD3BC", "day1.npz", "--out", "run", "--steps", "20", *SMALL]
    run_cli(monkeypatch, *command)
    return command


def refused(monkeypatch, capsys, *words: str) -> str:
    """The line in which a command ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_cli(monkeypatch, *words)
    assert stop.value.code == 1
    return capsys.readouterr().err


def test_other_settings_are_refused_each_by_name_and_nothing_changes(started, tmp_path, monkeypatch, capsys):
    write_npz(tmp_path / "day2.npz", seed=1)
    before = (tmp_path / "run" / "final.zip").read_bytes()
    other = ["train", "IQL", "day2.npz", "--out", "run", "--steps", "40", "--seed", "7", "--population", "3"]
    line = refused(monkeypatch, capsys, *other, *SMALL, "gamma=0.5")
    for difference in (
        "agent: was TD3BC, is IQL",
        "dataset: was day1, is day2",
        "seed: was 0, is 7",
        "population: was None, is 3",
        "gamma: was 0.99, is 0.5",
    ):
        assert difference in line
    assert "another --out, or --fresh" in line
    assert len(line.splitlines()) == 1
    assert (tmp_path / "run" / "final.zip").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seed", "1"], "seed: was 0, is 1"),
        (["--sweep", "alpha=(1.0,2.0)"], "population: was None, is 2"),
        (["--precision", "bf16"], "precision: was fp32, is bf16"),
        (["--steps", "10"], "20 steps behind it, --steps 10 are fewer"),
        (["--set", "no_such_field=1"], "no field no_such_field"),
    ],
)
def test_every_kind_of_other_setting_is_refused(started, monkeypatch, capsys, words, says):
    option = words[0]
    command = started[: started.index("--steps")] if option == "--steps" else started
    command = [*command, *SMALL] if option == "--steps" else command
    if option == "--set":
        command, words = started, words[1:]  # one more of the settings at the end
    assert says in refused(monkeypatch, capsys, *command, *words)


def test_the_same_bytes_of_another_size_or_content_are_other_data(started, tmp_path, monkeypatch, capsys):
    write_npz(tmp_path / "day1.npz", seed=5)  # under the same name
    assert "sha256: was" in refused(monkeypatch, capsys, *started)


def test_equal_settings_go_on_and_more_steps_are_more(started, monkeypatch, capsys):
    run_cli(monkeypatch, *started)
    command = [word if word != "20" else "30" for word in started]
    run_cli(monkeypatch, *command)
    assert "going on from run/latest.zip at step 20 of 30" in capsys.readouterr().out
    assert zoo.load("run/final.zip").updates == 30


def test_a_folder_of_an_earlier_version_is_compared_by_its_checkpoint(started, tmp_path, monkeypatch, capsys):
    (tmp_path / "run" / "run.json").unlink()
    assert "seed: was 0, is 3" in refused(monkeypatch, capsys, *started, "--seed", "3")
    run_cli(monkeypatch, *started)


def test_fresh_begins_anew(started, tmp_path, monkeypatch):
    (tmp_path / "run" / "evaluations.csv").write_text("of the old run")
    run_cli(monkeypatch, *started, "--seed", "3", "--fresh")
    assert zoo.load("run/final.zip").seed == 3
    assert read_curve(tmp_path / "run" / "evaluations.csv") == []


def test_a_demo_of_another_seed_is_refused(tmp_path, monkeypatch, capsys):
    begin_run(tmp_path, {"command": "zoo demo", "seed": 0}, fresh=False)
    assert "seed: was 0, is 1" in refused(monkeypatch, capsys, "demo", "--out", str(tmp_path), "--seed", "1")
    (tmp_path / "run.json").unlink()  # an earlier version's
    zoo.PARS(zoo.load_dataset(demo.DATASET), seed=4, **demo.SETTINGS).save(tmp_path / "offline.zip")
    assert "seed: was 4, is 1" in refused(monkeypatch, capsys, "demo", "--out", str(tmp_path), "--seed", "1")


def test_finetuning_another_checkpoint_into_the_same_folder_is_refused(tmp_path, monkeypatch, capsys):
    data = zoo.load_dataset("hopper-medium-replay")
    small = {"actor_hidden": (8,), "critic_hidden": (8,), "batch_size": 8}
    for seed in (0, 1):
        zoo.TD3BC(data, seed=seed, **small).save(tmp_path / f"{seed}.zip")
    words = ["--out", str(tmp_path / "online"), "--steps", "2", "--eval-every", "9", "--workers", "1"]
    run_cli(monkeypatch, "finetune", str(tmp_path / "0.zip"), *words)
    line = refused(monkeypatch, capsys, "finetune", str(tmp_path / "1.zip"), *words)
    assert "checkpoint: was" in line
    line = refused(monkeypatch, capsys, "finetune", str(tmp_path / "0.zip"), "--out", str(tmp_path), "--fresh")
    assert "would remove" in line


def test_differences_go_into_tables_and_skip_what_one_side_does_not_know():
    before = {"seed": 0, "config": {"alpha": 2.5, "hidden": (8,), "old": 1}}
    now = {"seed": 0, "config": {"alpha": 0.1, "hidden": [8], "new": 1}}
    assert differences(before, now) == ["alpha: was 2.5, is 0.1"]


def test_data_are_found_again_by_path_and_refused_when_they_changed(tmp_path):
    path = write_npz(tmp_path / "my.npz")
    agent = tiny(zoo.TD3BC, zoo.load_dataset(path))
    checkpoint = agent.save(tmp_path / "agent.zip")
    spec = zoo.load(checkpoint).spec
    assert len(reopen(spec, checkpoint)) == 20 * LENGTH
    write_npz(path, seed=1, rows=3 * LENGTH)
    with pytest.raises(ValueError, match=r"transitions: was 140, is 21.*SHA-256"):
        reopen(spec, checkpoint)
    path.rename(tmp_path / "moved.npz")
    with pytest.raises(ValueError, match=r"my.npz, which is not there; give --dataset"):
        reopen(spec, checkpoint)
    write_npz(tmp_path / "moved.npz")
    assert len(reopen(spec, checkpoint, str(tmp_path / "moved.npz"))) == 20 * LENGTH


def test_a_file_named_like_the_embedded_set_is_never_taken_for_it(tmp_path):
    own = tmp_path / "hopper-medium-replay.hdf5"
    shutil.copy(zoo.__path__[0] + "/datasets/embedded/hopper-medium-replay.hdf5", own)
    with h5py.File(own, "a") as file:
        file["rewards"][0] = 1.25
    with pytest.warns(UserWarning, match="not known to be"):
        agent = zoo.PARS(zoo.load_dataset(own), actor_hidden=(8,), critic_hidden=(8,))
    assert agent.preset is None
    checkpoint = agent.save(tmp_path / "agent.zip")
    assert reopen(agent.spec, checkpoint).rewards[0] == 1.25
    del agent.spec.provenance["path"]  # as earlier versions wrote it
    with pytest.raises(ValueError, match="SHA-256"):
        reopen(agent.spec, checkpoint)


def test_arrays_in_memory_cannot_be_found_again(tmp_path):
    agent = tiny(zoo.TD3BC, toy_dataset())
    with pytest.raises(ValueError, match=r"does not say where its data 'toy' lie .* give --dataset"):
        reopen(agent.spec, tmp_path / "agent.zip")
