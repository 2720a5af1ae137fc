"""The measurements of speed: what they time computes what the agents compute, and what they conclude from figures."""

import json
import math
import re
import sys
from functools import partial
from types import SimpleNamespace

import comparison
import d3rlpy_speed
import gpu
import numpy as np
import plain
import pytest
import scaling
import speed
import threads
import torch
from measuring import in_turns, random_columns, versus
from torch import Tensor, nn

from tests.support.data import whole
from zoo.agents import CQL, IQL, TD3, TD3BC, Agent, ReBRAC
from zoo.datasets.dataset import OfflineDataset
from zoo.policies import MLP

ROWS = 64
SMALL = (256, 256)


@pytest.fixture(scope="module")
def dataset() -> OfflineDataset:
    columns = random_columns(ROWS)
    columns["terminations"] = np.arange(ROWS) % 9 == 8
    return OfflineDataset.from_arrays(**columns)


@pytest.fixture
def same_noise(monkeypatch):
    """Every draw depends on its number of elements alone, so that agent and script see the same ones."""
    for name, draw in {"rand": torch.rand, "randn": torch.randn}.items():

        def fixed(shape, draw=draw, **_) -> Tensor:
            return draw(math.prod(shape), generator=torch.Generator().manual_seed(1)).reshape(shape)

        monkeypatch.setattr(torch, name, fixed)
        monkeypatch.setattr(torch, f"{name}_like", lambda like, fixed=fixed: fixed(like.shape))


@torch.no_grad()
def give(network: nn.Module, trunk: MLP, member: int | slice = slice(None)) -> None:
    """The weights of one network of an agent's to a script's."""
    for kind, layers in ((nn.Linear, trunk.linears), (nn.LayerNorm, trunk.norms)):
        theirs = [layer for layer in network.modules() if isinstance(layer, kind)]
        for layer, ours in zip(theirs, layers, strict=True):
            weight, bias = ours.weight[member], ours.bias[member]
            layer.weight.copy_(weight.mT if kind is nn.Linear else weight)
            layer.bias.copy_(bias)


def give_all(agent: Agent, script) -> None:
    give(script.actor, agent.actor.trunk)
    for k in range(2):
        give(script.critics[k], agent.critic.trunk, k)
        give(script.target_critics[k], agent.target_critic.trunk, k)
    if hasattr(script, "target_actor"):
        give(script.target_actor, agent.target_actor.trunk)
    if hasattr(script, "value"):
        give(script.value, agent.value.trunk)


AGENTS = {
    "TD3BC": (TD3BC, plain.TD3BC),
    "ReBRAC": (ReBRAC, plain.ReBRAC),
    "IQL": (IQL, plain.IQL),
    "CQL": (partial(CQL, actor_hidden=SMALL, critic_hidden=SMALL), partial(plain.CQL, hidden=SMALL)),
}


@pytest.mark.parametrize("name", AGENTS)
def test_the_plain_script_computes_the_agents_updates(name, dataset, same_noise):
    agent, script = (make(dataset) for make in AGENTS[name])
    give_all(agent, script)
    batch = whole(dataset, agent)
    script.buffer.sample = lambda: script.buffer.columns
    first = agent.critic(batch.observations, batch.actions)
    for _ in range(6):
        agent.update(batch)
        script.update()
    qs = agent.critic(batch.observations, batch.actions)  # (E, B)
    pi = script.actor(batch.observations)
    pi = pi.chunk(2, -1)[0].tanh() if name == "CQL" else pi  # the mode
    assert (qs - first).abs().max() > 0.1  # they have learned: agreement to 1e-5 says something
    torch.testing.assert_close(pi, agent.actor(batch.observations), atol=1e-5, rtol=0.0)
    for critics, ours in ((script.critics, agent.critic), (script.target_critics, agent.target_critic)):
        theirs = torch.stack(plain.ask(critics, batch.observations, batch.actions))
        torch.testing.assert_close(theirs, ours(batch.observations, batch.actions), atol=1e-5, rtol=0.0)


def test_a_spread_is_of_the_rounds_own_ratios():
    step, reference = np.array([2.0, 30.0, 8.0, 6.0, 5.0]), np.array([1.0, 10.0, 4.0, 2.0, 5.0])
    # Ratios 2, 3, 2, 3, 1: sorted 1, 2, 2, 3, 3. Of the reference the median is 4.
    assert versus(step, reference) == {"ms": 4.0, "ratio": 2.0, "q1": 2.0, "q3": 3.0}


