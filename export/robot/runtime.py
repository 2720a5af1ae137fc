"""An exported policy on the robot: numpy in, numpy out. Needs numpy and onnxruntime, no other file of this project."""

from __future__ import annotations  # Python 3.9 reads this file

import hashlib
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Otherwise onnxruntime sends the model's metadata, the whole contract, to its makers, and leaves a queue of it in the
# home folder. It reads this when it is imported. Whoever wants that sets ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

FORMAT = 2  # of the metadata; this file reads the older ones too
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TF32, CUDA's default, keeps 10 bits of a float's 23: the action would not be the one that was evaluated.
OPTIONS = {"CPUExecutionProvider": {}, "CUDAExecutionProvider": {"use_tf32": "0"}}
MOST_SAMPLES = 100_000  # candidates; a larger number is damage or a slip, and would fill the memory
WARM_UP = 20  # calls that are made before any is timed


class PolicyFileError(ValueError):
    """A file that is no usable policy; the message says why and what to do."""


class OnnxPolicy:
    """The policy of policy.onnx or actor.onnx: observations to actions, both in the units of the environment.

    path: the file, or the directory of an export, whose policy.onnx is taken. Where contract.json lies beside the file,
    the file must be the one that it was written for.
    providers: "auto" runs on CUDA where onnxruntime offers it, else on the CPU; "cpu"; "cuda".
    seed: of the noise that moves the candidates, where there are any. threads: of onnxruntime; small networks need one.
    evaluation_samples: candidates M in place of the exported number, where the file leaves it free (format 2).
    Raises FileNotFoundError, PolicyFileError, or RuntimeError where CUDA was asked for and cannot run; warns where
    "auto" ends on the CPU although onnxruntime offers CUDA.

    metadata: what the export wrote about the agent. provider: "cpu" or "cuda", the one that really runs.
    observation_size O, action_size A; low, high (A,): the action box.
    evaluation_samples M: candidates that the critics choose from; 1 is the actor's own action.
    noise_size N: standard normal numbers that one candidate is made of; 0 where the policy takes none.

    Buffers are kept between calls, so a policy belongs to one thread at a time and cannot be copied or pickled: another
    thread or process opens its own. Two calls at once are an error, not one thread's action for the other.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        providers: str = "auto",
        seed: int = 0,
        threads: int = 1,
        evaluation_samples: int | None = None,
    ):
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.path = Path(path) / "policy.onnx" if Path(path).is_dir() else Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no policy at {self.path}; agent.export_onnx(directory) writes one")
        check_hash(self.path)
        self.session, self.provider = open_session(self.path, providers, threads)
        self.metadata = read_metadata(self.path, self.session)
        self.observation_size, self.low, self.high, self.noise_size = _sizes(self.path, self.metadata)
        self.action_size = len(self.low)
        self.history, self.delay = self.metadata.get("history", 1), self.metadata.get("delay", 0)
        self.input_size = self.history * self.observation_size + self.delay * self.action_size
        self._memory = _Memory(self) if self.input_size > self.observation_size else None
        self.evaluation_samples: int = self.metadata["evaluation_samples"]
        _check_graph(self)
        self._busy = threading.Lock()
        if evaluation_samples is not None:
            self._set_samples(evaluation_samples)
        self._rng = np.random.default_rng(seed)
        self._allocate(1)

    def __reduce__(self) -> Any:
        another = f"OnnxPolicy({str(self.path)!r})"
        raise TypeError(f"an OnnxPolicy has a session and buffers of its own: open another, {another}")

    def predict(self, obs: np.ndarray | Mapping[str, Any], noise: np.ndarray | None = None) -> np.ndarray:
        """Actions inside the box: (O,) -> (A,), or (n, O) -> (n, A); float32.

        obs: a vector, or a mapping by the contract's names, see vector(). A policy with history or delay (see its
        contract) remembers: it takes one observation a tick, (O,), or rows that hold the past already, (n, input_size).
        noise: standard normal (n, M, N) that makes the candidates, n = 1 for one observation; None draws it.
        Raises TypeError or ValueError for another kind, shape or non-finite entries, FloatingPointError where the
        action itself would not be finite, PolicyFileError where the file's graph fails, RuntimeError while another
        thread's call is not over.
        """
        obs = self.vector(obs) if isinstance(obs, Mapping) else np.asarray(obs)
        self._begin()
        try:
            if self._memory is not None:
                obs = self._memory.row(obs)
            self._take(obs)
            if self.noise_size:
                self._take_noise(noise)
            elif noise is not None:
                raise ValueError("this policy takes no noise: it was exported with evaluation_samples=1")
            self._run()
            if not _finite(self._actions):
                raise FloatingPointError(f"the policy's action is not finite for the observation {obs}")
            actions = self._actions.clip(self.low, self.high)
            if self._memory is not None and obs.ndim == 1:
                self._memory.keep(obs, actions[0])
        finally:
            self._busy.release()
        return actions[0] if obs.ndim == 1 else actions

    def reset(self) -> None:
        """An episode begins: what a policy with history or delay remembers is forgotten. Noise goes on."""
        if self._memory is not None:
            self._memory.forget()

    def wrote(self, action: np.ndarray) -> None:
        """What was really written in this tick, (A,): a loop may limit the policy's action, or write another.

        To be told every tick, or never: a tick without an observation counts as one in which it stayed the same.
        """
        if self._memory is not None:
            self._memory.wrote(action)

    def _begin(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(
                f"another thread is using this policy: open one for each thread, OnnxPolicy({str(self.path)!r})"
            )

    def vector(self, values: Mapping[str, Any]) -> np.ndarray:
        """Numbers by name, or by group, as the policy's vector (O,); or (n,) numbers each as (n, O).

        A group's value has its dimensions, in the contract's order, along the last axis.
        Raises ValueError for a name that is missing, unknown or given twice, and where the contract has no names.
        """
        entries = self._entries()
        places: dict[str, list[int]] = {}
        for i, entry in enumerate(entries):
            for key in filter(None, (entry.get("name"), entry.get("group"))):
                places.setdefault(key, []).append(i)
        columns: list[Any] = [None] * len(entries)
        for name, value in values.items():
            where, numbers = places.get(name), np.asarray(value)
            if where is None:
                raise ValueError(f"{self.path} has no observation {name!r}; it has {', '.join(places)}")
            one = len(where) == 1 and entries[where[0]].get("name") == name
            parts = [numbers] if one else list(np.moveaxis(np.atleast_1d(numbers), -1, 0))
            if len(parts) != len(where):
                raise ValueError(f"the group {name!r} has {len(where)} observations, got shape {numbers.shape}")
            for i, part in zip(where, parts):  # noqa: B905, not in Python 3.9
                if columns[i] is not None:
                    raise ValueError(f"observation {entries[i].get('name')!r} is given twice, by name and by group")
                columns[i] = part
        if missing := [entries[i].get("name") for i, column in enumerate(columns) if column is None]:
            raise ValueError(f"observations are missing: {', '.join(map(str, missing))}")
        return np.stack(np.broadcast_arrays(*columns), -1)

    def check_names(self, names: Sequence[str]) -> None:
        """To be asked once with the names of the vector that your code sends: a robot's joints may be in another order.

        Raises ValueError where they are not the contract's observations, one by one and in its order.
        """
        known = [str(entry["name"]) for entry in self._entries()]
        names = list(names)
        if names == known:
            return
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"{self.path} has no observation {', '.join(unknown)}; it has {', '.join(known)}")
        if missing := [name for name in known if name not in names]:
            raise ValueError(f"observations are missing: {', '.join(missing)}")
        if len(names) != len(known):
            raise ValueError(f"a name is given twice: got {len(names)} names of {len(known)} observations")
        moved = [f"{i} is {name}, sent is {names[i]}" for i, name in enumerate(known) if name != names[i]]
        raise ValueError(f"the observations are in another order than the contract's: {'; '.join(moved)}")

    def _entries(self) -> list[dict[str, Any]]:
        """What the contract says of each observation. Raises ValueError where one has no name."""
        entries: list[dict[str, Any]] = self.metadata.get("observations") or []
        nameless = [i for i, entry in enumerate(entries) if not entry.get("name")]
        if nameless or not entries:
            raise ValueError(
                f"{self.path} has no names for the observations {nameless or 'at all'}: state them at export, "
                "zoo export --contract robot.toml; until then send vectors"
            )
        return entries

    @property
    def noise_state(self) -> dict[str, Any]:
        """Where the noise stands, in numbers that JSON keeps; set to an earlier one, the same noise comes again."""
        return dict(self._rng.bit_generator.state)

    @noise_state.setter
    def noise_state(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state

    def choose_samples(
        self, budget_ms: float, quantile: float = 0.99, most: int | None = None, calls: int = 300
    ) -> int:
        """Sets evaluation_samples to the largest M whose latency on this machine is within the budget; returns it.

        The latency is the given quantile over `calls` predictions of one observation, so it takes a few seconds: call
        it before the robot moves, on the core and under the load of the real loop. most: by default the exported
        number, for a search among more candidates is a policy that nobody has evaluated.
        Raises ValueError where the file has a fixed M or none, RuntimeError where not even two candidates fit.
        """
        self._check_free()
        exported: int = self.metadata["evaluation_samples"]
        before, obs = self.evaluation_samples, np.zeros((1, self.input_size), np.float32)

        def latency(samples: int) -> float:
            self._set_samples(samples)
            return float(np.quantile(measure([lambda: self.predict(obs)], calls), quantile))

        fits, too_many = 1, (exported if most is None else most) + 1
        while too_many - fits > 1:
            samples = (fits + too_many) // 2
            if latency(samples) <= budget_ms:
                fits = samples
            else:
                too_many = samples
        if fits == 1:
            shortest = latency(2)
            self._set_samples(before)
            raise RuntimeError(
                f"two candidates take {shortest:.3g} ms here, the budget is {budget_ms:g} ms: open actor.onnx, which "
                "gives the actor's own action, or allow more time"
            )
        self._set_samples(fits)
        return fits

    def _set_samples(self, samples: int) -> None:
        if samples != self.evaluation_samples:
            self._check_free()
            if not 2 <= samples <= MOST_SAMPLES:
                raise ValueError(
                    f"evaluation_samples must be 2 to {MOST_SAMPLES}, got {samples}; actor.onnx is the policy without"
                )
            self._begin()
            try:
                self.evaluation_samples = samples
                self._allocate(1)
            finally:
                self._busy.release()

    def _check_free(self) -> None:
        if self.evaluation_samples == 1:
            raise ValueError(f"{self.path} has no candidates to choose from: export with evaluation_samples above 1")
        if isinstance(self.session.get_inputs()[1].shape[1], int):
            raise ValueError(
                f"{self.path} has {self.evaluation_samples} candidates for good, as all files of format 1: export again"
            )

    def _allocate(self, count: int) -> None:
        """Buffers for `count` rows; on the CPU onnxruntime reads and writes them where they are."""
        self._rows = np.zeros((count, self.input_size), np.float32)
        self._noise = np.zeros((count, self.evaluation_samples, self.noise_size), np.float32)
        self._actions = np.zeros((count, self.action_size), np.float32)
        self._feeds = {"obs": self._rows} | ({"noise": self._noise} if self.noise_size else {})
        self._binding = self.session.io_binding()
        for name, array in self._feeds.items():
            self._binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        self._binding.bind_output("actions", "cpu", 0, np.float32, self._actions.shape, self._actions.ctypes.data)

    def _take(self, obs: np.ndarray) -> None:
        """The observations, checked, in their buffer."""
        size = self.input_size
        if obs.dtype.kind not in "fiu":
            raise TypeError(f"obs must hold numbers, got dtype {obs.dtype}")
        if obs.ndim not in (1, 2) or obs.shape[-1] != size or not obs.size:
            raise ValueError(f"obs must have shape ({size},) or (n, {size}) with n >= 1, got {obs.shape}")
        count = 1 if obs.ndim == 1 else len(obs)
        if count != len(self._rows):
            self._allocate(count)
        _copy(self._rows, obs)
        if not _finite(self._rows):
            bad = np.flatnonzero(~np.isfinite(self._rows).all(0)).tolist()
            raise ValueError(
                f"obs has NaN or infinite entries in dimensions {bad}{self._names(bad)}; "
                "expected finite float32 numbers"
            )

    def _take_noise(self, noise: np.ndarray | None) -> None:
        if noise is None:
            self._rng.standard_normal(dtype=np.float32, out=self._noise)
            return
        noise, shape = np.asarray(noise), self._noise.shape
        if noise.dtype.kind in "fiu" and noise.shape == shape:
            _copy(self._noise, noise)
            if _finite(self._noise):
                return
        raise ValueError(f"noise must be {shape} finite numbers, got shape {noise.shape}, dtype {noise.dtype}")

    def _run(self) -> None:
        try:
            if self.provider == "cpu":
                self.session.run_with_iobinding(self._binding)
            else:  # a device copies what is bound to it when it is bound, and not again
                np.copyto(self._actions, self.session.run(["actions"], self._feeds)[0])
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise PolicyFileError(
                f"{self.path} cannot compute an action ({error}); it may be damaged, use another copy"
            ) from error

    def _names(self, dimensions: list[int]) -> str:
        """The names that the contract has for them, if it has any."""
        known = self.metadata.get("observations", [])
        names = [str(known[i]["name"]) for i in dimensions if known and known[i].get("name")]
        return f" ({', '.join(names)})" if names else ""


class _Memory:
    """The past that a policy sees: a row is the newest observations, then the newest actions before them."""

    def __init__(self, policy: OnnxPolicy):
        self.size, self.history, self.delay = policy.observation_size, policy.history, policy.delay
        self.neutral = ((policy.low.astype(np.float64) + policy.high) / 2).astype(np.float32)
        self.forget()

    def forget(self) -> None:
        self.last: np.ndarray | None = None  # the row of the last tick
        self.action: np.ndarray | None = None  # taken in it; None where the row holds it already

    def row(self, obs: np.ndarray) -> np.ndarray:
        """The row of an observation (O,) that has come; rows (n, width) as they are."""
        width = self.history * self.size + self.delay * len(self.neutral)
        if obs.ndim == 2 and obs.shape[1] == width:
            return obs
        if obs.shape != (self.size,) or obs.dtype.kind not in "fiu":
            raise ValueError(
                f"obs must be one observation ({self.size},), for this policy remembers the last ticks; or rows of the "
                f"past (n, {width}). Got shape {obs.shape}, dtype {obs.dtype}"
            )
        with np.errstate(over="ignore"):  # refused by the policy
            obs = obs.astype(np.float32)
        if self.last is None:
            return np.concatenate([obs] * self.history + [self.neutral] * self.delay)
        return self._next(obs, self.neutral if self.action is None else self.action)

    def _next(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        assert self.last is not None
        border = self.history * self.size
        taken = np.concatenate([action, self.last[border:]])[: self.delay * len(self.neutral)]
        return np.concatenate([obs, self.last[: border - self.size], taken]).astype(np.float32)

    def keep(self, row: np.ndarray, action: np.ndarray) -> None:
        """The policy has answered a row."""
        self.last, self.action, self.told = row.copy(), action.copy(), False

    def wrote(self, action: np.ndarray) -> None:
        if self.last is None:
            return
        action = np.asarray(action, np.float32)
        if self.told:  # a tick without an answer: the newest observation once more
            self.last = self._next(self.last[: self.size], self.neutral if self.action is None else self.action)
        self.action, self.told = action, True


def _finite(values: np.ndarray) -> bool:
    """Whether all entries are. For a few of them, looking for a zero byte takes half the time of .all()."""
    return b"\0" not in np.isfinite(values).tobytes()


def measure(functions: Sequence[Callable[[], Any]], calls: int) -> np.ndarray:
    """Milliseconds of each call, (functions, calls): after a warm-up the functions are called in turns."""
    for function in functions:
        for _ in range(WARM_UP):
            function()
    times = np.empty((len(functions), calls))
    for i in range(calls):
        for k, function in enumerate(functions):
            begin = time.perf_counter()
            function()
            times[k, i] = (time.perf_counter() - begin) * 1e3
    return times


def open_session(path: Path, providers: str, threads: int) -> tuple[onnxruntime.InferenceSession, str]:
    """The session of a file, and the provider that it really runs on: "cpu" or "cuda"."""
    names = _choose(providers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=names, provider_options=[OPTIONS[name] for name in names]
        )
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise PolicyFileError(f"{path} cannot be loaded ({error}); it may be damaged, use another copy") from error
    provider = "cuda" if session.get_providers()[0] == PROVIDERS["cuda"] else "cpu"
    if provider == "cpu" and PROVIDERS["cuda"] in names:
        problem = "onnxruntime could not start CUDA, see its log"
        if providers == "cuda":
            raise RuntimeError(f"{problem}; mend that, or use providers='cpu'")
        warnings.warn(f"{problem}: {path} runs on the CPU; providers='cpu' says so on purpose", stacklevel=3)
    return session, provider


def _choose(providers: str) -> list[str]:
    """onnxruntime's names for what `providers` asks for, best first."""
    offered = onnxruntime.get_available_providers()
    if providers not in ("auto", *PROVIDERS):
        raise ValueError(f"providers must be 'auto', 'cpu' or 'cuda', got {providers!r}")
    if providers == "cuda" and PROVIDERS["cuda"] not in offered:
        raise RuntimeError(
            f"this onnxruntime runs on {', '.join(offered)} only: "
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu, or use providers='cpu'"
        )
    if providers == "cpu" or PROVIDERS["cuda"] not in offered:
        return [PROVIDERS["cpu"]]
    return [PROVIDERS["cuda"], PROVIDERS["cpu"]]


