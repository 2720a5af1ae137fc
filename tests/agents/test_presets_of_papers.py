"""The presets against the tables of the papers' specifications, read there and not copied by hand.

A reader turns a table into claims: this agent has this value on this dataset. A table without a reader is listed with
its reason, so that a new one fails a test until somebody decides what it is.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.paper_readers import MAZES, READERS, SENTENCES
from tests.support.papers import PAPERS, Claim, Items, Table, columns, inverse, number, read_tables, reward
from tests.support.paths import ROOT
from zoo.agents import AGENTS
from zoo.agents.core.presets import load_preset

PRESETS = ROOT / "agents" / "presets"
with_papers = pytest.mark.skipif(not PAPERS.is_dir(), reason=f"no specifications of the papers at {PAPERS}")

# How many tables of a section no preset can hold.
UNREAD = {
    "symbols, provenance, formulas and their variants": {
        "aspc.md ": 1,
        "aspc.md 2": 1,
        "aspc.md 3.9": 1,
        "base_algorithms.md 0.1": 1,
        "car.md 2": 1,
        "pars.md 2": 1,
        "simple_ingredients.md 2": 1,
        "ssar.md 2": 1,
        "ssar.md 3.7": 1,  # what each online buffer means
    },
    "open questions and how they were decided": {
        "aspc.md 5": 1,
        "pars.md 5": 1,
        "simple_ingredients.md 10": 1,
        "ssar.md 5": 1,
    },
    "reported scores": {
        "aspc.md 6.1": 1,
        "aspc.md 6.2": 1,
        "aspc.md 6.3": 1,
        "base_algorithms.md 13": 2,
        "car.md 6.1": 1,
        "pars.md 6.1": 3,
        "pars.md 6.2": 3,
        "simple_ingredients.md 11.1": 1,
        "simple_ingredients.md 11.2": 2,
        "simple_ingredients.md 11.3": 1,
        "simple_ingredients.md 11.4": 2,
        "simple_ingredients.md 11.5": 6,
        "simple_ingredients.md 11.6": 10,
        "simple_ingredients.md 11.7": 2,
        "ssar.md 6": 2,
    },
    "initial weights, simulators and data sets": {
        "simple_ingredients.md 5.4": 1,
        "simple_ingredients.md 7.2": 1,
        "simple_ingredients.md 7.3": 1,
        "benchmarks.md 2": 1,
        "benchmarks.md 3.1": 1,
        "benchmarks.md 3.2": 1,
        "benchmarks.md 3.3": 1,
        "benchmarks.md 3.4": 1,
        "benchmarks.md 4": 1,
        "benchmarks.md 4.1": 1,
        "benchmarks.md 6": 1,
        "benchmarks.md 7.3": 1,
        "benchmarks.md 8": 1,
        "benchmarks.md 9.3": 1,
        "benchmarks.md 11": 1,
        "benchmarks.md 12": 1,
    },
}

# Where two tables disagree, or the paper and its code do: (section, agent, dataset, field), and why the preset differs.
DIFFERS = {
    ("aspc.md 4", "ReBRAC", "hopper-medium", "critic_cloning"): "ReBRAC's official settings have 0.01",
    ("aspc.md 4", "ReBRAC", "hopper-expert", "critic_cloning"): "ReBRAC's official settings have 0.1",
} | {
    ("simple_ingredients.md 9", "ASAC", maze, "max_advantage"): "its code does not bound what ASAC samples by"
    for maze in MAZES
}


# Variants are named here; every other table of a preset file is a dataset's, or a family's.
VARIANTS = ("simple-ingredients", "large", "modern", "rs-ln", "rs-ln-pa", "aspc", "aspc-scale", "paper", "diffusion")

# Fields by which a variant chooses the form of an algorithm; tests against recorded updates hold them.
FORMS = (
    "actor_critics",
    "actor_tau",
    "policy_delay",
    "target_delay",
    "online_policy_delay",
    "search_noise",
    "policy_mean",
    "per_dimension",
    "weights",
    "data_value",
    "advantage",
    "orthogonal",
    "actor_gain",
    "critic_gain",
    "cosine_steps",
)


def paper_tables() -> list[Table]:
    return [table for file in sorted(PAPERS.glob("*.md")) for table in read_tables(file.name, file.read_text("utf-8"))]


@with_papers
def test_every_table_has_a_reader_or_a_reason():
    found = Counter(table.section for table in paper_tables())
    listed = Counter({section: len(readers) for section, readers in READERS.items()})
    for sections in UNREAD.values():
        listed.update(sections)
    new, gone = dict(found - listed), dict(listed - found)
    assert not new, f"a table without a reader (READERS) or a reason (UNREAD): {new}"
    assert not gone, f"the papers have this table no more: {gone}"


def check(place: str, claims: Iterator[Claim]) -> None:
    found = list(claims)
    results = [((place, claim.agent, claim.dataset, claim.field), claim.wrong()) for claim in found]
    wrong = [text for key, text in results if text and key not in DIFFERS]
    stale = [key for key, text in results if not text and key in DIFFERS]
    assert found, f"{place} says nothing about any agent"
    assert not wrong, f"{place}:\n" + "\n".join(wrong)
    assert not stale, f"{place} agrees with the presets by now, take out of DIFFERS: {stale}"


TABLES = [(section, place) for section, readers in READERS.items() for place in range(len(readers))]


@with_papers
@pytest.mark.parametrize(("section", "place"), TABLES, ids=[f"{section}, table {i + 1}" for section, i in TABLES])
def test_the_presets_are_the_papers_tables(section, place):
    tables = [table for table in paper_tables() if table.section == section]
    check(section, READERS[section][place](tables[place]))


def sentences(name: str) -> str:
    """A specification as one line, without emphasis and tags of provenance."""
    return re.sub(r"\s+", " ", re.sub(r"\*\*|`\[.*?\]`", "", (PAPERS / name).read_text("utf-8")))


@with_papers
@pytest.mark.parametrize(("name", "reader"), SENTENCES, ids=[reader.__name__ for _, reader in SENTENCES])
def test_the_presets_are_what_the_papers_say_in_words(name, reader):
    check(name, reader(sentences(name)))


@with_papers
def test_every_setting_of_every_preset_is_read_somewhere_in_the_papers():
    found = [claim for name, reader in SENTENCES for claim in reader(sentences(name))]
    for section, readers in READERS.items():
        tables = [table for table in paper_tables() if table.section == section]
        found += [claim for reader, table in zip(readers, tables, strict=True) for claim in reader(table)]
    read = {(claim.agent, claim.variant, claim.dataset, claim.field) for claim in found}
    read |= {(agent, variant, "any", field) for agent, variant, _, field in read if variant}
    read |= {(agent, variant, "any", field) for agent, variant, _, field in preset_settings() if field in FORMS}
    unread = set(preset_settings()) - read
    assert not unread, f"no table and no sentence says this: {sorted(map(str, unread))}"


def preset_settings() -> Iterator[tuple[str, str | None, str, str]]:
    """(agent, variant, dataset, field) of everything in the preset files; "any": a variant's on all data."""
    for agent in AGENTS:
        file = PRESETS / f"{agent.lower()}.toml"
        for name, table in tomllib.loads(file.read_text("utf-8")).items() if file.exists() else ():
            if name in VARIANTS:
                own = {key: value for key, value in table.items() if isinstance(value, dict)}
                yield from ((agent, name, "any", field) for field in table if field not in {*own, "extends"})
                yield from ((agent, name, dataset, field) for dataset in own for field in own[dataset])
            elif "-" in name:
                yield from ((agent, None, name, field) for field in load_preset(agent, name))


