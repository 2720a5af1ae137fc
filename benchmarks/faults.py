"""Kills, signals, full disks and damaged files: does what README and docs/reliability.md promise still hold?

    python benchmarks/faults.py --kills 60 --mutations 500 --seed 0 --json benchmarks/faults.json

Each kind of work runs in a process of its own, which is killed (SIGKILL, or asked to end by SIGTERM, SIGHUP or SIGINT)
after a random time, and begun again until it is done. Then: is what it left whole, is the result the one of a run that
nobody killed, bit for bit where that is promised, and is nothing left beside it? Files of every kind are damaged, and
opened: a declared error that names the file, or something usable, and no more memory than the file can need.
"""

import argparse
import errno
import hashlib
import json
import multiprocessing
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
MEMORY = 1 << 30  # bytes that opening a damaged file may take beyond what the process had
PATIENCE = 20.0  # seconds that opening one may take
FULL = 3  # status of work that the full disk has ended
SMALL: dict[str, Any] = {"actor_hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": 16}
ROWS, OBS, ACT = 300, 3, 2


@dataclass
class Tally:
    """What happened to one kind of work or of file."""

    what: str
    tries: int = 0
    outcomes: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def fail(self, text: str) -> None:
        self.outcomes["FAILED"] += 1
        self.failures.append(text)

    def row(self) -> str:
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return f"| {self.what} | {self.tries} | {said} |"


def dataset() -> Any:
    from zoo.datasets.dataset import OfflineDataset

    rng = np.random.default_rng(0)
    observations, last = rng.normal(size=(ROWS + 1, OBS)), np.arange(ROWS) % 30 == 29
    return OfflineDataset.from_arrays(
        observations=observations[:-1],
        next_observations=observations[1:],
        actions=rng.uniform(-1, 1, (ROWS, ACT)),
        rewards=rng.normal(size=ROWS),
        terminations=np.zeros(ROWS, bool),
        truncations=last,
        name="faults",
        env_id="Pendulum-v1" if ACT == 1 else None,
    )


# Work that is killed ---------------------------------------------------------------------------------------------
#
# A function of a folder. Called again on the same folder it goes on, and when it returns, the work is done.


def train(out: Path) -> None:
    _train(out, "TD3BC", 400)


def preparation(out: Path) -> None:
    _train(out, "SPOT", 20, density_hidden=(16, 16), density_steps=400)


def _train(out: Path, name: str, steps: int, **settings: Any) -> None:
    from zoo.agents import AGENTS
    from zoo.evaluation.callbacks import SaveLatest

    latest, data = out / "latest.zip", dataset()
    cls = AGENTS[name]
    agent = cls.load(latest, device="cpu") if latest.exists() else cls(data, device="cpu", **SMALL, **settings)
    agent.tensorboard_log = str(out / "logs")
    agent.learn_offline(data, steps - agent.num_timesteps, [*curve(out), SaveLatest(latest, 20)])
    agent.save(out / "final.zip")


def finetune(out: Path) -> None:
    from zoo.agents import TD3BC
    from zoo.evaluation.callbacks import SaveLatest

    latest, data = out / "latest.zip", dataset()
    if latest.exists():
        agent = TD3BC.load(latest, device="cpu")
    else:
        agent = TD3BC(data, device="cpu", learning_starts=10, online_buffer="half", **SMALL)
    agent.tensorboard_log = str(out / "logs")
    agent.finetune_online(toy_env(), 300 - agent.env_steps, [*curve(out), SaveLatest(latest, 20)], dataset=data)
    agent.save(out / "final.zip")


def curve(out: Path) -> list:
    from zoo.evaluation.callbacks import Evaluation

    return [Evaluation(toy_env, 50, out / "evaluations.csv", episodes=1)]


def collect(out: Path) -> None:
    from zoo.collecting.collect import collect, random_actor

    if not (out / "data.hdf5").exists():
        collect(toy_env, random_actor, out / "data.hdf5", 3_000, {"policy": "random"}, envs=1)


def packed(out: Path) -> None:
    from zoo.datasets.packing import write_packed

    while len(list(out.glob("packed*"))) < 30:
        write_packed(dataset(), out / f"packed{len(list(out.glob('packed*')))}")


def export(out: Path) -> None:
    """A bundle and its guard, in turns with those of another agent."""
    from zoo.export.bundle import extend, place

    for i in range(120):
        plain, guard = (out.parent / kind / f"{i % 2}" for kind in ("bundles", "guards"))
        place(out / "deploy", {path.name: path.read_bytes() for path in plain.iterdir()})
        extend(out / "deploy", {"disagreement.onnx": (guard / "disagreement.onnx").read_bytes()})