def check_hash(path: Path) -> None:
    """Raises PolicyFileError where the contract beside a file, or one folder up, was written for another content."""
    path = path.absolute()
    for folder in path.parents[:2]:
        contract = folder / "contract.json"
        if not contract.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        try:
            files = json.loads(contract.read_text(encoding="utf-8"))["files"]
            expected = files[name]["sha256"] if name in files else None
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise PolicyFileError(
                f"{contract} is not a contract ({error!r}); use another copy of the bundle"
            ) from error
        if expected is not None and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise PolicyFileError(
                f"{path} is not the file that {contract.name} was written for: its SHA-256 differs. It is damaged, or "
                "of another export; copy the whole bundle again"
            )
        return


def read_metadata(path: Path, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """What the export wrote into a policy's file. Raises PolicyFileError for files of another kind."""
    try:
        metadata: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map["zoo"])
        version, graph = int(metadata["format"]), metadata["graph"]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PolicyFileError(f"{path} lacks the metadata 'zoo'; agent.export_onnx writes files with it") from error
    if version > FORMAT:
        raise PolicyFileError(f"{path} has format {version}, this runtime reads up to {FORMAT}: use a newer runtime.py")
    if graph == "critic":
        raise PolicyFileError(f"{path} is a critic and gives no actions; open the policy.onnx or actor.onnx beside it")
    return metadata


