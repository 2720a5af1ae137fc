"""What each table of the papers' specifications, and a few of their sentences, claim about the agents' presets.

A reader consumes every row and column that it knows and refuses the rest, so that a new one is noticed.
"""

import re
from collections.abc import Callable, Iterator

from tests.support.papers import Claim, Items, Reader, Table, claims, columns, inverse, number, reward_claims, search
from zoo.agents.core.presets import load_preset

SIZES = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
MAZES = [f"antmaze-{size}" for size in SIZES]
POINT_MAZES = [f"maze2d-{size}" for size in ("umaze", "medium", "large")]
HANDS = [f"{hand}-{kind}" for hand in ("pen", "door", "hammer", "relocate") for kind in ("human", "cloned", "expert")]
KITCHENS = [f"kitchen-{kind}" for kind in ("complete", "partial", "mixed")]
QUALITIES = ("random", "medium", "expert", "medium-expert", "medium-replay", "full-replay")
RUNNERS = [f"{runner}-{kind}" for runner in ("halfcheetah", "hopper", "walker2d") for kind in QUALITIES]
FAMILIES = {
    "antmaze": MAZES,
    "maze2d": POINT_MAZES,
    "adroit": HANDS,
    "kitchen": KITCHENS,
    "gym": RUNNERS,
    "gym-mujoco": RUNNERS,
    "locomotion": RUNNERS,
}


# PARS -----------------------------------------------------------------------------------------------------------------

PARS_MAZES = [*MAZES, "antmaze-ultra-play", "antmaze-ultra-diverse"]
PARS_HANDS = [hand for hand in HANDS if not hand.endswith("human")]
PARS_RUNNERS = [runner for runner in RUNNERS if runner.split("-", 1)[1] not in ("expert", "full-replay")]


def pars_common(table: Table) -> Iterator[Claim]:
    items = Items(table, "nonlinearity")
    everywhere = PARS_MAZES + PARS_HANDS + PARS_RUNNERS
    rate, batch = items.numbers("optimizer / lr (all nets) / batch")
    (tau,) = items.numbers("Polyak tau")
    width = {int(items.take("hidden width (all nets)"))}
    start, utd, _ = items.numbers("learning starts / UTD / online steps")
    noise, clip, delay = items.numbers("policy noise, noise clip, policy_freq (base TD3) `[B]`")
    yield from claims("PARS", everywhere, actor_lr=rate, critic_lr=rate, batch_size=int(batch), tau=tau)
    yield from claims("PARS", everywhere, actor_hidden=(width, set), critic_hidden=(width, set))
    yield from claims("PARS", everywhere, learning_starts=int(start), updates_per_step=int(utd))
    yield from claims("PARS", everywhere, target_noise_clip=clip, policy_delay=int(delay))
    yield from claims("PARS", PARS_MAZES + PARS_HANDS, target_noise=noise)  # MuJoCo's are in a table of their own
    for field, row in (
        ("gamma", "gamma"),
        ("infeasible_distance", "infeasible distance L"),
        ("n_critics", "critics N"),
        ("exploration_noise", "exploration noise online"),
    ):
        values = items.by_family(row)
        for family, datasets in (("antmaze", PARS_MAZES), ("adroit", PARS_HANDS), ("mujoco", PARS_RUNNERS)):
            yield from claims("PARS", datasets, **{field: values.get(family, values.get("others"))})
    assert items.take("actor cosine lr") == "Adroit only"
    yield from claims("PARS", PARS_HANDS, cosine_steps=(True, bool))
    yield from claims("PARS", PARS_MAZES + PARS_RUNNERS, cosine_steps=(False, bool))
    subset = int(search(r"default (\d+)", items.take("S_k_critic on AntMaze and Adroit")).group(1))
    yield from claims("PARS", PARS_MAZES + PARS_HANDS, target_subset=subset)
    items.end()


def pars_antmaze(table: Table) -> Iterator[Claim]:
    header = ("dataset", "c", "beta off", "alpha off", "beta on", "alpha on", "k_a", "rho")
    for name, *numbers in columns(table, *header):
        scale, beta, alpha, online_beta, online_alpha, subset, ratio = map(number, numbers)
        single = name.startswith("*single setting")
        yield from claims(
            "PARS",
            [f"antmaze-{'other' if single else name}"],
            "antmaze" if single else None,
            reward_scale=scale,
            beta=beta,
            alpha=alpha,
            online_beta=online_beta,
            online_alpha=online_alpha,
            online_actor_subset=subset,
            offline_ratio=ratio,
            q_min=0.0,  # section 3.5: all mazes
        )


def pars_adroit(table: Table) -> Iterator[Claim]:
    header = ("dataset", "beta off", "alpha off", "beta on", "alpha on", "k_a", "rho", "Q_min (raw)")
    scale = float(search(r"\(c = (\d+) everywhere", table.heading).group(1))
    for name, *numbers in columns(table, *header):
        beta, alpha, online_beta, online_alpha, subset, ratio, q_min = map(number, numbers)
        yield from claims("PARS", [name], reward_scale=scale, beta=beta, alpha=alpha, q_min=q_min)
        yield from claims("PARS", [name], online_beta=online_beta, online_alpha=online_alpha)
        yield from claims("PARS", [name], online_actor_subset=subset, offline_ratio=ratio)


def pars_mujoco(table: Table) -> Iterator[Claim]:
    header = ("dataset", "alpha off", "policy noise", "k_c", "alpha on", "k_a", "rho")
    beta, cheetah, others = (float(value) for value in re.findall(r"(\d+)(?:;| H)", table.heading))
    floors = {runner: float(floor) for runner, floor in re.findall(r"(\w+) (-\d+)", table.after)}
    for name, *numbers in columns(table, *header):
        alpha, noise, critics, online_alpha, subset, ratio = map(number, numbers)
        runner = name.split("-")[0]
        scale = cheetah if runner == "halfcheetah" else others
        yield from claims("PARS", [name], reward_scale=scale, beta=beta, alpha=alpha, q_min=floors[runner])
        yield from claims("PARS", [name], online_beta=beta)
        yield from claims("PARS", [name], target_noise=noise, target_subset=critics, online_alpha=online_alpha)
        yield from claims("PARS", [name], online_actor_subset=subset, offline_ratio=ratio)