WORK: dict[str, Callable[[Path], None]] = {
    "train": train,
    "preparation": preparation,
    "finetune": finetune,
    "collect": collect,
    "packed": packed,
    "export": export,
}


def toy_env() -> Any:
    import gymnasium as gym
    from gymnasium.spaces import Box

    class Toy(gym.Env):
        observation_space, action_space = Box(-np.inf, np.inf, (OBS,)), Box(-1.0, 1.0, (ACT,))

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.steps, self.place = 0, self.np_random.normal(size=OBS)
            return self.place.astype(np.float32), {}

        def step(self, action: Any) -> Any:
            self.steps += 1
            self.place = 0.9 * self.place + 0.1 * np.append(action, 0.0)
            return self.place.astype(np.float32), float(-np.square(self.place).sum()), False, self.steps >= 20, {}

    return Toy()


def prepare_export(folder: Path) -> None:
    """Two bundles with guards, for `export`."""
    from zoo.agents import TD3BC

    data = dataset()
    for name in ("0", "1"):
        agent = TD3BC(data, seed=int(name), device="cpu", **SMALL).learn_offline(data, 20)
        agent.export_onnx(folder / "bundles" / name)
        shutil.copytree(folder / "bundles" / name, folder / "guards" / name)
        agent.write_guard(data, folder / "guards" / name, quantile=0.9)


def life(name: str, out: Path, largest: int | None) -> int:
    """A child's: the status that it ends with. largest: bytes of a file, as if the disk were full then."""
    from zoo.export.stopping import Stopped, at_once, handled

    if largest is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        with handled(at_once), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            WORK[name](out)
    except Stopped as stop:
        return stop.status
    except OSError as error:
        return FULL if error.errno in (errno.EFBIG, errno.ENOSPC) else 1
    return 0


def check_left(name: str, out: Path) -> list[str]:
    """What is wrong with what a killed process has left: every name that is there must be whole."""
    from zoo.agents import load
    from zoo.datasets.doctor import doctor
    from zoo.evaluation.callbacks import read_curve
    from zoo_robot.inspection import verify

    wrong = []
    for path in (out / "latest.zip", out / "final.zip"):
        if path.exists():
            load(path, device="cpu")
    if (out / "evaluations.csv").exists():
        steps = [point.timesteps for point in read_curve(out / "evaluations.csv")]
        if len(set(steps)) < len(steps):
            wrong.append(f"doubled rows of the curve: {steps}")
    if name == "collect" and (out / "data.hdf5").exists():
        wrong += [f"{finding.title}" for finding in doctor.check(out / "data.hdf5") if finding.severity == "error"]
    if name == "packed":
        wrong += [f"{path.name}: {finding.title}" for path in out.glob("packed*") for finding in doctor.check(path)]
    if name == "export" and (out / "deploy").exists():
        wrong += [finding.text for finding in verify(out / "deploy", "cpu") if finding.bad]
    return wrong


