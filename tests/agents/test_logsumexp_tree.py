"""The tree of log weights: recorded numbers, sums and draws worked out without a tree, and bad numbers."""

import math

import pytest
import torch
from torch import Tensor, tensor

from tests.support.golden import Case
from zoo.agents.shared import logsumexp_tree
from zoo.agents.shared.logsumexp_tree import LogSumExpTree

CPU, LOWEST = torch.device("cpu"), -math.inf
HAND = (0.0, 1.0, -2.0, 3.0, 0.5)
ONE = 1.0 - 2.0**-53  # the largest double below 1
SIZES = (1, 2, 3, 5, 7, 8, 1000, 4097)
DEEP = 70_000  # 17 levels: a whole one of 9, and two strides


@pytest.fixture(params=[3, 12], ids=["in strides", "at once"], autouse=True)
def dense(request, monkeypatch):
    """Small trees too go down the way that large ones go."""
    monkeypatch.setattr(logsumexp_tree, "DENSE", request.param)


def tree_of(log_weights: Tensor | tuple[float, ...]) -> LogSumExpTree:
    """A tree with these leaves (*lead, size), written by `update`."""
    leaves = torch.as_tensor(log_weights, dtype=torch.float64)
    tree = LogSumExpTree(leaves.shape[-1], tuple(leaves.shape[:-1]), CPU)
    tree.update(torch.arange(tree.size).expand(leaves.shape), leaves)
    return tree


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=rng(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng(seed))


