"""The papers' settings for a dataset: when they are taken, and where they contradict the data."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

from zoo.agents.core.spec import DataSpec

# Observation and action sizes of the benchmarks' families that have presets.
FAMILY_SIZES = {
    "hopper": (11, 3),
    "halfcheetah": (17, 6),
    "walker2d": (17, 6),
    "antmaze": (29, 8),
    "maze2d": (4, 2),
    "pen": (45, 24),
    "door": (39, 28),
    "hammer": (46, 26),
    "relocate": (39, 30),
    "kitchen": (60, 9),
}


class Preset(NamedTuple):
    """name: what was taken, None for the defaults. settings: its fields. doubts: what a user should know of it."""

    name: str | None
    settings: dict[str, Any]
    doubts: tuple[str, ...]


def load_preset(agent: str, dataset: str, variant: str | None = None) -> dict[str, Any]:
    """The paper's settings for a dataset, or {} where it has none: agents/presets/<agent>.toml, table by table.

    A dataset's own table wins over its family's ("hopper"). The version of a D4RL name does not count, nor does the
    task in a name of OGBench ("cube-single-play-singletask-task2-v0").
    variant: the name of the table to take instead; where it has a table of the dataset's name inside, that wins. A
    variant may begin with another one, extends = "simple-ingredients", or with the dataset's own table, "dataset".
    Raises ValueError where there is no such variant.
    """
    tables, name = _tables(agent), _unversioned(dataset)
    if variant is not None:
        asked = variant if variant in tables else _unversioned(variant)
        if asked not in tables:
            raise ValueError(f"{agent} has no preset {variant!r}; it has {', '.join(tables) or 'none'}")
        table = _with_family(tables, asked)
        base = table.get("extends")
        begun = {} if base is None else load_preset(agent, dataset, None if base == "dataset" else base)
        own = {field: value for field, value in table.items() if field != "extends" and not isinstance(value, dict)}
        return begun | own | table.get(name, {})
    return _with_family(tables, name) if name in tables and "extends" not in tables[name] else {}


def choose_preset(agent: str, spec: DataSpec, asked: str | None) -> Preset:
    """The preset that the user names, or that of the benchmark that the data are known to be, or none.

    What data are called is no evidence: provenance["benchmark"] is, which load_dataset writes where it knows.
    """
    benchmark = spec.benchmark
    if asked is not None:
        settings = load_preset(agent, benchmark or "", asked)
        return Preset(asked, settings, _contradictions(agent, asked, settings, spec))
    if benchmark is not None and (wrong := _other_sizes(agent, benchmark, spec)):
        return Preset(None, {}, (f"{wrong}: the defaults are used",))
    if benchmark is not None and (settings := load_preset(agent, benchmark)):
        return Preset(benchmark, settings, _contradictions(agent, benchmark, settings, spec))
    if benchmark is None and load_preset(agent, spec.name):
        doubt = (
            f"{agent}: the data are called {spec.name}, but are not known to be that benchmark's, so the defaults are "
            f"used; the paper's settings are preset={spec.name!r}"
        )
        return Preset(None, {}, (doubt,))
    if benchmark is not None and (others := _of_the_family(agent, benchmark)):
        doubt = (
            f"{agent}: no settings are published for {_unversioned(benchmark)}, so the defaults are used; preset= "
            f"takes those of another set: {', '.join(others)}"
        )
        return Preset(None, {}, (doubt,))
    return Preset(None, {}, ())


def _of_the_family(agent: str, name: str) -> list[str]:
    """The datasets of the same family that the agent has settings for."""
    family = name.split("-", 1)[0]
    return [table for table in _tables(agent) if table.startswith(f"{family}-")]


def _tables(agent: str) -> dict[str, Any]:
    file = resources.files("zoo.agents") / "presets" / f"{agent.lower()}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _unversioned(name: str) -> str:
    return name.rsplit("-v", 1)[0].split("-singletask", 1)[0]


def _with_family(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    return tables.get(name.split("-", 1)[0], {}) | tables[name]


def _contradictions(agent: str, name: str, settings: Mapping[str, Any], spec: DataSpec) -> tuple[str, ...]:
    """What a preset says that the data do not bear out, one sentence each."""
    wrong = _other_sizes(agent, name, spec)
    doubts = [wrong] if wrong else []
    q_min, gamma = settings.get("q_min"), settings.get("gamma", 0.99)
    least = spec.reward_min / (1.0 - gamma) if gamma < 1.0 else None
    if q_min is not None and least is not None and q_min > least + 1e-6 * abs(least):
        doubts.append(
            f"{agent}: the preset {name} has q_min={q_min:g}, above the least value that the rewards of {spec.name} "
            f"allow, {spec.reward_min:g} / (1 - {gamma:g}) = {least:g}; q_min=None takes that one"
        )
    if "min_return" in settings and settings["min_return"] > spec.return_max:
        doubts.append(
            f"{agent}: the preset {name} trusts episodes from min_return={settings['min_return']:g} on; the best of "
            f"{spec.name} returns {spec.return_max:g}"
        )
    return tuple(doubts)


def _other_sizes(agent: str, name: str, spec: DataSpec) -> str | None:
    """Says so where the data have not the sizes of the dataset that a preset is for."""
    sizes, own = FAMILY_SIZES.get(name.split("-", 1)[0]), (spec.observation_size, spec.action_size)
    if sizes is None or sizes == own:
        return None
    return (
        f"{agent}: the preset {name} is for {sizes[0]} observations and {sizes[1]} actions, {spec.name} has "
        f"{own[0]} and {own[1]}"
    )