# SSAR -----------------------------------------------------------------------------------------------------------------

TRUST = {"traj": "return", "iql": "iql"}


def ssar_runners(agent: str) -> Reader:
    def read(table: Table) -> Iterator[Claim]:
        assert table.before.startswith({"CQLSA": "CQL(SA). MuJoCo", "TD3BCSA": "TD3+BC(SA). MuJoCo"}[agent])
        start = float(search(r"n_start (\d+)", table.before).group(1))
        buffer = int(float(search(r"buffer (\d+e\d)", table.before).group(1)))
        online = search(r"load_way (\w+)", table.before).group(1)
        for name, n_end, method, least, expectile, mask in columns(
            table, "dataset", "n_end", "method", "G_T", "τ_e", "mask_reg"
        ):
            yield from claims(agent, [name], n_start=start, n_end=number(n_end), trust=TRUST[method.split()[0]])
            yield from claims(agent, [name], min_return=number(least), expectile=number(expectile))
            yield from claims(agent, [name], mask_cloning=mask == "yes", online_buffer=online, buffer_size=buffer)
            yield from (cql_line if agent == "CQLSA" else td3bc_line)(name, table.before)

    def cql_line(name: str, text: str) -> Iterator[Claim]:
        alpha, actor, critic = search(r"cql_alpha (\d+), no Lagrange, policy lr (\S+), Q lr (\S+),", text).groups()
        yield from claims(agent, [name], cql_alpha=float(alpha), actor_lr=float(actor), critic_lr=float(critic))
        yield Claim(agent, name, "target_gap", None)
        assert "normalise states" in text
        yield Claim(agent, name, "normalize_observations", True)

    def td3bc_line(name: str, text: str) -> Iterator[Claim]:
        alpha, delay, end = search(r"α ([\d.]+) .*online policy interval (\d+), N_end ([\d ]+)", text).groups()
        yield from claims(agent, [name], alpha=float(alpha), online_policy_delay=int(delay), anneal_steps=number(end))

    return read


def mazes_in(cell: str) -> list[str]:
    return [f"antmaze-{name.strip()}" for name in cell.split(",")]


def span(cell: str) -> tuple[float, float]:
    start, end = cell.split("→")
    return float(start), float(end)


def cqlsa_mazes(table: Table) -> Iterator[Claim]:
    text = table.before
    alpha, gap, floor, actor, critic, depth, buffer = search(
        r"cql_alpha (\d+), Lagrange, target gap ([\d.]+), max-target backup, clip diff ≥ −(\d+), policy lr (\S+), "
        r"Q lr (\S+), hidden layers (\d).*reward 10r−5, states NOT normalised, .*buffer (\S+),",
        text,
    ).groups()
    assert "method traj (successes), mask_reg no, load_way all" in re.sub(r"\*\*| \(mask_beta yes\)", "", text)
    for names, n in columns(table, "dataset", "n_start → n_end"):
        mazes, (start, end) = mazes_in(names), span(n)
        yield from claims("CQLSA", mazes, n_start=start, n_end=end, trust="success", mask_cloning=False)
        yield from claims("CQLSA", mazes, cql_alpha=float(alpha), target_gap=float(gap), gap_min=-float(floor))
        yield from claims("CQLSA", mazes, actor_lr=float(actor), critic_lr=float(critic), max_backup=True)
        yield from claims("CQLSA", mazes, critic_hidden=(int(depth), len), normalize_observations=False)
        yield from claims("CQLSA", mazes, online_buffer="all", buffer_size=int(float(buffer)))
        yield from reward_claims("CQLSA", mazes, "10 r - 5")


def td3bcsa_mazes(table: Table) -> Iterator[Claim]:
    text = table.before
    buffer = search(r"reward r−1, states normalised, .*buffer (\d+e\d)", text).group(1)
    assert "traj successes, mask_reg no, load_way all" in text
    for names, n, delay, anneal in columns(table, "dataset", "n_start → n_end", "online policy interval", "N_end"):
        mazes, (start, end) = mazes_in(names), span(n)
        steps = 0 if anneal == "none" else int(number(anneal))
        yield from claims("TD3BCSA", mazes, n_start=start, n_end=end, trust="success", mask_cloning=False)
        yield from claims("TD3BCSA", mazes, online_policy_delay=int(delay), anneal_steps=steps)
        yield from claims("TD3BCSA", mazes, online_buffer="all", buffer_size=int(float(buffer)))
        yield from claims("TD3BCSA", mazes, normalize_observations=True)
        yield from reward_claims("TD3BCSA", mazes, "r - 1")


def ssar_common(table: Table) -> Iterator[Claim]:
    items = Items(table, "β_init", "n_start, n_end", "expectile")  # these are per dataset, in the tables above
    for row in ("squared-error clamp in b (TD3+BC)", "SAC: target entropy, α lr", "seeds", "cost"):
        items.take(row)  # no fields: constants of the formulas, and of the experiments
    rates = items.numbers("β lr")
    layers, width = search(r"(\d)×(\d+) ReLU", items.take("β-net")).groups()
    (clip,) = items.numbers("β grad clip")
    (delta,) = items.numbers("δ")
    interval = int(number(items.take("T_inc")))
    filter_steps, filter_lr, *_ = items.numbers("IQL pre-training")
    region, floor = search(r"±([\d.]+)n; n=(\d+)", items.take("C_n action clamp, lower clamp n (CQL)")).groups()
    batch, gamma, tau = items.numbers("batch, γ, τ")
    noise, noise_clip, delay = items.numbers("TD3 noise/clip/interval")
    _, warm_up, _ = (number(part) for part in items.take("online steps / warm-up / N_end").split("/"))
    (part,) = items.numbers("part size")
    items.end()
    for agent, rate in zip(("TD3BCSA", "CQLSA"), (rates[0], rates[2]), strict=True):
        yield from claims(agent, RUNNERS + MAZES, coefficient_lr=rate, coefficient_clip=clip, n_interval=interval)
        yield from claims(agent, RUNNERS + MAZES, coefficient_hidden=([int(width)] * int(layers), list))
        yield from claims(agent, RUNNERS + MAZES, filter_steps=int(filter_steps), filter_lr=filter_lr)
        yield from claims(agent, RUNNERS + MAZES, batch_size=int(batch), gamma=gamma, tau=tau)
        yield from claims(agent, RUNNERS + MAZES, learning_starts=int(warm_up), part_episodes=int(part))
    yield from claims("TD3BCSA", RUNNERS + MAZES, delta=delta, target_noise=noise, target_noise_clip=noise_clip)
    yield from claims("TD3BCSA", RUNNERS + MAZES, policy_delay=int(delay))
    yield from claims("CQLSA", RUNNERS + MAZES, region_step=float(region), n_floor=float(floor))