def _sizes(path: Path, metadata: dict[str, Any]) -> tuple[int, np.ndarray, np.ndarray, int]:
    """Observation size, action box (A,), (A,) and noise size, 0 where the file takes no noise, of the metadata.

    Format 1 has the box as two lists. Files of before generative actors do not state the noise: it is A numbers.
    """
    try:
        if metadata["format"] == 1:
            size, box = metadata["observation_size"], [metadata["action_low"], metadata["action_high"]]
        else:
            box = [[float(action[edge]) for action in metadata["actions"]] for edge in ("low", "high")]
            size = len([observation["unit"] for observation in metadata["observations"]])
        low, high = (np.array(edge, np.float32).reshape(len(edge)) for edge in box)
        samples = metadata["evaluation_samples"]
        noise = metadata.get("noise_size", len(low)) if samples > 1 or "noise" in metadata.get("inputs", ()) else 0
        sound = all(type(number) is int for number in (size, samples, noise))
        sound = sound and 1 <= samples <= MOST_SAMPLES and 0 <= noise <= MOST_SAMPLES
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PolicyFileError(f"{path} has unusable metadata ({error!r}); use another copy, or export again") from error
    if not (sound and len(low) == len(high) and np.isfinite([low, high]).all() and (low < high).all()):
        raise PolicyFileError(
            f"{path} has unusable metadata: observation size {size}, {samples} samples, box {low} to {high}; expected "
            f"whole numbers, at most {MOST_SAMPLES} samples, and a finite box; use another copy, or export again"
        )
    return size, low, high, noise


def _check_graph(policy: OnnxPolicy) -> None:
    """Raises PolicyFileError where the graph has other inputs and outputs than the metadata say."""
    samples, actions = policy.evaluation_samples, policy.action_size
    expected = {"obs": [policy.input_size], "actions": [actions]}
    if policy.noise_size:
        expected["noise"] = [samples, policy.noise_size]
    try:
        tensors = (*policy.session.get_inputs(), *policy.session.get_outputs())
        found = {tensor.name: list(tensor.shape[1:]) for tensor in tensors}
    except UnicodeDecodeError as error:
        raise PolicyFileError(f"{policy.path} has damaged names ({error}); use another copy") from error
    if samples > 1 and found.get("noise") and not isinstance(found["noise"][0], int):
        found["noise"][0] = samples  # free
    if found != expected:
        raise PolicyFileError(
            f"{policy.path}: its graph has the axes {found} beside the batch, its metadata {expected}; export again"
        )


def _copy(target: np.ndarray, values: np.ndarray) -> None:
    """Into float32; what does not fit becomes infinite, and is refused as such."""
    if values.dtype == np.float32:
        target[...] = values
    else:
        with np.errstate(over="ignore"):
            target[...] = values