def test_runs_take_turns_after_a_warm_up():
    calls = []

    def ticking(name):
        """Says how often it was called, as if that were milliseconds."""
        return lambda: calls.append(name) or float(calls.count(name))

    times = in_turns({"step": ticking("step"), "floor": ticking("floor")}, rounds=3)
    assert calls == ["step", "floor"] * 4
    assert {name: values.tolist() for name, values in times.items()} == {"step": [2, 3, 4], "floor": [2, 3, 4]}


MACHINE = {"cpu": "AMD EPYC", "cores": 2, "torch": "2.13.0+cpu", "threads": 1}


def spread(q1: float, ratio: float, q3: float) -> dict:
    return {"ms": 5.0, "ratio": ratio, "q1": q1, "q3": q3}


def file(path, rows: dict[str, dict], **machine):
    rows = [{"agent": agent, "step": 7.5, **references} for agent, references in rows.items()]
    path.write_text(json.dumps({"machine": MACHINE | machine, "rounds": 3, "each": 2, "rows": rows}))
    return path


@pytest.mark.parametrize(
    ("now", "verdict", "status"),
    [
        (spread(1.68, 1.70, 1.72), "slower", 1),  # wholly above 1.52, and 13 % more
        (spread(1.51, 1.70, 1.72), "same", 0),  # as much, but the rounds overlap with the old ones
        (spread(1.61, 1.62, 1.63), "same", 0),  # wholly above, by 8 %: two runs of the same code may do that
        (spread(1.33, 1.35, 1.37), "faster", 0),
        (spread(1.50, 1.50, 1.50), "same", 0),
    ],
)
def test_slower_is_beyond_the_spread_of_both_runs(tmp_path, capsys, now, verdict, status):
    others = {"ASPC": {"TD3BC": spread(1.03, 1.04, 1.05)}}
    old = file(tmp_path / "old.json", {"IQL": {"floor": spread(1.48, 1.50, 1.52)}, **others})
    new = file(tmp_path / "new.json", {"IQL": {"floor": now}, **others})
    assert comparison.main([str(old), str(new)]) == status
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("IQL")
    assert out[0].endswith(verdict)
    assert out[1].endswith("same")
    assert out[2] == ("slower: IQL" if status else "nothing is slower")


def test_an_agent_without_a_floor_is_compared_by_its_ratio_to_td3bc(tmp_path, capsys):
    old = file(tmp_path / "old.json", {"SPOT": {"TD3BC": spread(2.3, 2.3, 2.4)}})
    new = file(tmp_path / "new.json", {"SPOT": {"TD3BC": spread(2.8, 2.9, 3.0)}})
    assert comparison.main([str(old), str(new)]) == 1
    assert "+26.1%" in capsys.readouterr().out  # 2.9 / 2.3 = 1.2609


def test_milliseconds_of_a_busier_machine_are_no_reason(tmp_path):
    row = spread(1.48, 1.50, 1.52)
    old = file(tmp_path / "old.json", {"IQL": {"floor": row}})
    new = file(tmp_path / "new.json", {"IQL": {"floor": row | {"ms": 50.0}}})
    assert comparison.main([str(old), str(new)]) == 0


FLOOR = {"floor": spread(1.0, 1.1, 1.2)}


@pytest.mark.parametrize(
    ("rows", "machine", "message"),
    [
        ({"IQL": FLOOR}, {"torch": "2.9.0"}, "torch '2.9.0' then, '2.13.0+cpu' now"),
        (
            {"IQL": FLOOR},
            {"cpu": "Apple M1", "threads": 8},
            "cpu 'Apple M1' then, 'AMD EPYC' now; threads 8 then, 1 now",
        ),
        ({"IQL": FLOOR, "CQL": FLOOR}, {}, r"only in the old file ['CQL'], only in the new one []"),
        ({"TD3": FLOOR}, {}, r"only in the old file ['TD3'], only in the new one ['IQL']"),
    ],
)
def test_files_that_do_not_match_are_refused(tmp_path, capsys, rows, machine, message):
    old = file(tmp_path / "old.json", rows, **machine)
    new = file(tmp_path / "new.json", {"IQL": FLOOR})
    assert comparison.main([str(old), str(new)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "{", '{"rows": [{"agent": "IQL"}], "machine": {}}', '{"rows": []}', "[{}]"])
def test_a_file_of_something_else_is_named(tmp_path, capsys, content):
    (tmp_path / "old.json").write_text(content)
    new = file(tmp_path / "new.json", {"IQL": FLOOR})
    assert comparison.main([str(tmp_path / "old.json"), str(new)]) == 2
    assert f"{tmp_path / 'old.json'} is no file of this speed.py" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path, capsys):
    new = file(tmp_path / "new.json", {"IQL": FLOOR})
    assert comparison.main([str(tmp_path / "old.json"), str(new)]) == 2
    assert f"{tmp_path / 'old.json'} does not exist" in capsys.readouterr().err