# CAR ------------------------------------------------------------------------------------------------------------------


def car_common(table: Table) -> Iterator[Claim]:
    items = Items(table, "optimizer", "evaluation", "evaluation cadence")
    for row in ("eps_ood", "lambda"):
        assert "per task (unknown)" in items.take(row)
    critic_lr, actor_lr = items.numbers("critic lr / actor lr")
    (reference_lr,) = items.numbers("VAE lr")
    (batch,) = items.numbers("batch")
    (gamma,) = items.numbers("gamma")
    _, warm_up = items.numbers("total gradient steps / warm-up")
    tau, delay = items.numbers("tau / policy_freq")
    noise, clip = items.numbers("target noise / clip")
    critics, _ = items.numbers("critics")
    (capacity,) = items.numbers("capacity of D'")
    vae = items.take("VAE")
    first, second, kl, samples = search(r"(\d+)-(\d+), .*w=([\d.]+); (\d) latent sample", vae).groups()
    widths = [int(width) for width in items.take("actor / critic").split("-")]
    _, exploration, decay = items.numbers("online")
    items.end()
    everywhere = RUNNERS + MAZES + HANDS
    yield from claims("CAR", everywhere, actor_lr=actor_lr, critic_lr=critic_lr, reference_lr=reference_lr)
    yield from claims("CAR", everywhere, batch_size=int(batch), gamma=gamma, tau=tau, policy_delay=int(delay))
    yield from claims("CAR", everywhere, warmup_steps=int(warm_up), capacity=capacity, n_critics=int(critics))
    yield from claims("CAR", everywhere, target_noise=noise, target_noise_clip=clip, exploration_noise=exploration)
    yield from claims("CAR", everywhere, density_hidden=([int(first), int(second)], list), kl_weight=float(kl))
    yield from claims("CAR", everywhere, latent_samples=int(samples), actor_hidden=(widths, list))
    yield from claims("CAR", everywhere, critic_hidden=(widths, list))
    assert decay == 3.8  # the decay of section 3.8, not a number: to a fifth in 200,000 online updates
    yield from claims("CAR", MAZES, decay_floor=0.2, decay_steps=(200_000.0, lambda steps: steps * (1 - 0.2)))


# ASPC -----------------------------------------------------------------------------------------------------------------


def aspc_common(table: Table) -> Iterator[Claim]:
    items = Items(table, "total critic steps", "eval", "seeds' default", "versions of the authors")
    assert items.take("reward transform") == "none"
    assert items.take("r̄ in the TD target").endswith("use 0")
    everywhere = RUNNERS + POINT_MAZES + MAZES + HANDS  # the 39 datasets
    assert len(everywhere) == 39
    (batch,) = items.numbers("batch")
    (gamma,) = items.numbers("γ")
    (tau,) = re.findall(r"5e-3", items.take("τ"))
    critic_lr, actor_lr = items.numbers("critic / actor lr")
    noise, clip = items.numbers("target policy noise / clip")
    (delay,) = items.numbers("actor interval k_π")
    layers, width, norm = search(r"(\d)×(\d+) ReLU, LayerNorm (\w+)", items.take("critic")).groups()
    actor_layers, actor_width = search(r"(\d)×(\d+) ReLU", items.take("actor")).groups()
    alpha, _ = items.numbers("α init")
    alpha_lr = items.numbers("α lr")[0]
    falls = search(r"×0\.01\^\(1/(\d+)\) per α-update", items.take("α lr decay")).group(1)
    interval, critic_interval = items.numbers("α interval k_α")
    (memory,) = items.numbers("EMA factor κ")
    assert "z-score" in items.take("state normalisation")
    items.end()
    yield from claims("ASPC", everywhere, batch_size=int(batch), gamma=gamma, tau=float(tau), q_memory=memory)
    yield from claims("ASPC", everywhere, critic_lr=critic_lr, actor_lr=actor_lr, normalize_observations=True)
    yield from claims("ASPC", everywhere, target_noise=noise, target_noise_clip=clip, policy_delay=int(delay))
    yield from claims("ASPC", everywhere, critic_hidden=([int(width)] * int(layers), list), critic_norm=norm)
    yield from claims("ASPC", everywhere, actor_hidden=([int(actor_width)] * int(actor_layers), list), alpha=alpha)
    yield from claims("ASPC", everywhere, alpha_lr=alpha_lr, alpha_interval=int(interval))
    # Ours falls over critic steps.
    yield from claims("ASPC", everywhere, alpha_lr_steps=(float(falls), lambda steps: steps / critic_interval))
    yield from reward_claims("ASPC", everywhere, "raw")


def aspc_baselines(table: Table) -> Iterator[Claim]:
    header = ("dataset", "IQL β", "IQL τ", "IQL det. policy", "ReBRAC β1 (actor)", "ReBRAC β2 (critic)")
    policies = {"yes": "deterministic", "no": "gaussian"}
    for name, beta, expectile, deterministic, actor, critic in columns(table, *header):
        yield from claims("IQL", [name], "aspc", temperature=(float(beta), inverse), expectile=float(expectile))
        yield from claims("IQL", [name], "aspc", policy=policies[deterministic])
        yield from claims("ReBRAC", [name], actor_cloning=float(actor), critic_cloning=float(critic))


# The base algorithms --------------------------------------------------------------------------------------------------


def datasets_of(cell: str) -> list[str]:
    """ "kitchen, Adroit": every dataset of these families."""
    return [dataset for family in cell.split(",") for dataset in FAMILIES[family.strip().lower()]]