# The reading itself ---------------------------------------------------------------------------------------------------


def test_tables_are_read_with_their_section_and_what_stands_around_them():
    text = """
## 4. Settings
### 4.2 Mazes (c = 7)
Common to all:

| name | **c** |
|---|---|
| a, b | 10 000 |
| c | - |

The rest is raw.
```
| not | a table |
|---|---|
```
"""
    (table,) = read_tables("x.md", text)
    assert table.section == "x.md 4.2"
    assert (table.heading, table.before, table.after) == ("4.2 Mazes (c = 7)", "Common to all:", "The rest is raw.")
    assert (table.header, table.rows) == (["name", "c"], [["a, b", "10 000"], ["c", "-"]])
    assert [number(row[1]) for row in table.rows] == [10_000.0, None]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("raw", (1, 0)),
        ("x100", (100, 0)),
        ("100 r", (100, 0)),
        ("r-1", (1, -1)),
        ("10 r - 5", (10, -5)),
        ("4 (r - 0.5)", (4, -2)),
    ],
)
def test_a_reward_is_a_scale_and_a_shift(cell, expected):
    assert reward(cell) == expected


def test_a_wrong_preset_is_told_with_dataset_field_and_both_values():
    assert Claim("TD3BC", "hopper-medium", "alpha", 2.5).wrong() is None
    assert Claim("TD3BC", "hopper-medium", "alpha", 2.6).wrong() == (
        "TD3BC on hopper-medium: alpha is 2.5, the table has 2.6"
    )
    assert Claim("IQL", "antmaze-umaze", "temperature", 10.0, of=inverse).wrong() is None


def test_a_row_or_column_that_no_reader_knows_is_an_error():
    table = Table("x.md 1", "1", "", "", ["item", "value"], [["tau", "0.005"], ["new", "1"]])
    items = Items(table, "tau")
    with pytest.raises(AssertionError, match=r"x\.md 1 has rows that its reader does not know: \['new'\]"):
        items.end()
    with pytest.raises(AssertionError, match=r"x\.md 1 has the columns"):
        list(columns(table, "item", "value", "source"))
