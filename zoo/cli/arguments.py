"""What commands share in their arguments: ranges, agents' names, fields of a config."""

import ast
import difflib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from zoo.agents import Agent
    from zoo.agents.core.config import AgentConfig

# Arguments of an agent that are no fields of its config.
OWN_OPTIONS = ("preset", "seed", "population", "device", "precision", "steps")
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
HYPER = tuple[float, ...]  # in the type of what members may differ in
LARGEST_SEED = 2**32 - 1


def check_counts(command: Any, **least: int) -> None:
    """Raises ValueError for the first of a command's numbers that is below its least value. None passes."""
    for name, low in least.items():
        values = getattr(command, name)
        for value in values if isinstance(values, tuple) else (values,):
            option = f"--{name.replace('_', '-')}"
            if value is not None and not low <= value < math.inf:  # NaN too
                raise ValueError(f"{option} must be at least {low}, got {value}")
            if value is not None and "seed" in name and value > LARGEST_SEED:
                raise ValueError(f"{option} must be at most {LARGEST_SEED}, got {value}")


def agent_class(name: str) -> "type[Agent]":
    """The agent of a name, whatever its case. Raises ValueError with the nearest for one that is not known."""
    from zoo.agents import AGENTS

    known = {agent.lower(): agent for agent in AGENTS}
    if name.lower() in known:
        return AGENTS[known[name.lower()]]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean {known[close[0]]}?" if close else ""
    raise ValueError(f"there is no agent {name!r}{hint} Known are {', '.join(AGENTS)}")


def parse_settings(config: "type[AgentConfig]", items: Iterable[str]) -> dict[str, Any]:
    """("alpha=0.01", "critic_hidden=(256, 256)") to fields of a config, each read by its type.

    Raises ValueError for another form, an unknown name or one given twice.
    """
    settings: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise ValueError(f"--set takes FIELD=VALUE, such as alpha=0.01, got {item!r}")
        field = field_of(config, name.strip())
        if field in settings:
            raise ValueError(f"--set {field} is given twice: {settings[field]} and {text}")
        settings[field] = read_value(get_type_hints(config)[field], text.strip())
    return settings


def parse_sweep(config: "type[AgentConfig]", items: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """("alpha=(0.5,2.5)",) to the values of each field. Raises ValueError for what no population can sweep."""
    swept: dict[str, tuple[Any, ...]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if name.strip().lower() == "seed":
            raise ValueError("--sweep takes no seed: --population 3 are three seeds of every combination")
        if not equals:
            raise ValueError(f"--sweep takes FIELD=(VALUE,VALUE), such as alpha=(0.5,2.5), got {item!r}")
        field = field_of(config, name.strip())
        hint = get_type_hints(config)[field]
        if HYPER not in get_args(hint):
            able = ", ".join(name for name, kind in get_type_hints(config).items() if HYPER in get_args(kind))
            raise ValueError(
                f"{field} cannot be swept: the members of a population share one shape and one schedule. Run a command "
                f"for each value. What {config.__name__.removesuffix('Config')} can sweep: {able}"
            )
        values = read_value(hint, text.strip())
        if not isinstance(values, tuple) or not values:
            raise ValueError(f"--sweep takes FIELD=(VALUE,VALUE), such as alpha=(0.5,2.5), got {item!r}")
        if field in swept:
            raise ValueError(f"--sweep {field} is given twice")
        swept[field] = values
    return swept


def field_of(config: "type[AgentConfig]", name: str) -> str:
    """The field of this name, whatever its case. Raises ValueError that names the nearest, or the option meant."""
    known = {field.lower(): field for field in config.names()}
    if name.lower() in known:
        return known[name.lower()]
    if name.lower() in OWN_OPTIONS:
        raise ValueError(f"{name} is no field of {config.__name__} but an argument of its own: --{name.lower()} VALUE")
    raise ValueError(f"{config.__name__} has no field {name}{config.nearest(name)}; it has {', '.join(config.names())}")


def read_value(hint: Any, text: str) -> Any:
    """A word of the command line as the value of a field of this type. What does not fit is left to the config."""
    from zoo.agents.core.config import kinds

    expected = kinds(hint)
    word = text.strip("\"'")
    choices = [choice for kind in expected if get_origin(kind) is Literal for choice in get_args(kind)]
    for choice in choices:
        if word.lower() == str(choice).lower():
            return choice
    if type(None) in expected and word.lower() in ("none", "null"):
        return None
    if bool in expected and word.lower() in TRUTH:
        return TRUTH[word.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return word
    if isinstance(value, list):
        value = tuple(value)
    if int in expected and isinstance(value, float) and value.is_integer():  # 1e6
        return int(value)
    return value