def rebrac_common(table: Table) -> Iterator[Claim]:
    header = ("family", "actor lr", "critic lr", "B", "gamma", "reward")
    for family, actor_lr, critic_lr, batch, gamma, form in columns(table, *header):
        datasets = datasets_of(family)
        yield from claims("ReBRAC", datasets, actor_lr=float(actor_lr), critic_lr=float(critic_lr))
        yield from claims("ReBRAC", datasets, batch_size=int(batch), gamma=float(gamma))
        yield from reward_claims("ReBRAC", datasets, form)


def rebrac_cloning(name: Callable[[str, str], str]) -> Reader:
    """A matrix of beta_1/beta_2. name: a row's and a column's name to the dataset's."""

    def read(table: Table) -> Iterator[Claim]:
        for row, *pairs in table.rows:
            for column, pair in zip(table.header[1:], pairs, strict=True):
                actor, critic = map(float, pair.split("/"))
                dataset = name(row, column)
                assert dataset in RUNNERS + MAZES + HANDS, dataset
                yield from claims("ReBRAC", [dataset], actor_cloning=actor, critic_cloning=critic)

    return read


def cql_families(table: Table) -> Iterator[Claim]:
    header = ("family", "cql_alpha", "policy lr", "Lagrange (gap)", "max backup", "diff clip", "critic layers")
    for family, alpha, rate, gap, backup, clip, layers, norm, form in columns(table, *header, "state norm", "reward"):
        datasets = datasets_of(family)
        yield from claims("CQL", datasets, cql_alpha=float(alpha), actor_lr=float(rate), max_backup=backup == "yes")
        yield from claims("CQL", datasets, critic_hidden=(int(layers), len), normalize_observations=norm == "yes")
        # Hopper-medium's own scale stands in brackets; CQL has no field for it.
        yield from reward_claims("CQL", datasets, form.split(" (")[0])
        for dataset in datasets:
            known = re.fullmatch(r"yes \(([\d.]+)\)", gap)
            assert known or gap == "no"
            yield Claim("CQL", dataset, "target_gap", float(known.group(1)) if known else None)
            yield Claim("CQL", dataset, "gap_min", None if clip == "none" else float(clip.removeprefix("min ")))


def iql_families(table: Table) -> Iterator[Claim]:
    for family, expectile, beta, dropout, form in columns(table, "official", "tau_e", "beta", "dropout", "reward"):
        datasets = datasets_of(family)
        scaled = re.fullmatch(r"r \* (\d+)/\(max return - min return\) over dataset episodes", form)
        yield from claims("IQL", datasets, expectile=float(expectile), temperature=(float(beta), inverse))
        yield from claims("IQL", datasets, dropout=float(dropout))
        for dataset in datasets:
            yield Claim("IQL", dataset, "return_range", float(scaled.group(1)) if scaled else None)
        yield from reward_claims("IQL", datasets, "raw" if scaled else form)


def ensembles(table: Table) -> Iterator[Claim]:
    """How many critics SAC-N and EDAC have, and the weight of EDAC's diversity."""
    for name, counts, pairs in columns(table, "", "SAC-N N", "EDAC (N, eta)"):
        datasets = ensemble_datasets(name)
        numbers = [int(count) for count in counts.split("/")]
        found = [(int(n), float(eta)) for n, eta in re.findall(r"\((\d+),([\d.]+)\)", pairs)]
        for i, dataset in enumerate(datasets):
            yield from claims("SACN", [dataset], n_critics=numbers[i % len(numbers)])
            n, eta = found[i % len(found)]
            yield from claims("EDAC", [dataset], n_critics=n, eta=eta)


def ensemble_datasets(cell: str) -> list[str]:
    if cell in ("antmaze", "maze2d"):
        return FAMILIES[cell]
    names, _, kinds = cell.partition(" ")
    if "/" in kinds:  # "hopper m / m-r / m-e", "pen human/cloned/expert"
        long = {"m": "medium", "m-r": "medium-replay", "m-e": "medium-expert"}
        return [f"{names}-{long.get(kind.strip(), kind.strip())}" for kind in kinds.split("/")]
    return [hand for hand in HANDS if hand.split("-")[0] in cell.split(", ")]


COMPARED = {"TD3+BC": "TD3BC", "ReBRAC": "ReBRAC", "CQL": "CQL", "AWAC": "AWAC", "IQL": "IQL"}
COMPARED |= {"EDAC": "EDAC", "RLPD": "RLPD"}
FORMULAS = (
    "BC / penalty reduction",
    "Q in the actor loss",
    "Q normaliser",
    "critic loss reduction",
    "target min/mean",
    "entropy in target",
    "target actor",
)


def compared(table: Table) -> Iterator[Claim]:
    assert set(table.header) == {"item", *COMPARED, "Diff-QL", "FQL"}
    rows = {
        item: {COMPARED[name]: cell for name, cell in zip(table.header[1:], cells, strict=True) if name in COMPARED}
        for item, *cells in table.rows
    }
    norms = {"-": "none", "after act.": "after", "before act.": "before"}
    known = ("target cadence", "LN position", "state norm", "AntMaze reward")
    assert set(rows) == {*known, *FORMULAS}, "a new item: give it a reader, or list it among FORMULAS"
    for agent in COMPARED.values():
        if agent not in ("AWAC", "IQL", "EDAC", "RLPD"):  # their targets move every step, without a setting
            yield from claims(agent, RUNNERS + MAZES, target_delay=int(rows["target cadence"][agent]))
        yield from claims(agent, RUNNERS + MAZES, critic_norm=norms[rows["LN position"][agent]])
        normalised = rows["state norm"][agent].split()[0]
        if normalised != "family":  # a table of CQL's own says which
            yield from claims(agent, RUNNERS + MAZES, normalize_observations=normalised == "yes")
        yield from reward_claims(agent, MAZES, rows["AntMaze reward"][agent])


def antmaze_rewards(table: Table) -> Iterator[Claim]:
    ours = {"IQL": "IQL", "TD3+BC": "TD3BC", "AWAC": "AWAC", "SPOT": "SPOT", "CORL CQL": "CQL", "ReBRAC": "ReBRAC"}
    ours |= {"FQL": "FQL", "Diffusion-QL": "DiffusionQL"}
    ours |= {"RLPD": "RLPD", "Cal-QL": "CalQL"}
    others = {"CQL paper", "some others"}
    for form, users in columns(table, "transform", "used by"):
        for user in users.split(", "):
            assert user in ours or user in others, f"{user} is neither an agent of ours nor known as another's"
            if user in ours:
                yield from reward_claims(ours[user], MAZES, form)


