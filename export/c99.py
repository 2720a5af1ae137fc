"""policy.h: the actor as one C99 header, for computers without an operating system or without onnxruntime.

No allocation, no global state, no dependency but <math.h> (tanhf, sqrtf). The golden vectors are inside: compiled with
-DPOLICY_SELF_TEST there is policy_self_test(), to be called before anything moves; with -DPOLICY_MAIN also a main().
The actor's own action only: where an agent chooses among candidates (evaluation_samples above 1), use policy.onnx.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.export.bundle import CONTRACT, extend, read_contract
from zoo.export.description import Description
from zoo.policies import MLP, DeterministicActor, GaussianActor, NormalActor, Policy, ResidualMLP, folded

HEADER = "policy.h"
COLUMNS = 8  # numbers a line


def write_c(policy: Policy, about: Description, directory: str | os.PathLike) -> Path:
    """Adds policy.h to the bundle of export_onnx in `directory`, with its hash in the contract. Returns its path.

    Raises FileNotFoundError where there is no bundle, ValueError for an actor that is no MLP with ReLUs.
    """
    directory = Path(directory)
    contract = read_contract(directory)
    if contract is None:
        raise FileNotFoundError(f"no {CONTRACT} in {directory}; export_onnx writes the bundle that {HEADER} belongs to")
    policy = folded(policy).to("cpu", torch.float32).eval().requires_grad_(False)
    with np.load(directory / "golden.npz", allow_pickle=False) as file:
        golden = (file["obs"], file["actor_actions"])
    extend(directory, {HEADER: header(policy, about, contract, golden).encode()})
    return directory / HEADER


def header(policy: Policy, about: Description, contract: dict[str, Any], golden: tuple[np.ndarray, np.ndarray]) -> str:
    """The text of policy.h. golden: observations (n, O) and the actor's actions (n, A)."""
    actor = policy.actor
    if not isinstance(actor, DeterministicActor | GaussianActor | NormalActor):
        raise ValueError(f"{about.agent} has a {type(actor).__name__}, which is no MLP: {HEADER} cannot hold it")
    trunk = actor.trunk
    if type(trunk) not in (MLP, ResidualMLP) or trunk.activation != "relu":
        raise ValueError(
            f"{about.agent}'s network is a {type(trunk).__name__} with {trunk.activation}: {HEADER} knows ReLUs only"
        )
    squash = "tanh" if not isinstance(actor, NormalActor) or actor.mean == "tanh" else "clip"
    size, count = len(policy.observation_mean), len(policy.action_low)
    constants: list[str] = []
    body = list(residual(trunk, constants) if isinstance(trunk, ResidualMLP) else plain(trunk, constants))
    width = max(size, *(linear.weight.shape[-1] for linear in layers_of(trunk)))
    tensors = {
        "obs_low": policy.observation_low,
        "obs_high": policy.observation_high,
        "obs_mean": policy.observation_mean,
        "obs_std": policy.observation_std,
        "center": policy.action_center,
        "half_range": policy.action_half_range,
        "low": policy.action_low,
        "high": policy.action_high,
    }
    constants[:0] = [array(name, tensor) for name, tensor in tensors.items()]
    return TEMPLATE.format(
        title=f"{about.agent} for {about.dataset['env_id'] or about.dataset['name']}",
        digest=contract["config_sha256"],
        table="\n".join(table(contract)),
        size=size,
        count=count,
        width=width,
        constants="\n".join(constants),
        body="\n".join(f"    {line}" for line in body),
        squash="tanhf(x[j])" if squash == "tanh" else "x[j] < -1.0f ? -1.0f : x[j] > 1.0f ? 1.0f : x[j]",
        rows=len(golden[0]),
        golden=array("golden_obs", torch.from_numpy(golden[0]))
        + "\n"
        + array("golden_actions", torch.from_numpy(golden[1])),
    )


def layers_of(trunk: MLP) -> list[Any]:
    """Its Linear layers, in order."""
    return list(trunk.linears)


def plain(trunk: MLP, constants: list[str]) -> Iterator[str]:
    """Statements for an MLP; what they need is added to the constants. The result is in x."""
    layers = layers_of(trunk)
    last = len(layers) - 1
    for k, linear in enumerate(layers):
        yield affine(f"l{k}", linear, constants)
        if k < last:
            norm = [] if trunk.norm == "none" else [layer_norm(f"n{k}", trunk.norms[k], constants, "x")]
            relu = [f"policy_relu({linear.weight.shape[-1]}, x);"]
            yield from [*norm, *relu] if trunk.norm == "before" else [*relu, *norm]


def residual(trunk: ResidualMLP, constants: list[str]) -> Iterator[str]:
    """The same for a residual network: x + second(relu(first(norm(x)))) in each block."""
    first, *inner, last = layers_of(trunk)
    width = first.weight.shape[-1]
    yield affine("first", first, constants)
    yield f"policy_relu({width}, x);"
    for k, (norm, one, two) in enumerate(zip(trunk.norms, inner[::2], inner[1::2], strict=True)):
        yield f"memcpy(kept, x, {width} * sizeof(float));"
        yield layer_norm(f"n{k}", norm, constants, "x")
        yield affine(f"b{k}_one", one, constants)
        yield f"policy_relu({width}, x);"
        yield affine(f"b{k}_two", two, constants)
        yield f"for (int i = 0; i < {width}; i++) x[i] += kept[i];"
    yield affine("last", last, constants)