def assert_sums(tree: LogSumExpTree) -> None:
    """Every parent is the logaddexp of its children, and the root the logsumexp of the leaves."""
    parents = torch.arange(tree.members, len(tree.nodes) // 2)
    sums = torch.logaddexp(tree.nodes[2 * parents], tree.nodes[2 * parents + 1])
    torch.testing.assert_close(tree.nodes[parents], sums, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(tree.total, tree.log_weights.logsumexp(-1), rtol=1e-9, atol=1e-12)


# Recorded numbers


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_authors_tree_is_reproduced(index):
    """Their empty leaves hold -1e8, ours -inf: the same mass, for exp(-1e8) is 0 in doubles. None is stored."""
    case = Case("logsumexp_tree")
    name = f"tree{index}"
    tree = tree_of(case.arrays[f"params/{name}/log_priorities"])
    for step, write in ((1, None), (2, "update"), (3, "single")):
        if write:
            tree.update(*(case.arrays[f"batch/{name}/{write}_{part}"].reshape(-1) for part in ("index", "value")))
        expected = {key: case.arrays[f"expected/step{step}/{name}/{key}"] for key in ("log_total", "log_priorities")}
        torch.testing.assert_close(tree.total, expected["log_total"], **case.tolerance)
        assert torch.equal(tree.log_weights, expected["log_priorities"])
        drawn = tree.sample(case.arrays[f"draws/step{step}/{name}/uniform"])
        assert torch.equal(drawn, case.arrays[f"expected/step{step}/{name}/sampled_index"])


# Sums


def test_two_zero_leaves_sum_to_ln_2_and_not_to_the_printed_algorithms_ln_3():
    assert LogSumExpTree(2, (), CPU).total.item() == pytest.approx(0.6931471805599453, abs=1e-15)


def test_five_leaves_by_hand():
    tree = tree_of(HAND)
    # ln(1 + e + e^-2 + e^3 + e^0.5) = ln 25.5879; the printed Algorithm 3 gives 5.1968.
    assert tree.total.item() == pytest.approx(3.242118618, abs=1e-9)
    # A heap of 16 with the root at 1 and the leaves at 8; the last three hold nothing.
    assert tree.nodes[8:].tolist() == [*HAND, LOWEST, LOWEST, LOWEST]
    assert tree.nodes[0].item() == LOWEST
    assert tree.nodes[4].item() == pytest.approx(1.3132616875)  # ln(1 + e)
    assert tree.nodes[[6, 7, 3]].tolist() == [0.5, LOWEST, 0.5]  # logaddexp with -inf on one side and on both


@pytest.mark.parametrize("size", SIZES)
def test_all_weights_are_equal_at_the_start(size):
    tree = LogSumExpTree(size, (), CPU)
    assert tree.total.item() == pytest.approx(math.log(size), abs=1e-12)
    assert torch.equal(tree.log_weights, torch.zeros(size, dtype=torch.float64))


@pytest.mark.parametrize("size", SIZES)
def test_updates_leave_every_parent_the_sum_of_its_children_and_drift_nowhere(size):
    tree = LogSumExpTree(size, (), CPU)
    leaves = torch.zeros(size, dtype=torch.float64)
    for step in range(20):
        indices = torch.randint(size, (64,), generator=rng(step))
        values = 30.0 * normal(64, seed=step)
        tree.update(indices, values)
        for index, value in zip(indices.tolist(), values.tolist(), strict=True):
            leaves[index] = value
    assert torch.equal(tree.log_weights, leaves)
    assert_sums(tree)
    rebuilt = LogSumExpTree(size, (), CPU)
    rebuilt.restore(tree.tensors())
    torch.testing.assert_close(tree.nodes, rebuilt.nodes, rtol=1e-15, atol=1e-15)


def test_a_batch_of_writes_equals_one_write_after_the_other():
    indices, values = torch.randint(50, (200,), generator=rng()), normal(200)
    together, single = LogSumExpTree(50, (), CPU), LogSumExpTree(50, (), CPU)
    together.update(indices, values)
    for i in range(200):
        single.update(indices[i : i + 1], values[i : i + 1])
    assert torch.equal(together.log_weights, single.log_weights)
    torch.testing.assert_close(together.nodes, single.nodes, rtol=1e-15, atol=1e-15)


def test_the_last_of_equal_indices_wins():
    tree = LogSumExpTree(4, (), CPU)
    tree.update(tensor([2, 0, 2, 2, 0]), tensor([9.0, 8.0, -7.0, 0.25, -1.5]))
    assert tree.log_weights.tolist() == [-1.5, 0.0, 0.25, 0.0]
    assert_sums(tree)


def test_the_last_of_equal_indices_wins_where_a_scatter_has_no_order(monkeypatch):
    """As on a GPU: here every scatter writes in an order of its own."""
    ordered, seeds = Tensor.scatter_, iter(range(100))

    def scatter_(target: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
        order = torch.randperm(len(index), generator=rng(next(seeds)))
        return ordered(target, dim, index[order], source[order])

    indices, values = torch.randint(10, (100,), generator=rng()), normal(100)
    expected = LogSumExpTree(10, (), CPU)
    expected.update(indices, values)
    monkeypatch.setattr(Tensor, "scatter_", scatter_)
    tree = LogSumExpTree(10, (), CPU)
    tree.update(indices, values)
    assert torch.equal(tree.nodes, expected.nodes)


def test_a_float32_value_is_kept_as_it_is_and_without_its_gradient():
    tree = LogSumExpTree(2, (), CPU)
    tree.update(tensor([1]), tensor([0.1], requires_grad=True))
    assert tree.log_weights.tolist() == [0.0, tensor(0.1).item()]
    assert not tree.total.requires_grad


def test_the_total_does_not_follow_later_updates():
    tree = LogSumExpTree(2, (), CPU)
    total = tree.total
    tree.update(tensor([0]), tensor([5.0]))
    assert total.item() == pytest.approx(math.log(2))


# Draws


@pytest.mark.parametrize("size", [*SIZES, DEEP])
def test_a_draw_is_the_inverse_of_the_cumulative_distribution(size):
    leaves, places = 5.0 * normal(size), uniform(2000, seed=1)
    expected = torch.searchsorted(leaves.softmax(-1).cumsum(-1), places, right=True)
    assert torch.equal(tree_of(leaves).sample_iid(places), expected)


@pytest.mark.parametrize("size", [3, 8, 1000, DEEP])
def test_a_stratified_draw_is_one_place_in_each_stratum(size):
    tree, numbers = tree_of(3.0 * normal(size)), uniform(512, seed=1)
    drawn = tree.sample(numbers)
    assert torch.equal(drawn, tree.sample_iid((torch.arange(512) + numbers) / 512))
    assert bool((drawn.diff() >= 0).all())
    share = 512 * tree.log_weights.softmax(-1)
    assert (torch.bincount(drawn, minlength=size) - share).abs().max() < 2


def test_equal_weights_are_drawn_once_each_where_their_number_is_a_power_of_two():
    for size in (1, 2, 16, 4096):
        assert torch.equal(LogSumExpTree(size, (), CPU).sample(uniform(size)), torch.arange(size))


def chi_square_bound(freedom: int) -> float:
    """What chi-square exceeds once in a thousand: Wilson and Hilferty 1931, with 3.0902 from the normal's table.

    Within 2 % of the exact value from 3 degrees of freedom on (at 10: 29.59 in tables).
    """
    part = 2.0 / (9.0 * freedom)
    return freedom * (1.0 - part + 3.0902 * math.sqrt(part)) ** 3


def test_the_bound_of_chi_square_is_that_of_the_tables():
    assert [chi_square_bound(n) for n in (3, 10, 30, 100)] == pytest.approx([16.27, 29.59, 59.70, 149.45], rel=0.02)


@pytest.mark.parametrize("leaves", [tensor(HAND), torch.linspace(-50.0, 0.0, 101), torch.zeros(100)])
def test_a_million_draws_follow_the_softmax(leaves):
    draws = 1_000_000
    tree = tree_of(leaves)
    counts = torch.cat(
        [torch.bincount(tree.sample_iid(part), minlength=tree.size)[None] for part in uniform(10, 10**5)]
    )
    expected = draws * leaves.double().softmax(-1)
    rare = expected < 10  # one class together
    observed = torch.cat([counts.sum(0)[~rare], counts.sum(0)[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    classes = expected > 0
    statistic = ((observed - expected).square() / expected)[classes].sum()
    assert statistic < chi_square_bound(int(classes.sum()) - 1)


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_a_constant_added_to_every_log_weight_changes_no_draw(shift):
    leaves = 10.0 * normal(1000)
    assert torch.equal(tree_of(leaves + shift).sample(uniform(512)), tree_of(leaves).sample(uniform(512)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000, 4097])
def test_padding_is_never_drawn_not_even_at_the_ends_of_the_unit_interval(size):
    places = tensor([0.0, 5e-324, 2.0**-53, 0.5, 1 - 2.0**-52, ONE, 1.0], dtype=torch.float64)
    for leaves in (torch.zeros(size), 20.0 * normal(size), torch.linspace(-800.0, 800.0, size)):
        for drawn in (tree_of(leaves).sample_iid(places), tree_of(leaves).sample(torch.full((333,), ONE).double())):
            assert 0 <= drawn.min() <= drawn.max() < size


def test_a_leaf_without_mass_is_never_drawn():
    leaves = normal(1001)
    leaves[::2] = LOWEST
    leaves[500:] = LOWEST
    tree = tree_of(leaves)
    drawn = tree.sample_iid(torch.cat([uniform(20_000), tensor([0.0, ONE], dtype=torch.float64)]))
    assert bool((tree.log_weights[drawn] > LOWEST).all())
    assert (drawn[-2].item(), drawn[-1].item()) == (1, 499)


def test_a_draw_does_not_depend_on_the_order_in_which_masses_are_summed(monkeypatch):
    """As on a GPU, whose scans add up in parallel: here each sum doubles its reach in turn."""
    leaves, places = 3.0 * normal(4, 64), uniform(4, 500)
    total = leaves.logsumexp(-1, keepdim=True)
    expected = logsumexp_tree.descend(leaves, total, places)

    def cumsum(terms: Tensor, dim: int) -> Tensor:
        for reach in (1, 2, 4, 8, 16, 32):
            terms = torch.cat([terms[:, :reach], terms[:, reach:] + terms[:, :-reach]], dim)
        return terms

    monkeypatch.setattr(Tensor, "cumsum", cumsum)
    child, place = logsumexp_tree.descend(leaves, total, places)
    assert torch.equal(child, expected[0])
    assert torch.equal(place, expected[1])
    assert 0.0 <= place.min() <= place.max() < 1.0


@pytest.mark.parametrize("low", [-800.0, LOWEST])
@pytest.mark.parametrize("size", [5, 8, 1000])
def test_all_draws_fall_on_one_heavy_leaf(size, low):
    for heavy in (0, size // 2, size - 1):
        leaves = torch.full((size,), low, dtype=torch.float64)
        leaves[heavy] = 800.0
        tree = tree_of(leaves)
        assert tree.total.item() == 800.0
        assert tree.sample(uniform(512)).unique().tolist() == [heavy]


def test_logits_of_plus_and_minus_800_share_the_mass_among_the_heavy():
    leaves = torch.full((100,), -800.0).double()
    leaves[[3, 97]] = 800.0
    tree = tree_of(leaves)
    assert tree.total.item() == pytest.approx(800.0 + math.log(2))
    assert tree.sample(uniform(512)).tolist() == [3] * 256 + [97] * 256


# Populations


@pytest.mark.parametrize("lead", [(1,), (3,), (2, 3)])
@pytest.mark.parametrize("size", [1, 5, 8, 5000])
def test_a_population_is_so_many_single_trees(lead, size):
    together = LogSumExpTree(size, lead, CPU)
    indices, values = torch.randint(size, (*lead, 40), generator=rng()), 3.0 * normal(*lead, 40)
    together.update(indices, values)
    numbers = uniform(*lead, 64)
    drawn, iid, total = together.sample(numbers), together.sample_iid(numbers), together.total
    assert drawn.shape == (*lead, 64)
    assert total.shape == lead
    for member in torch.cartesian_prod(*(torch.arange(n) for n in lead)).view(-1, len(lead)).tolist():
        alone, own = LogSumExpTree(size, (), CPU), tuple(member)
        alone.update(indices[own], values[own])
        assert torch.equal(alone.log_weights, together.log_weights[own])
        assert torch.equal(alone.sample(numbers[own]), drawn[own])
        assert torch.equal(alone.sample_iid(numbers[own]), iid[own])
        torch.testing.assert_close(alone.total, total[own], rtol=1e-15, atol=1e-15)


# Checkpoints


def test_a_restored_tree_goes_on_as_the_saved_one():
    tree, other = tree_of(normal(2, 300)), LogSumExpTree(300, (2,), CPU)
    other.restore({name: value.clone() for name, value in tree.tensors().items()})
    for one in (tree, other):
        one.update(tensor([[7, 7], [1, 299]]), tensor([[3.0, 2.0], [4.0, 1.0]]))
    assert torch.equal(tree.log_weights, other.log_weights)
    assert torch.equal(tree.sample(uniform(2, 512)), other.sample(uniform(2, 512)))
    assert_sums(other)


@pytest.mark.parametrize(
    "tensors",
    [{}, *({"log_weights": t} for t in (torch.zeros(4).double(), torch.zeros(5), torch.full((5,), math.nan).double()))],
)
def test_what_is_not_such_a_tree_is_not_restored(tensors):
    tree = tree_of(HAND)
    with pytest.raises(ValueError, match=r"a tree needs log_weights \(5,\), float64"):
        tree.restore(tensors)
    assert tree.log_weights.tolist() == list(HAND)


# Bad numbers


@pytest.mark.parametrize(("index", "value"), [(0, math.nan), (0, math.inf), (-1, 0.0), (5, 0.0), (8, 0.0)])
def test_a_bad_write_is_an_error_and_writes_nothing(index, value):
    tree = tree_of(HAND)
    before = tree.nodes.clone()
    with pytest.raises(RuntimeError, match=r"indices must be in \[0, 5\), log weights below \+inf and not NaN"):
        tree.update(tensor([1, index]), tensor([7.0, value]))
    assert torch.equal(tree.nodes, before)


def test_nothing_can_be_drawn_where_nothing_has_mass():
    tree = LogSumExpTree(3, (2,), CPU)
    tree.update(tensor([[0, 1, 2], [0, 1, 1]]), torch.full((2, 3), LOWEST))
    with pytest.raises(RuntimeError, match="every log weight is -inf"):
        tree.sample(uniform(2, 4))


def test_wrong_shapes_are_named():
    tree = LogSumExpTree(5, (2,), CPU)
    with pytest.raises(ValueError, match=r"one shape \(2, K\), got \(2, 3\) and \(2, 4\)"):
        tree.update(torch.zeros(2, 3).long(), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"one shape \(2, K\), got \(3,\) and \(3,\)"):
        tree.update(torch.zeros(3).long(), torch.zeros(3))
    for draw in (tree.sample, tree.sample_iid):
        with pytest.raises(ValueError, match=r"must be \(2, B\), got \(4,\)"):
            draw(torch.zeros(4))
        with pytest.raises(ValueError, match=r"must be \(2, B\), got \(\)"):
            draw(torch.zeros(()))
    with pytest.raises(ValueError, match="at least one leaf, got size 0"):
        LogSumExpTree(0, (), CPU)


def test_nothing_drawn_and_nothing_written_is_fine():
    tree = tree_of(HAND)
    tree.update(torch.zeros(0).long(), torch.zeros(0))
    assert tree.sample(torch.zeros(0)).shape == (0,)
    assert tree.log_weights.tolist() == list(HAND)