def result(name: str, out: Path) -> dict[str, str]:
    """Hashes of what must be the same as without kills."""
    if name in ("train", "preparation"):
        files = [out / "final.zip", out / "evaluations.csv"]
    elif name == "finetune":  # each part begins with a reset: the same steps, not the same numbers
        from zoo.agents import load
        from zoo.evaluation.callbacks import read_curve

        steps = [point.timesteps for point in read_curve(out / "evaluations.csv")]
        return {"steps": str(load(out / "final.zip", device="cpu").env_steps), "curve": str(steps)}
    elif name == "collect":
        from zoo.collecting.recording import read_episodes

        rows = np.concatenate(list(read_episodes(out / "data.hdf5")))
        return {"rows": hashlib.sha256(rows.tobytes()).hexdigest()}
    elif name == "packed":
        files = sorted(out.glob("packed*/*"))
        return {f"{path.parent.name}/{path.name}": digest(path) for path in files if path.name != "dataset.json"}
    else:
        files = sorted((out / "deploy").iterdir())
    return {path.name: digest(path) for path in files}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kill(name: str, kills: int, rng: np.random.Generator, folder: Path) -> Tally:
    """So many kills of one kind of work, over as many runs as that takes."""
    tally = Tally(f"kills of {name}")
    whole = folder / f"{name}-whole"
    whole.mkdir()
    begun = time.monotonic()
    if run_child(name, whole) != 0:
        raise RuntimeError(f"{name} does not run even where nobody kills it")
    length, expected = time.monotonic() - begun, result(name, whole)
    runs = 0
    while tally.tries < kills:
        out = folder / f"{name}-{runs}"
        out.mkdir()
        runs += 1
        for attempt in range(40):
            number = SIGNALS[rng.integers(len(SIGNALS))] if tally.tries < kills and attempt < 30 else None
            status = run_child(name, out, number, float(rng.uniform(0.0, 0.6 * length)))
            if number is not None and status != 0:
                tally.tries += 1
                tally.outcomes[f"by {signal.Signals(number).name}"] += 1
                if status not in (-number, 128 + number):
                    tally.fail(f"{name}: {signal.Signals(number).name} ended with status {status}")
            try:
                for text in check_left(name, out):
                    tally.fail(f"{name}, left by a kill: {text}")
            except Exception as error:  # whatever a reader raises is the finding
                tally.fail(f"{name}, left by a kill: {type(error).__name__}: {error}")
            if status == 0:
                break
        if status != 0:
            tally.fail(f"{name}: did not end, status {status}")
            continue
        if result(name, out) != expected:
            tally.fail(f"{name}: the result differs from that of a run that nobody killed")
        else:
            tally.outcomes["runs ended as without kills"] += 1
        if left := [path.name for path in out.rglob(".*.part")]:
            tally.fail(f"{name}: left behind {left}")
        shutil.rmtree(out)
    return tally


def run_child(name: str, out: Path, number: int | None = None, seconds: float = 0.0, largest: int | None = None) -> int:
    """The status of a process of its own, a fork of this one, sent a signal after so many seconds; -n: it died of n."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = life(name, out, largest)
        except KeyboardInterrupt:  # before its handlers were there
            status = 130
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while number is not None and time.monotonic() < end:
        if (ended := os.waitpid(pid, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.001)
    if number is not None:
        os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# Files that are damaged ------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes flipped, overwritten, cut out, doubled, or the end missing."""
    out, kind = bytearray(content), rng.integers(5)
    place = int(rng.integers(len(out)))
    length = int(rng.integers(1, 64))
    if kind == 0:
        for _ in range(int(rng.integers(1, 8))):
            out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        out[place : place + length] = rng.bytes(length)
    elif kind == 2:
        del out[place : place + length]
    elif kind == 3:
        out[place:place] = out[place : place + length]
    else:
        del out[place:]
    return bytes(out)


VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    "",
    "x",
    "NaN",
    [],
    {},
    [[]],
    [10**9, 10**9],
    [0],
    "a" * 5000,
)


