"""A study: agents x datasets x seeds, read from a TOML file.

name = "small"
steps = 50_000
seeds = [0, 1, 2]

[evaluation]                       # every field may be left out
every = 5_000
episodes = 10
seed = 100

[datasets]                         # a name for the tables = what load_dataset takes
hopper-medium-replay = "hopper-medium-replay"
mine = "logs/mine.hdf5"

[[agents]]
agent = "TD3BC"
label = "BC"                       # by default the agent's name
preset = "..."                     # by default the dataset's
settings = { alpha = 0.0 }
for = { mine = { batch_size = 64 } }   # more settings for one dataset

[paper]                            # the figures of a paper, for zoo study table
source = "arXiv 2106.06860, table 1"
protocol = "1,000,000 steps, mean of the last ten evaluations, D4RL v2"
[paper.scores.TD3BC]
hopper-medium-replay = 60.9
"""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self


class StudyError(ValueError):
    """A study that cannot be run; the message says where, what was found and what was expected."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How an agent is evaluated: every so many steps, so many episodes, from reset seeds `seed`, `seed` + 1, ..."""

    every: int = 5_000
    episodes: int = 10
    seed: int = 100


@dataclasses.dataclass(frozen=True)
class Entry:
    """An agent with its settings: a row of the study's tables."""

    agent: str
    label: str
    preset: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # dataset -> more settings

    def settings_for(self, dataset: str) -> dict[str, Any]:
        return {name: _tuples(value) for name, value in {**self.settings, **self.own.get(dataset, {})}.items()}


@dataclasses.dataclass(frozen=True)
class Paper:
    """Published figures. scores: label -> dataset -> score. protocol: how they were measured, in words."""

    source: str
    protocol: str
    scores: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training: an entry on a dataset, with one seed, or with several as one population."""

    entry: Entry
    dataset: str
    source: str  # what load_dataset takes
    seeds: tuple[int, ...]
    steps: int
    protocol: Protocol
    device: str = "auto"

    @property
    def place(self) -> Path:
        """Its folder below the study's."""
        seeds = f"seed_{self.seeds[0]}" if len(self.seeds) == 1 else f"seeds_{self.seeds[0]}_to_{self.seeds[-1]}"
        return Path("cells") / slug(self.entry.label) / slug(self.dataset) / seeds

    def facts(self) -> dict[str, Any]:
        """What the result depends on, as JSON keeps it."""
        return {
            "agent": self.entry.agent,
            "preset": self.entry.preset,
            "settings": _lists(self.entry.settings_for(self.dataset)),
            "dataset": self.source,
            "seeds": list(self.seeds),
            "evaluation": dataclasses.asdict(self.protocol),
        }


@dataclasses.dataclass(frozen=True)
class Study:
    name: str
    steps: int
    seeds: tuple[int, ...]
    datasets: Mapping[str, str]
    entries: tuple[Entry, ...]
    protocol: Protocol = Protocol()
    paper: Paper | None = None
    cost: str | None = None  # of the whole study, in words

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises FileNotFoundError, or StudyError that names the entry that is wrong."""
        if not path.is_file():
            raise FileNotFoundError(f"no study at {path}; give a TOML file, or one of zoo study list")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StudyError(f"{path} is not a TOML file: {error}") from error
        return cls.of(values, str(path))

    @classmethod
    def of(cls, values: Mapping[str, Any], owner: str = "study") -> Self:
        known = ("name", "steps", "seeds", "evaluation", "datasets", "agents", "paper", "cost")
        _only(owner, values, known)
        for key in ("name", "steps", "seeds", "datasets", "agents"):
            if not values.get(key):
                raise StudyError(f"{owner}: {key} is missing")
        seeds = values["seeds"]
        if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise StudyError(f"{owner}: seeds must be a list of whole numbers from 0 on, got {seeds!r}")
        if len(set(seeds)) < len(seeds):
            raise StudyError(f"{owner}: seeds has one twice: {seeds}")
        if type(values["steps"]) is not int or values["steps"] < 1:
            raise StudyError(f"{owner}: steps must be a whole number of at least 1, got {values['steps']!r}")
        datasets = values["datasets"]
        if not isinstance(datasets, dict) or not all(isinstance(source, str) for source in datasets.values()):
            raise StudyError(f'{owner}: datasets must be a table, name = "what load_dataset takes", got {datasets!r}')
        entries = tuple(_entry(owner, index, entry, datasets) for index, entry in enumerate(values["agents"]))
        labels = [entry.label for entry in entries]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise StudyError(f"{owner}: two agents have the label {twice[0]!r}: give each its own label")
        return cls(
            name=values["name"],
            steps=values["steps"],
            seeds=tuple(seeds),
            datasets=datasets,
            entries=entries,
            protocol=_protocol(owner, values.get("evaluation", {})),
            paper=_paper(owner, values["paper"]) if "paper" in values else None,
            cost=values.get("cost"),
        )

    def cells(self, together: Mapping[tuple[str, str], bool] | None = None, device: str = "auto") -> list[Cell]:
        """Every training, seed by seed, so that a study cut short has all agents with fewer seeds.

        together: (label, dataset) -> whether its seeds train as one population.
        """
        joined = together or {}
        pairs = [(entry, name) for name in self.datasets for entry in self.entries]

        def cell(entry: Entry, name: str, seeds: tuple[int, ...]) -> Cell:
            return Cell(entry, name, self.datasets[name], seeds, self.steps, self.protocol, device)

        whole = [cell(e, name, self.seeds) for e, name in pairs if joined.get((e.label, name))]
        apart = [cell(e, n, (seed,)) for seed in self.seeds for e, n in pairs if not joined.get((e.label, n))]
        return whole + apart


def _entry(owner: str, index: int, values: Any, datasets: Mapping[str, str]) -> Entry:
    label = f"{owner}: agents[{index}]"
    if not isinstance(values, dict) or not isinstance(values.get("agent"), str):
        raise StudyError(f'{label} must be a table with agent = "TD3BC" or another class, got {values!r}')
    _only(label, values, ("agent", "label", "preset", "settings", "for"))
    own = values.get("for", {})
    if unknown := sorted(set(own) - set(datasets)):
        raise StudyError(f"{label}: for names the dataset {unknown[0]!r}; there are {', '.join(datasets)}")
    name = str(values["agent"])
    return Entry(name, str(values.get("label", name)), values.get("preset"), values.get("settings", {}), own)


def _protocol(owner: str, values: Mapping[str, Any]) -> Protocol:
    _only(f"{owner}: evaluation", values, [field.name for field in dataclasses.fields(Protocol)])
    for name, value in values.items():
        if type(value) is not int or value < (0 if name == "seed" else 1):
            raise StudyError(f"{owner}: evaluation.{name} must be a whole number, got {value!r}")
    return Protocol(**values)


def _paper(owner: str, values: Mapping[str, Any]) -> Paper:
    _only(f"{owner}: paper", values, ("source", "protocol", "scores"))
    if missing := {"source", "protocol", "scores"} - set(values):
        raise StudyError(f"{owner}: paper lacks {', '.join(sorted(missing))}")
    return Paper(values["source"], values["protocol"], values["scores"])


def _only(owner: str, values: Mapping[str, Any], known: Any) -> None:
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise StudyError(f"{owner} has an unknown {name!r}; it may have {', '.join(known)}{hint}")


def slug(text: str) -> str:
    """A text as the name of a folder."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_")


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _lists(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def shipped() -> list[Path]:
    """The studies that come with the package: the papers' tables."""
    return sorted((Path(__file__).parent / "papers").glob("*.toml"))