# Diffusion-QL and FQL -------------------------------------------------------------------------------------------------


def diffusion_tasks(table: Table) -> Iterator[Claim]:
    for names, rate, eta, best, norm, *_ in columns(table, "dataset", "lr", "eta", "max_q", "gn", "epochs", "top-k"):
        kinds = re.sub(r"-m-r\b", "-medium-replay", re.sub(r"-m-e\b", "-medium-expert", names))
        kinds = re.sub(r"-v\d\b", "", re.sub(r" \(.*?\)", "", kinds))
        family, *others = kinds.split(" / ")
        if family.startswith("kitchen "):
            family, others = family.replace(" ", "-"), [f"kitchen-{other}" for other in others]
        datasets = [family, *others]
        norms = [float(part) for part in norm.split(" / ")]
        for dataset, clip in zip(datasets, norms * len(datasets) if len(norms) == 1 else norms, strict=False):
            yield from claims("DiffusionQL", [dataset], actor_lr=float(rate), eta=float(eta), gradient_clip=clip)
            yield from claims("DiffusionQL", [dataset], max_backup=best == "yes")
            yield from claims("DiffusionQL", [dataset], normalize_rewards="(reward normalised)" in names)


def diffusion_everywhere(text: str) -> Iterator[Claim]:
    part = text[text.index("## 10. Diffusion-QL") : text.index("## 11. FQL")]
    batch, gamma = search(r"B (\d+), gamma ([.\d]+), 1000 steps per epoch", part).groups()
    count = int(search(r"draw (\d+) actions from the \*?raw actor", part).group(1))
    steps = int(search(r'"vp" schedule, T = (\d+) \(all experiments\)', part).group(1))
    clip = int(search(r"or (\d+) samples a'_k", part).group(1))
    every, start = map(int, search(r"EMA: every (\d+) steps, once step >= (\d+)", part).groups())
    datasets = [*MAZES, "pen-human", "pen-cloned", *KITCHENS, "hopper-medium", "walker2d-medium-expert"]
    yield from claims("DiffusionQL", datasets, batch_size=int(batch), gamma=float(gamma), evaluation_samples=count)
    yield from claims("DiffusionQL", datasets, diffusion_steps=steps, backup_actions=clip)
    yield from claims("DiffusionQL", datasets, actor_target_delay=every, actor_target_start=start)
    yield from reward_claims("DiffusionQL", MAZES, "4 (r - 0.5)")


def fql_notes(dataset: str, notes: str) -> Iterator[Claim]:
    gamma = re.search(r"gamma ([.\d]+)", notes)
    yield from claims("FQL", [dataset], q_aggregate="min" if "min" in notes else "mean")
    yield from claims("FQL", [dataset], gamma=float(gamma.group(1)) if gamma else 0.99)


def fql_ogbench(table: Table) -> Iterator[Claim]:
    for names, alphas, notes in columns(table, "OGBench", "alpha", "notes"):
        if names.startswith("visual"):
            continue  # pixels
        head, *tails = names.split(" / ")
        datasets = [head]
        for tail in tails:  # "humanoidmaze-medium / large-navigate", "cube-single / cube-double-play"
            ending = tail.rsplit("-", 1)[1]
            whole = tail if tail.split("-")[0] == head.split("-")[0] else f"{head.split('-')[0]}-{tail}"
            datasets = [*(f"{name}-{ending}" for name in datasets), whole]
        for dataset, alpha in zip(datasets, alphas.split(" / "), strict=True):
            yield from claims("FQL", [dataset], alpha=float(alpha))
            yield from fql_notes(dataset, notes)


def fql_d4rl(table: Table) -> Iterator[Claim]:
    hands = "min for all Adroit"
    assert any(hands in row[2] for row in table.rows)
    for names, alphas, notes in columns(table, "D4RL", "alpha", "notes"):
        family, kinds = names.split(" ", 1)
        datasets = [f"{family}-{kind.strip()}" for kind in re.split(r"[,/]", kinds)]
        values = [float(part) for part in alphas.split(" / ")]
        for dataset, alpha in zip(datasets, values if len(values) > 1 else values * len(datasets), strict=True):
            yield from claims("FQL", [dataset], alpha=alpha)
            yield from fql_notes(dataset, notes if family == "antmaze" else hands)


def fql_finetuning(text: str) -> Iterator[Claim]:
    """The weight online: as offline, or another one."""
    part = search(r"Fine-tuning alpha: (.*?)\. Tuning advice", text).group(1)
    ogbench, d4rl = part.split("; D4RL AntMaze as offline (10,10,10,10,3,3); ")
    names = {"humanoidmaze-medium": "humanoidmaze-medium-navigate", "antsoccer": "antsoccer-arena-navigate"}
    names |= {"cube-double": "cube-double-play", "scene": "scene-play", "puzzle-4x4": "puzzle-4x4-play"}
    tuned = {names[name]: float(alpha) for name, alpha in (item.rsplit(" ", 1) for item in ogbench.split(", "))}
    shared, single = re.fullmatch(r"pen, door, hammer cloned (\d+); relocate-cloned (\d+)", d4rl).groups()  # type: ignore[union-attr]
    tuned |= {f"{hand}-cloned": float(shared) for hand in ("pen", "door", "hammer")} | {
        "relocate-cloned": float(single)
    }
    for dataset, alpha in tuned.items():
        setting = load_preset("FQL", dataset)
        if setting.get("alpha", 10.0) == alpha:
            yield Claim("FQL", dataset, "online_alpha", None)
        else:
            yield Claim("FQL", dataset, "online_alpha", alpha)
    yield from claims("FQL", MAZES, online_buffer="all")


def learned_scales(text: str) -> Iterator[Claim]:
    """ASPC's appendix D: which number of whose loss is learned, and the normalised Q of its FQL."""
    part = text[text.index("### 3.12 Integrations") : text.index("## 4. Hyper-parameters")]
    for label, agent in (("IQL", "IQL"), ("CQL", "CQL"), ("Diffusion-QL", "DiffusionQL"), ("FQL", "FQL")):
        assert re.search(rf"D\.\d {label} \(", part)
        yield from claims(agent, ["any"], "aspc-scale", scale="learned", scale_interval=10)
    assert 'the paper says FQL "follows eq. 1" (α on the RL term) and is normalised' in part
    yield from claims("FQL", ["any"], "aspc-scale", normalize_q=True)