def affine(name: str, linear: Any, constants: list[str]) -> str:
    inputs, outputs = linear.weight.shape
    constants += [array(f"{name}_weight", linear.weight), array(f"{name}_bias", linear.bias)]
    return (
        f"policy_affine({inputs}, {outputs}, policy_{name}_weight, policy_{name}_bias, x, y); "
        f"memcpy(x, y, {outputs} * sizeof(float));"
    )


def layer_norm(name: str, norm: Any, constants: list[str], where: str) -> str:
    constants += [array(f"{name}_gain", norm.weight), array(f"{name}_shift", norm.bias)]
    return f"policy_norm({len(norm.weight)}, {norm.eps:.9g}f, policy_{name}_gain, policy_{name}_shift, {where});"


def array(name: str, tensor: Tensor) -> str:
    """A constant; nine digits are enough for every float."""
    numbers = [f"{value:.9g}" for value in tensor.float().flatten().tolist()]
    numbers = [f"{n if '.' in n or 'e' in n else f'{n}.0'}f" for n in numbers]
    lines = [", ".join(numbers[i : i + COLUMNS]) for i in range(0, len(numbers), COLUMNS)]
    return f"static const float policy_{name}[{len(numbers)}] = {{\n  " + ",\n  ".join(lines) + "};"


def table(contract: dict[str, Any]) -> Iterator[str]:
    """Names and units of the dimensions, as lines of a comment."""
    for title in ("observations", "actions"):
        for index, entry in enumerate(contract[title]):
            text = f"{title}[{index}]: {entry['name'] or 'no name'}, {entry['unit']}"
            yield " *   " + " ".join(text.replace("*/", "").split())


TEMPLATE = """\
/* {title}: the actor as C99, of the Offline Agent Zoo. Config SHA-256 {digest}.
 *
 * Observations and actions are in the units of the robot:
{table}
 *
 * Test it where it will run:
 *   cc -std=c99 -O2 -DPOLICY_MAIN -x c policy.h -lm -o policy_test && ./policy_test
 */
#ifndef ZOO_POLICY_H
#define ZOO_POLICY_H

#include <math.h>
#include <string.h>

#define POLICY_OBSERVATIONS {size}
#define POLICY_ACTIONS {count}
#define POLICY_WIDTH {width} /* of the widest layer: three such rows of floats lie on the stack */

{constants}

static inline void policy_affine(int inputs, int outputs, const float *weight, const float *bias, const float *x,
                                 float *y) {{
    memcpy(y, bias, (size_t)outputs * sizeof(float));
    for (int i = 0; i < inputs; i++) {{
        const float factor = x[i];
        const float *row = weight + (size_t)i * (size_t)outputs;
        for (int j = 0; j < outputs; j++) y[j] += factor * row[j];
    }}
}}

static inline void policy_relu(int count, float *x) {{
    for (int i = 0; i < count; i++) x[i] = x[i] > 0.0f ? x[i] : 0.0f;
}}

static inline void policy_norm(int count, float eps, const float *gain, const float *shift, float *x) {{
    float mean = 0.0f, variance = 0.0f;
    for (int i = 0; i < count; i++) mean += x[i];
    mean /= (float)count;
    for (int i = 0; i < count; i++) variance += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / sqrtf(variance / (float)count + eps);
    for (int i = 0; i < count; i++) x[i] = (x[i] - mean) * scale * gain[i] + shift[i];
}}

/* Returns 0; or -1, with the actions as they were, where an observation or an action is not finite. */
static inline int policy_act(const float obs[POLICY_OBSERVATIONS], float actions[POLICY_ACTIONS]) {{
    float x[POLICY_WIDTH], y[POLICY_WIDTH], kept[POLICY_WIDTH];
    (void)kept;
    for (int i = 0; i < POLICY_OBSERVATIONS; i++) {{
        if (!isfinite(obs[i])) return -1;
        const float seen = fminf(fmaxf(obs[i], policy_obs_low[i]), policy_obs_high[i]);
        x[i] = (seen - policy_obs_mean[i]) / policy_obs_std[i];
    }}
{body}
    for (int j = 0; j < POLICY_ACTIONS; j++) {{
        const float unit = {squash};
        if (!isfinite(unit)) return -1;
        const float action = policy_center[j] + policy_half_range[j] * unit;
        y[j] = action < policy_low[j] ? policy_low[j] : action > policy_high[j] ? policy_high[j] : action;
    }}
    memcpy(actions, y, POLICY_ACTIONS * sizeof(float));
    return 0;
}}

#if defined(POLICY_SELF_TEST) || defined(POLICY_MAIN)
#define POLICY_GOLDEN {rows}
{golden}

/* The largest difference from what torch computed at export, in half ranges of the actions: below 1e-5, or stop. */
static inline float policy_self_test(void) {{
    float largest = 0.0f, actions[POLICY_ACTIONS];
    for (int n = 0; n < POLICY_GOLDEN; n++) {{
        if (policy_act(policy_golden_obs + n * POLICY_OBSERVATIONS, actions) != 0) return 1.0f;
        for (int j = 0; j < POLICY_ACTIONS; j++) {{
            const float expected = policy_golden_actions[n * POLICY_ACTIONS + j];
            const float difference = fabsf(actions[j] - expected) / policy_half_range[j];
            if (!(difference <= largest)) largest = difference;
        }}
    }}
    return largest;
}}
#endif

#ifdef POLICY_MAIN
#include <stdio.h>

int main(void) {{
    const float largest = policy_self_test();
    printf("largest difference %.3g half ranges in %d golden rows, ", (double)largest, POLICY_GOLDEN);
    printf("1e-05 is allowed\\n");
    return largest <= 1e-5f ? 0 : 1;
}}
#endif

#endif
"""