def edited(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value with one thing in it replaced, removed, nested or added."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[rng.integers(len(value))]
        out = dict(value)
        if rng.random() < 0.1:
            del out[key]
        else:
            out[key] = edited(value[key], rng)
        return out
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = int(rng.integers(len(value)))
        return [*value[:place], edited(value[place], rng), *value[place + 1 :]]
    return VALUES[rng.integers(len(VALUES))]


def damage_bytes(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(damaged(path.read_bytes(), rng))


def damage_checkpoint(path: Path, rng: np.random.Generator) -> None:
    """An entry is damaged or edited, and the checksums are renewed: what only an attacker does."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    config = json.loads(entries.pop("config.json"))
    if rng.random() < 0.4:
        name = list(entries)[rng.integers(len(entries))]
        entries[name] = damaged(entries[name], rng)
    config["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}
    text = json.dumps(edited(config, rng) if rng.random() < 0.7 else config)
    if rng.random() < 0.03:
        text = "[" * 100_000
    entries["config.json"] = text.encode()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in entries.items():
            file.writestr(name, content)
        if rng.random() < 0.1:
            file.writestr("state2.safetensors", bytes(1000))


def damage_bundle(path: Path, rng: np.random.Generator) -> None:
    """A file of it is damaged or edited; half the time its checksum is renewed."""
    contract = json.loads((path / "contract.json").read_text())
    files = sorted(contract["files"])
    name = files[rng.integers(len(files))]
    content = damaged((path / name).read_bytes(), rng)
    (path / name).write_bytes(content)
    if rng.random() < 0.5:
        contract["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    if rng.random() < 0.5:
        contract = edited(contract, rng)
    (path / "contract.json").write_text("[" * 100_000 if rng.random() < 0.03 else json.dumps(contract))


def damage_packed(path: Path, rng: np.random.Generator) -> None:
    files = sorted(path.iterdir())
    chosen = files[rng.integers(len(files))]
    if chosen.name == "dataset.json" and rng.random() < 0.8:
        chosen.write_text(json.dumps(edited(json.loads(chosen.read_text()), rng)))
    else:
        damage_bytes(chosen, rng)


def open_checkpoint(path: Path) -> None:
    from zoo.agents import load

    load(path, device="cpu").predict(np.zeros(OBS))


def open_data(path: Path) -> None:
    from zoo.datasets.doctor import doctor
    from zoo.datasets.doctor.info import describe
    from zoo.datasets.load import load_dataset

    with redirect_stdout(StringIO()):
        doctor.report(str(path), doctor.check(path))
        describe(load_dataset(path))


def open_packed_folder(path: Path) -> None:
    from zoo.datasets.doctor import doctor
    from zoo.datasets.packed import open_packed

    doctor.check(path)
    data = open_packed(path)
    data.read(0, len(data))


def open_bundle(path: Path) -> None:
    from zoo_robot import OnnxPolicy
    from zoo_robot.inspection import verify

    verify(path, "cpu")
    policy = OnnxPolicy(path, "cpu")
    action = policy.predict(np.zeros(OBS))
    if not ((policy.low <= action) & (action <= policy.high)).all():
        raise AssertionError(f"the action {action} lies outside the box")


def open_curve(path: Path) -> None:
    from zoo.evaluation.callbacks import read_curve

    read_curve(path)


def open_journal(path: Path) -> None:
    from zoo.collecting.journal import Journal

    with redirect_stdout(StringIO()), Journal(path.with_suffix(""), {"policy": "random"}) as journal:
        list(journal.episodes())


def allowed() -> tuple[type[Exception], ...]:
    """The errors that are declared."""
    from zoo.agents import CheckpointError
    from zoo.datasets.checks import DatasetError
    from zoo_robot.runtime import PolicyFileError

    return CheckpointError, DatasetError, PolicyFileError, FloatingPointError


FILES: dict[str, tuple[str, Callable[[Path, np.random.Generator], None], Callable[[Path], None]]] = {
    "checkpoint": ("agent.zip", damage_bytes, open_checkpoint),
    "checkpoint, checksums renewed": ("agent.zip", damage_checkpoint, open_checkpoint),
    "HDF5": ("data.hdf5", damage_bytes, open_data),
    "npz": ("data.npz", damage_bytes, open_data),
    "packed": ("packed", damage_packed, open_packed_folder),
    "bundle": ("0", damage_bundle, open_bundle),
    "curve": ("evaluations.csv", damage_bytes, open_curve),
    "journal": ("d.hdf5.journal", damage_bytes, open_journal),
}


def make_files(folder: Path) -> None:
    """A whole file of every kind."""
    from zoo.agents import CAR
    from zoo.collecting.collect import collect, random_actor
    from zoo.collecting.journal import Journal
    from zoo.datasets.packing import write_packed
    from zoo.datasets.writers import write_d4rl
    from zoo.evaluation.callbacks import Point, append_point

    data = dataset()
    agent = CAR(data, device="cpu", density_hidden=(16, 16), warmup_steps=2, learning_starts=1, **SMALL)
    agent.learn_offline(data, 5).finetune_online(toy_env(), 5, dataset=data)
    agent.save(folder / "agent.zip")
    shutil.copytree(folder / "guards" / "0", folder / "0")
    write_d4rl(data, folder / "data.hdf5")
    write_packed(data, folder / "packed")
    names = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")
    np.savez(folder / "data.npz", **{name: data.column(name) for name in names})
    for i in range(20):
        append_point(folder / "evaluations.csv", Point(i, False, float(i), 1.0))
    collect(toy_env, random_actor, folder / "other.hdf5", 100, {"policy": "random"})
    with Journal(folder / "d.hdf5", {"policy": "random"}) as journal:
        from zoo.collecting.recording import read_episodes

        for rows in read_episodes(folder / "other.hdf5"):
            journal.append(rows)


def mutate(kind: str, count: int, seed: int, folder: Path) -> Tally:
    """So many damaged files of one kind, each opened in a process that may not take more than MEMORY."""
    tally = Tally(f"damaged: {kind}")
    begin = 0
    while begin < count:  # a new process where one has died
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        child = context.Process(target=_mutate, args=(theirs, kind, begin, count, seed, folder))
        child.start()
        theirs.close()
        try:
            while begin < count:
                if not mine.poll(PATIENCE + 60.0 * (tally.tries == 0)):
                    tally.fail(f"{kind} {begin}: took longer than {PATIENCE:g} s")
                    child.kill()
                    break
                outcome, text = mine.recv()
                tally.outcomes[outcome] += 1
                tally.failures += [f"{kind} {begin}: {text}"] if outcome == "FAILED" else []
                tally.tries += 1
                begin += 1
        except EOFError:
            child.join()
            tally.fail(f"{kind} {begin}: the process ended with {child.exitcode}")
        child.join(5.0)
        if child.is_alive():
            child.kill()
        if begin < count:
            begin += 1
            tally.tries += 1
    return tally


def _mutate(pipe: Any, kind: str, begin: int, count: int, seed: int, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    declared, (name, damage, open_file) = allowed(), FILES[kind]
    source, work = folder / name, Path(tempfile.mkdtemp(dir=folder))
    open_file(copy(source, work / name))  # whole: everything is imported now
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for i in range(begin, count):
        path = copy(source, work / name)
        damage(path, np.random.default_rng([seed, i]))
        pipe.send(opened(path, open_file, declared, used))
    pipe.close()


def opened(path: Path, open_file: Callable[[Path], None], declared: tuple, used: int) -> tuple[str, str]:
    outcome = "opened", ""
    try:
        open_file(path)
    except declared as error:
        outcome = "refused", ""
        if path.stem.split(".")[0] not in str(error) and not isinstance(error, FloatingPointError):
            outcome = "FAILED", f"{type(error).__name__} does not name the file: {error}"
    except ValueError as error:
        outcome = ("refused", "") if path.suffix == ".journal" else ("FAILED", f"{type(error).__name__}: {error}")
    except Exception as error:  # that is the finding
        outcome = "FAILED", f"{type(error).__name__}: {error}"
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - used
    return outcome if taken < MEMORY else ("FAILED", f"took {taken / 2**30:.1f} GiB")


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    return Path(shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target))


# Full disks ------------------------------------------------------------------------------------------------------


def fill(tries: int, rng: np.random.Generator, folder: Path) -> Tally:
    """Work where no file may grow beyond a random size, as on a disk that is full: one line of error, nothing left."""
    tally = Tally("full disks")
    for _ in range(tries):
        name, out = list(WORK)[rng.integers(len(WORK))], folder / "full"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        size = int(rng.integers(1, 40_000))
        status = run_child(name, out, largest=size)
        tally.tries += 1
        if status in (0, FULL):
            tally.outcomes["refused" if status else "had room"] += 1
        else:
            tally.fail(f"{name} with files of {size} bytes at most: status {status}")
        left = [path.name for path in out.rglob(".*.part")]
        wrong = check_left(name, out)
        if left or wrong:
            tally.fail(f"{name} with files of {size} bytes at most left {left}, {wrong}")
    return tally


def campaign(kills: int, mutations: int, disks: int, seed: int, folder: Path) -> Iterator[Tally]:
    """kills of each kind of work, mutations of each kind of file."""
    prepare_export(folder)
    make_files(folder)
    for k, name in enumerate(WORK if kills else ()):
        yield kill(name, kills, np.random.default_rng([seed, k]), folder)
    for kind in FILES if mutations else ():
        yield mutate(kind, mutations, seed, folder)
    if disks:
        yield fill(disks, np.random.default_rng([seed, 99]), folder)


def table(tallies: list[Tally]) -> str:
    lines = ["| what | times | outcomes |", "|---|---|---|", *(tally.row() for tally in tallies)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each kind of work")
    parser.add_argument("--mutations", type=int, default=200, help="of each kind of file")
    parser.add_argument("--disks", type=int, default=20, help="runs on a full disk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    torch.set_num_threads(1)  # so that a fork leaves no thread behind
    warnings.simplefilter("ignore")
    tallies = []
    with tempfile.TemporaryDirectory() as folder:
        for tally in campaign(options.kills, options.mutations, options.disks, options.seed, Path(folder)):
            print(tally.row(), flush=True)
            for text in tally.failures[:20]:
                print(f"    {text}", flush=True)
            tallies.append(tally)
    print(table(tallies))
    if options.json:
        rows = [{"what": t.what, "times": t.tries, "outcomes": dict(t.outcomes)} for t in tallies]
        about = {"machine": platform.processor() or platform.machine(), "seed": options.seed, "rows": rows}
        options.json.write_text(json.dumps(about, indent=2) + "\n")
    sys.exit(any(tally.failures for tally in tallies))


if __name__ == "__main__":
    main()