# Simple Ingredients ---------------------------------------------------------------------------------------------------

INGREDIENTS = ("TD3", "TD3BC", "AWAC", "IQL")


def ingredient_sizes(table: Table) -> Iterator[Claim]:
    fields = {"actor": "actor_hidden", "critic (each member)": "critic_hidden", "V (IQL only)": "value_hidden"}
    for net, *cells in columns(table, "net", "Simple-Small", "Simple-Large", "Modern"):
        value = net == "V (IQL only)"
        for variant, cell in zip(("simple-ingredients", "large", "modern"), cells, strict=True):
            layers, width = map(int, search(r"(\d) (?:hidden x|blocks?, width) (\d+)$", cell).groups())
            agents = ("IQL",) if value else INGREDIENTS if variant == "simple-ingredients" else (*INGREDIENTS, "ASAC")
            for agent in agents:
                yield from claims(agent, ["any"], variant, **{fields[net]: ([width] * layers, list)})
                if "block" in cell:
                    yield from claims(agent, ["any"], variant, **{fields[net].replace("hidden", "network"): "residual"})


def ingredient_testbeds(table: Table) -> Iterator[Claim]:
    testbeds = {
        "MOOD": ["walker-run-mixed"],
        "antmaze-v0": MAZES,
        "locomotion-v2": RUNNERS,
        "locomotion-0.1-v2": ["hopper-random-expert-0.1"],
    }
    for name, pessimism, bound, _, critics in columns(
        table, "testbed", "lam", "A_max", "train steps", "critics in headline results"
    ):
        for agent in (*INGREDIENTS, "ASAC"):
            if name == "MOOD":  # the large networks' own; elsewhere the number is an axis of the experiments
                for size in ("large", "modern"):
                    yield from claims(agent, ["any"], size, n_critics=int(search(r"^\d", critics).group()))
            variant = None if agent == "ASAC" else "simple-ingredients"
            yield from claims(agent, testbeds[name], variant, pessimism=float(pessimism))
            if agent in ("AWAC", "IQL", "ASAC"):
                yield from claims(agent, testbeds[name], variant, max_advantage=float(bound))


def ingredient_sweeps(table: Table) -> Iterator[Claim]:
    """What was selected is not published: ours are among what was tried."""
    testbeds = {
        "MOOD": ["walker-run-mixed"],
        "antmaze-v0": MAZES,
        "locomotion-v2": RUNNERS,
        "locomotion-0.1-v2": ["hopper-random-expert-0.1"],
    }
    for name, *tried in columns(table, "testbed", "beta (IQL, AWAC, ASAC)", "alpha (TD3+BC)"):
        temperatures, alphas = (
            [set(map(float, s.split(", "))) for s in re.findall(r"{(.*?)}", cell)] for cell in tried
        )
        for agent, swept in (("IQL", temperatures[0]), ("AWAC", temperatures[-1]), ("ASAC", temperatures[-1])):
            variant = None if agent == "ASAC" else "simple-ingredients"
            yield from claims(agent, testbeds[name], variant, temperature=(True, swept.__contains__))
        swept = alphas[0]  # its coefficient divides: 1 / alpha
        yield from claims("TD3BC", testbeds[name], "simple-ingredients", alpha=(True, lambda a, s=swept: 1 / a in s))


# What stands in sentences ---------------------------------------------------------------------------------------------


def spot_weights(text: str) -> Iterator[Claim]:
    """Of SPOT, and where CAR begins its search: "halfcheetah m .05, m-r .05, m-e 1.0; ...; CORL Adroit cloned 1.0." """
    kinds = {"m": "medium", "m-r": "medium-replay", "m-e": "medium-expert"}
    sentence = search(r"Starting lambdas = SPOT's configs: (.*?)\. \(", text).group(1)
    for family, pairs in re.findall(r"(halfcheetah|hopper|walker2d|antmaze) ([^;]*);", sentence):
        for pair in pairs.split(", "):
            kind, weight = pair.split()
            for agent in ("SPOT", "CAR"):
                yield from claims(agent, [f"{family}-{kinds.get(kind, kind)}"], density_weight=float(weight))
    cloned = float(search(r"CORL Adroit cloned ([\d.]+)$", sentence).group(1))
    for agent in ("SPOT", "CAR"):
        yield from claims(agent, [hand for hand in HANDS if hand.endswith("cloned")], density_weight=cloned)


def density_hands(agent: str) -> list[str]:
    """The Adroit datasets that SPOT's sources, or CAR's paper, train on."""
    return [hand for hand in HANDS if hand.endswith("cloned") or (agent == "CAR" and hand.startswith("pen"))]


def spot_domains(text: str) -> Iterator[Claim]:
    dropout, maze_dropout, hand_dropout = search(
        r"actor dropout ([\d.]+) on MuJoCo .*?, (\d) on AntMaze; .* on AntMaze only\. .*?Adroit: dropout (\d)", text
    ).groups()
    for agent in ("SPOT", "CAR"):
        hands = density_hands(agent)
        yield from claims(agent, RUNNERS, dropout=float(dropout), last_layers="default")
        yield from claims(agent, MAZES, dropout=float(maze_dropout), last_layers="small")
        yield from claims(agent, hands, dropout=float(hand_dropout), last_layers="default")
        assert "on MuJoCo and Adroit; not on AntMaze." in text
        assert "AntMaze rewards minus 1 " in text
        yield from claims(agent, RUNNERS + hands, normalize_observations=True)
        yield from claims(agent, MAZES, normalize_observations=False)
        yield from reward_claims(agent, MAZES, "r - 1")
        yield from reward_claims(agent, RUNNERS + hands, "raw")