def test_speed_measures_writes_and_compares(tmp_path, capsys):
    path = tmp_path / "speed.json"
    tiny = ["--only", "TD3BC", "ASPC", "--rounds", "2", "--each", "1"]
    assert speed.main([*tiny, "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    td3bc, aspc = written["rows"]
    assert td3bc.keys() == {"agent", "step", "floor", "plain"}
    assert aspc.keys() == {"agent", "step", "TD3BC"}
    assert written["machine"]["torch"] == torch.__version__
    capsys.readouterr()
    easy = {name: {"floor": spread(1e3, 1e3, 1e3)} for name in ("TD3BC", "IQL")}  # IQL is not asked for: left out
    old = file(tmp_path / "old.json", easy, **written["machine"])
    assert speed.main([*tiny[:2], *tiny[3:], "--compare", str(old)]) == 0
    assert "faster" in capsys.readouterr().out


def test_speed_refuses_an_old_file_before_it_measures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "machine", lambda: MACHINE)
    for old, message in (
        (file(tmp_path / "old.json", {"TD3BC": FLOOR}, cpu="another"), "different machines"),
        (file(tmp_path / "other.json", {"TD3BC": FLOOR}), "only in the new one ['IQL']"),
    ):
        assert speed.main(["--only", "TD3BC", "IQL", "--compare", str(old)]) == 2
        out = capsys.readouterr()
        assert out.out == ""
        assert message in out.err


# By hand: 17 x 256 + 256, 256 x 256 + 256, 256 x 6 + 6; and twice 23 x 256 + 256, 256 x 256 + 256, 256 + 1.
TD3BC_WORK = {
    "batch": 256,
    "critics": 2,
    "updates for each of the actor's": 2,
    "actions of each kind asked about": 0,
    "actor's parameters": 71_942,
    "critics' parameters": 144_386,
    "value's parameters": 0,
    "activations": ["ReLU"],
}


@pytest.fixture
def against(tmp_path, monkeypatch):
    """Runs the comparison with d3rlpy against a stand-in for its side, of so many lines of Python."""

    def run(*body: str) -> dict:
        script = tmp_path / "side.py"
        script.write_text("\n".join(["import json, sys", "say = lambda x: print(json.dumps(x), flush=True)", *body]))
        monkeypatch.setattr(d3rlpy_speed, "SIDE", script)
        path = tmp_path / "d3rlpy.json"
        tiny = ["--only", "TD3BC", "--rounds", "1", "--each", "1"]
        d3rlpy_speed.main(["--python", sys.executable, *tiny, "--json", str(path)])
        return json.loads(path.read_text())

    return run


HELLO = f"say({{'d3rlpy': '2.8.1', 'torch': {torch.__version__!r}}})"


def answering(work: dict) -> str:
    return (
        f"for m in map(json.loads, sys.stdin): say((500.0 if m['what'] == 'step' else 3.0) if 'what' in m else {work})"
    )


def test_d3rlpys_answers_are_set_beside_our_own_rounds(against):
    written = against(HELLO, answering(TD3BC_WORK))
    (row,) = written["rows"]
    assert written["machine"]["d3rlpy"] == "2.8.1"
    assert (row["d3rlpy"]["ms"], row["d3rlpy_sample"]) == (500.0, 3.0)
    assert row["d3rlpy"]["ratio"] == pytest.approx(row["step"] / 500.0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            [HELLO, answering(TD3BC_WORK | {"critics": 10})],
            "TD3BC works on other things in d3rlpy, critics: 2 here, 10",
        ),
        (["say({'d3rlpy': '2.8.1', 'torch': '1.0'})"], "1.0 there: install the same"),
        (["sys.exit('no such library')"], "ended with status 1:\nno such library"),
        ([HELLO, "sys.stdin.readline()", "sys.exit(3)"], "ended with status 3"),
    ],
)
def test_another_side_that_differs_or_dies_is_told(against, body, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        against(*body)


def test_a_python_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SystemExit, match="give the Python of d3rlpy's environment"):
        d3rlpy_speed.main(["--python", str(tmp_path / "python")])


