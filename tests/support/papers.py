"""Reading the papers' specifications: their tables, and what a table claims about an agent's preset."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.support.paths import SHARED
from zoo.agents import AGENTS
from zoo.agents.core.presets import load_preset

PAPERS = SHARED / "papers"


class Table(NamedTuple):
    section: str  # "pars.md 4.2"
    heading: str
    before: str  # the line of text above the table, and
    after: str  # the one below it
    header: list[str]
    rows: list[list[str]]


def read_tables(name: str, text: str) -> list[Table]:
    """The pipe tables of a markdown file, outside its code blocks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    lines = [line.strip() for line in text.splitlines()]
    tables: list[Table] = []
    heading = before = ""
    for i, line in enumerate(lines):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line and not line.startswith("|"):
            before = line
        if re.fullmatch(r"\|[-:| ]*-[-:| ]*\|", line):
            rows = []
            rest = iter(lines[i + 1 :])
            for row in rest:
                if not row.startswith("|"):
                    break
                rows.append(cells(row))
            after = next((row for row in rest if row), "")
            section = search(r"^[\d.]*", heading).group().rstrip(".")
            tables.append(Table(f"{name} {section}", heading, before, after, cells(lines[i - 1]), rows))
    return tables


def cells(line: str) -> list[str]:
    return [cell.strip().replace("**", "") for cell in line.strip("|").split("|")]


def number(cell: str) -> float | None:
    """A cell as a number; None where the paper prints a dash."""
    return None if cell in ("-", "–") else float(cell.replace(" ", ""))


def search(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    assert match, f"nothing of the form {pattern!r} in {text[:200]!r}"
    return match


def reward(cell: str) -> tuple[float, float]:
    """(scale, shift) of "raw", "x100", "100 r", "r - 1", "10 r - 5" or "4 (r - 0.5)"."""
    form = cell.replace(" ", "")
    if form == "raw":
        return 1.0, 0.0
    if plain := re.fullmatch(r"x([\d.]+)|([\d.]+)r", form):
        return float(plain.group(1) or plain.group(2)), 0.0
    factor, bracket, shift = search(r"^([\d.]*)(\(?)r-([\d.]+)\)?$", form).groups()
    scale = float(factor or 1)
    return scale, -float(shift) * (scale if bracket else 1.0)


class Claim(NamedTuple):
    agent: str
    dataset: str
    field: str
    value: Any
    variant: str | None = None
    of: Callable[[Any], Any] = lambda setting: setting  # what the table prints of the setting, such as 1 / it

    def wrong(self) -> str | None:
        """What differs, in words."""
        config = AGENTS[self.agent].Config.build(load_preset(self.agent, f"{self.dataset}-v2", self.variant))
        setting = getattr(config, self.field)
        got = self.of(setting)
        if got == self.value:
            return None
        if isinstance(self.value, float) and isinstance(got, float) and math.isclose(got, self.value, rel_tol=1e-6):
            return None
        printed = "" if got is setting else f", as the table prints it {got}"
        return f"{self.agent} on {self.dataset}: {self.field} is {setting}{printed}, the table has {self.value}"


Reader = Callable[[Table], Iterator[Claim]]


def inverse(setting: float) -> float:
    return 1.0 / setting


def claims(agent: str, datasets: list[str], variant: str | None = None, /, **fields: Any) -> Iterator[Claim]:
    """One claim for each dataset and field; None is "not stated", a pair is (what is printed, of the setting)."""
    for dataset in datasets:
        for field, value in fields.items():
            value, of = value if isinstance(value, tuple) else (value, lambda setting: setting)
            if value is not None:
                yield Claim(agent, dataset, field, value, variant, of)


def reward_claims(agent: str, datasets: list[str], cell: str, variant: str | None = None) -> Iterator[Claim]:
    scale, shift = reward(cell)
    yield from claims(agent, datasets, variant, reward_scale=scale, reward_shift=shift)


def columns(table: Table, *names: str) -> Iterator[list[str]]:
    assert table.header == list(names), f"{table.section} has the columns {table.header}, its reader expects {names}"
    yield from table.rows


class Items:
    """A table of one setting a row: each is taken by name, and leftover ones are an error."""

    def __init__(self, table: Table, *without_a_field: str):
        self.section = table.section
        self.values = {row[0]: row[1] for row in table.rows}
        for name in without_a_field:
            self.take(name)

    def take(self, name: str) -> str:
        assert name in self.values, f"{self.section} has no row {name!r}; it has {list(self.values)}"
        return self.values.pop(name)

    def numbers(self, name: str) -> list[float]:
        return [float(part) for part in re.findall(r"\d[\d.]*(?:e-?\d+)?", self.take(name))]

    def by_family(self, name: str) -> dict[str, float]:
        """ "0.995 AntMaze; 0.99 others", by family in small letters."""
        pairs = (part.split() for part in self.take(name).split(";"))
        return {family.lower(): float(value) for value, family in pairs}

    def end(self) -> None:
        assert not self.values, f"{self.section} has rows that its reader does not know: {list(self.values)}"