def spot_online(text: str) -> Iterator[Claim]:
    gamma, maze, hand = search(
        r"Online: gamma ([\d.]+) on AntMaze .*?lambda_end ([\d.]+) \(AntMaze\), ([\d.]+) \(Adroit\)", text
    ).groups()
    rate = search(r"RL: actor lr (\S+), critic lr", text).group(1)
    yield from claims("SPOT", MAZES, online_gamma=float(gamma), decay_floor=float(maze), actor_lr=float(rate))
    for agent in ("SPOT", "CAR"):
        yield from claims(agent, density_hands(agent), decay_floor=float(hand))


def awac_temperatures(text: str) -> Iterator[Claim]:
    runners, families, others = search(
        r"lambda \(temperature; divides\): CORL Gym ([\d.]+); (AntMaze, maze2d, Adroit) ([\d.]+)\. "
        r"State norm on everywhere; AntMaze r - 1, others raw\.",
        text,
    ).groups()
    yield from claims("AWAC", RUNNERS, temperature=(float(runners), lambda setting: round(setting, 4)))
    yield from claims("AWAC", datasets_of(families), temperature=float(others))
    yield from claims("AWAC", RUNNERS + datasets_of(families), normalize_observations=True)
    yield from reward_claims("AWAC", MAZES, "r - 1")
    yield from reward_claims("AWAC", RUNNERS + POINT_MAZES + HANDS, "raw")


def rebrac_point_mazes(text: str) -> Iterator[Claim]:
    actor, critic = search(r"maze2d umaze/medium/large: ([\d.]+)/([\d.]+) \(CORL\)", text).groups()
    yield from claims("ReBRAC", POINT_MAZES, actor_cloning=float(actor), critic_cloning=float(critic))


def other_ensembles(text: str) -> Iterator[Claim]:
    """SAC-N's and EDAC's other sets: what is named, and of the rest the number of the family."""
    sentence = search(r"Other datasets \[\?\]: (.*?)\. Pitfalls", text).group(1)
    others = [runner for runner in RUNNERS if runner.split("-", 1)[1] in ("random", "expert", "full-replay")]
    sacn, edac = sentence.split("; EDAC ")
    named = {name: int(count) for name, count in re.findall(r"([\w-]+) (\d+)", sacn.removeprefix("SAC-N "))}
    zeros, five, rest = search(r"(.*) eta 0, (\S+) eta 5, the rest eta (\d)", edac).groups()
    etas = dict.fromkeys(zeros.split(" and "), 0.0) | {five: 5.0}
    family = {"halfcheetah": (10, 10), "hopper": (None, 50), "walker2d": (20, 10)}  # of the table
    for name in others:
        many, few = family[name.split("-")[0]]
        yield from claims("SACN", [name], n_critics=named.get(name, many))
        yield from claims("EDAC", [name], n_critics=few, eta=etas.get(name, float(rest)))


def rlpd_domains(text: str) -> Iterator[Claim]:
    narrow, wide = search(r"Widths \((\d+,\d+)\); AntMaze and Adroit \((\d+,\d+,\d+)\)", text).groups()
    subset, maze = search(r"\(M = (\d); AntMaze (\d)\)", text).groups()
    assert "backup_entropy: True on locomotion, False on AntMaze and Adroit." in text
    for datasets, widths, chosen in ((RUNNERS, narrow, subset), (MAZES, wide, maze), (HANDS, wide, subset)):
        hidden = tuple(int(width) for width in widths.split(","))
        yield from claims("RLPD", datasets, target_subset=int(chosen), backup_entropy=datasets is RUNNERS)
        for field in ("actor_hidden", "critic_hidden"):
            for dataset in datasets:
                yield Claim("RLPD", dataset, field, hidden)


def calql_finetuning(text: str) -> Iterator[Claim]:
    maze, hand, gap, floor, actor, critic, deep, flat = search(
        r"cql_alpha and cql_alpha_online (\d) \(AntMaze\) / (\d) \(Adroit binary\); gap ([\d.]+); Lagrange on in "
        r"AntMaze only; max target backup, diff_min -(\d+); policy lr (\S+), critic lr (\S+); critic layers (\d) "
        r"\(AntMaze\) / (\d);",
        text,
    ).groups()
    hands = [name for name in HANDS if name.endswith("cloned")]
    for datasets, alpha, layers in ((MAZES, maze, deep), (hands, hand, flat)):
        yield from claims("CalQL", datasets, cql_alpha=float(alpha), gap_min=-float(floor), max_backup=True)
        yield from claims("CalQL", datasets, actor_lr=float(actor), critic_lr=float(critic))
        yield from claims("CalQL", datasets, critic_hidden=(int(layers), len), normalize_observations=False)
        yield from claims("CalQL", datasets, online_buffer="half", offline_ratio=0.5)
    yield from claims("CalQL", MAZES, target_gap=float(gap), return_floor="sparse")
    yield from claims("CalQL", hands, return_floor="dense")


def cqlsa_cloning(text: str) -> Iterator[Claim]:
    weight = search(r"for AntMaze only, mean\[([\d.]+)·Σ_j \(a_π − a\)_j²\]", text).group(1)
    yield from claims("CQLSA", MAZES, cloning_weight=float(weight))
    yield from claims("CQLSA", RUNNERS, cloning_weight=0.0)


def pars_online(text: str) -> Iterator[Claim]:
    ratio, other = search(
        r"rho = ([\d.]+), except ([\d.]+) for all HalfCheetah datasets and all `random` datasets", text
    ).groups()
    subset = search(r"k_a = (\d) on AntMaze and Adroit", text).group(1)
    few = [runner for runner in PARS_RUNNERS if runner.startswith("halfcheetah") or runner.endswith("random")]
    rest = [runner for runner in PARS_RUNNERS if runner not in few]
    yield from claims("PARS", few, offline_ratio=float(other))
    yield from claims("PARS", PARS_MAZES + PARS_HANDS + rest, offline_ratio=float(ratio))
    yield from claims("PARS", PARS_MAZES + PARS_HANDS, online_actor_subset=int(subset))