@pytest.fixture
def scale(tmp_path, monkeypatch):
    """Runs one experiment at two small sizes and returns its file's content."""
    monkeypatch.setattr(scaling, "ROUND", 0.0)

    def run(what: str, *sizes: int, **options: str) -> dict:
        monkeypatch.setitem(scaling.SIZES, what, sizes)
        (tmp_path / "data").mkdir()
        others = [word for name, value in options.items() for word in (f"--{name}", value)]
        folders = ["--folder", str(tmp_path / "data"), "--out", str(tmp_path)]
        scaling.main(["--only", what, "--seconds", "0", *folders, *others])
        assert (tmp_path / f"scaling_{what}_cpu.png").read_bytes().startswith(b"\x89PNG")
        assert not list((tmp_path / "data").iterdir())
        return json.loads((tmp_path / f"scaling_{what}_cpu.json").read_text())

    return run


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("batch", lambda agent: agent.config.batch_size),
        ("width", lambda agent: agent.critic.trunk.linears[1].weight.shape[-1]),
        ("population", lambda agent: agent.policy.actor.trunk.linears[0].weight.shape[0]),
    ],
)
def test_each_size_is_the_agents_own(scale, monkeypatch, what, found):
    agents = []
    steps = scaling.steps
    monkeypatch.setattr(scaling, "steps", lambda agent, data: agents.append(agent) or steps(agent, data))
    points = scale(what, 2, 3)["points"]
    assert [(point["series"], point["size"]) for point in points] == [
        ("TD3BC", 2),
        ("TD3BC", 3),
        ("IQL", 2),
        ("IQL", 3),
    ]
    assert [(type(agent).__name__, found(agent)) for agent in agents] == [(p["series"], p["size"]) for p in points]
    assert all(0.0 < point["q1"] <= point["ms"] <= point["q3"] for point in points)


def test_datasets_are_read_from_memory_and_from_files_that_are_removed(scale):
    points = scale("rows", 100_000, 200_000, 300_000, **{"max-rows": "200000"})["points"]
    assert {(point["series"], point["size"]) for point in points} == {
        (f"{what}, in {where}", size)
        for what in ("step", "batch")
        for where in ("memory", "a file")
        for size in (100_000, 200_000)
    }


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e9))
    with pytest.raises(SystemExit, match=r"1\.0 GB free, 20\.2 are needed for 100,000,000 rows"):  # 1.2 x 42 x 4 bytes
        scaling.in_file(100_000_000, tmp_path)
    assert not list(tmp_path.iterdir())


def test_growth_is_told_in_words():
    # 2^2 times the cost for 2^4 times the size: a quarter of what is in proportion, on a line of slope 2 / 4.
    points = [{"size": 256, "ms": 8.0}, {"size": 4_096, "ms": 32.0}]
    assert scaling.sentence("TD3BC", points, power=1) == (
        "TD3BC: 8 ms at 256, 32 ms at 4,096: 4 x the cost for 16 x the size, 0.250 x what is in proportion; "
        "exponent 0.50"
    )


# Roofline of a GPU


def test_operations_are_counted_without_views_and_with_what_they_read_and_write():
    x, y = torch.ones(4, 8), torch.ones(8, 2)
    with gpu.Operations() as operations:
        out = x @ y  # reads 32 and 16 numbers, writes 8
        out.t().unsqueeze(0)  # two views
        out.add_(1.0)  # reads 8, and gives them
    assert operations.count == 2
    assert operations.bytes == 4 * (32 + 16 + 8 + 8 + 8)


def test_the_roofline_of_an_agent_holds_its_products(capsys):
    dataset = OfflineDataset.from_arrays(**random_columns(1000), name="random")
    agent = TD3(dataset, actor_hidden=(16,), critic_hidden=(16,), batch_size=8, device="cpu")
    rate = {"kernel_s": 1e-6, "bytes_per_s": 1e9, "flop_per_s": 1e9}
    row = gpu.measure("TD3", agent, dataset, rate)
    # Two numbers a multiply-add; the actor 17 -> 16 -> 6, the critics 23 -> 16 -> 1 of which the last column is a sum.
    actor, critic = 8 * (17 * 16 + 16 * 6), 8 * 23 * 16
    critic_step = actor + 2 * critic + 2 * (2 * critic)  # target's actions and opinions, forward, weights' gradients
    actor_step = (actor + 8 * 16 * 6 + actor) + 2 * critic  # forward, through and to its weights; first critic and back
    assert row["products_ms"] == pytest.approx((critic_step + actor_step / 2) * 2 / 1e9 * 1e3, rel=0.02)
    assert row["limit"] in ("launches", "bytes", "products")
    assert row["agent"] in capsys.readouterr().out


def test_threads_times_each_thing_on_so_many_threads():
    before, seen = torch.get_num_threads(), []
    for count in (1, 2):
        assert threads.on(count, lambda: seen.append(torch.get_num_threads()), each=3)() > 0.0
    torch.set_num_threads(before)
    assert seen == [1] * 4 + [2] * 4  # once to wake them