def pars_on_iql(text: str) -> Iterator[Claim]:
    scale, gamma, temperature = search(r"c = (\d+), gamma = ([\d.]+), temperature T = (\d+)", text).groups()
    expectile = search(r"expectile eta \(use ([\d.]+)\)", text).group(1)
    alpha, q_min = search(r"\(alpha unstated; take ([\d.]+), Q_min = (\d)\)", text).groups()
    for variant in ("rs-ln", "rs-ln-pa"):
        yield from claims("IQL", ["any"], variant, reward_scale=float(scale), gamma=float(gamma))
        # T multiplies the advantage divided by c; ours divides the advantage.
        yield from claims("IQL", ["any"], variant, temperature=(float(temperature), lambda ours: float(scale) / ours))
        yield from claims("IQL", ["any"], variant, expectile=float(expectile), q_min=float(q_min), critic_norm="before")
    yield from claims("IQL", ["any"], "rs-ln-pa", infeasible_weight=float(alpha))


def ingredients_everywhere(text: str) -> Iterator[Claim]:
    batch, gamma, rho = search(r"Common \(Fig\. 7\): batch (\d+), gamma ([\d.]+), rho ([\d.]+),", text).groups()
    sigma, clip = search(r"Fixed in code: sigma ([\d.]+), target noise clip ([\d.]+), K=1", text).groups()
    assert "reward <- reward - 1 (so -1 per step, 0 at goal)" in text
    for agent in (*INGREDIENTS, "ASAC"):
        variant = None if agent == "ASAC" else "simple-ingredients"
        names = ["any", *MAZES, *RUNNERS]
        yield from claims(agent, names, variant, batch_size=int(batch), gamma=float(gamma), tau=1.0 - float(rho))
        yield from claims(agent, names, variant, target_noise_clip=float(clip), normalize_observations=False)
        noises = ("policy_noise", "target_noise") if agent in ("TD3", "TD3BC") else ("policy_std",)
        yield from claims(agent, names, variant, **{noise: float(sigma) for noise in noises})
        if agent in ("AWAC", "IQL", "ASAC"):
            yield from claims(agent, names, variant, value_samples=1)
        yield from reward_claims(agent, MAZES, "r - 1", variant)
        yield from reward_claims(agent, RUNNERS, "raw", variant)


def iql_reward(text: str) -> Iterator[Claim]:
    """On AntMaze, whoever tunes the rest."""
    form = search(r"\| (r - 1) \| IQL,", text).group(1)
    yield from reward_claims("IQL", MAZES, form, "aspc")


def ssar_in_its_own_words(text: str) -> Iterator[Claim]:
    """Where the paper's text and its code differ: the variant "paper"."""
    once, twice = search(r"Paper: \(n_end − n_start\)·T_inc/T ⇒ 1/(\d+) for T = 1e6 \(1/(\d+) for 2e6\)", text).groups()
    assert "CQL annealing is cosine in code, linear in paper" in text
    assert "`part`: paper = D̂" in text
    yield from claims("CQLSA", ["any", *RUNNERS], "paper", anneal_shape="linear")
    yield from claims("CQLSA", ["any", *RUNNERS], anneal_shape="cosine")
    assert "online modes part for MuJoCo, all for AntMaze" in text
    for agent in ("TD3BCSA", "CQLSA"):
        yield from claims(agent, ["any", *RUNNERS], "paper", n_increments=int(once), online_buffer="subset")
        yield from claims(agent, MAZES, "paper", n_increments=int(twice), online_buffer="all")


def car_in_its_own_words(text: str) -> Iterator[Claim]:
    search(r"preset `paper_literal` = 5e-6 for both", text)
    yield from claims("CAR", ["any", *RUNNERS], "paper", density_lr=5e-6, reference_lr=5e-6)
    yield from claims("CAR", RUNNERS, density_lr=1e-3, reference_lr=5e-6)
    layers, width, rate = search(r"concat\(a_t, time embedding 16, s\): (\d) x (\d+) Mish, lr (3e-4)", text).groups()
    diffusion = {"density": "diffusion", "density_hidden": ([int(width)] * int(layers), list)}
    yield from claims("CAR", ["any"], "diffusion", density_lr=float(rate), **diffusion)
    yield from claims("CAR", RUNNERS, target_policy="learned")


SENTENCES = [
    ("ssar.md", ssar_in_its_own_words),
    ("car.md", car_in_its_own_words),
    ("ssar.md", cqlsa_cloning),
    ("pars.md", pars_online),
    ("pars.md", pars_on_iql),
    ("simple_ingredients.md", ingredients_everywhere),
    ("benchmarks.md", iql_reward),
    ("car.md", spot_weights),
    ("car.md", spot_domains),
    ("base_algorithms.md", spot_online),
    ("base_algorithms.md", awac_temperatures),
    ("base_algorithms.md", rebrac_point_mazes),
    ("base_algorithms.md", diffusion_everywhere),
    ("base_algorithms.md", fql_finetuning),
    ("base_algorithms.md", other_ensembles),
    ("base_algorithms.md", rlpd_domains),
    ("base_algorithms.md", calql_finetuning),
    ("aspc.md", learned_scales),
]

# The registry ---------------------------------------------------------------------------------------------------------

READERS: dict[str, list[Reader]] = {  # section -> readers of its tables, in their order
    "pars.md 4.1": [pars_common],
    "pars.md 4.2": [pars_antmaze],
    "pars.md 4.3": [pars_adroit],
    "pars.md 4.4": [pars_mujoco],
    "ssar.md 3.8": [ssar_runners("CQLSA"), cqlsa_mazes, ssar_runners("TD3BCSA"), td3bcsa_mazes],
    "ssar.md 4": [ssar_common],
    "car.md 4": [car_common],
    "aspc.md 4": [aspc_common, aspc_baselines],
    "base_algorithms.md 3": [
        rebrac_common,
        rebrac_cloning(lambda runner, kind: f"{runner}-{kind}"),
        rebrac_cloning(lambda _, maze: f"antmaze-{maze}"),
        rebrac_cloning(lambda kind, hand: f"{hand}-{kind}"),
    ],
    "base_algorithms.md 4.7": [cql_families],
    "base_algorithms.md 7": [iql_families],
    "base_algorithms.md 10.4": [diffusion_tasks],
    "base_algorithms.md 11.3": [fql_ogbench, fql_d4rl],
    "base_algorithms.md 9": [ensembles],
    "base_algorithms.md 14": [compared],
    "benchmarks.md 5": [antmaze_rewards],
    "simple_ingredients.md 5.1": [ingredient_sizes],
    "simple_ingredients.md 9": [ingredient_testbeds, ingredient_sweeps],
}
