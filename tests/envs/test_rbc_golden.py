"""The RBC economy's choices and sights against recordings of the program published in 2022."""
import functools
import math
from pathlib import Path

import numpy as np
import pytest

import envs
from envs.core.batch import Batch
from envs.core.features import saw_tooth
from kernels import rbc

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
E = 30000  # iterations until the windows are open
KEYS = {"consumer": "cs", "firm": "fs", "government": "gs"}
MARKET = ("price", "wage", "inventory", "rationed")

pytestmark = pytest.mark.skipif(not (GOLDEN / "rbc_steps.npz").exists(), reason="the recordings (shared/golden) are not on this machine")


@functools.cache
def recorded(file):
    with np.load(GOLDEN / f"{file}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def violations(type_, windows_at, steps):
    """How many windows each option violates, (steps, options)."""
    world = Batch(envs.load("rbc"))
    found = []
    for step in steps:
        world.adjust(windows=windows_at(int(step) / E))
        found.append(world.violations(type_))
    return np.array(found)


def test_the_firms_masks_open_from_one_option_to_all():
    """-1000 on the logit for each violated window."""
    training = recorded("rbc_training")
    ours = violations("firm", lambda x: {
        "firm.price": (1000 - x * 1000, 1000 + x * 1500), "firm.wage": (22 - x * 22, 22 + x * 22)}, training["mask/firm_steps"])
    assert np.array_equal(-1000 * ours, training["mask/firm"])
    assert np.unique((ours == 0).sum(-1)).tolist() == [1, 2, 9, 12, 30]  # prices times wages that are open


def test_the_governments_masks_open_from_no_tax_to_all():
    """-1000 on the logit once, whether one rate is outside its window or both."""
    training = recorded("rbc_training")
    ours = violations("government", lambda x: {
        "government.income_tax": (0, x), "government.corporate_tax": (0, x)}, training["mask/gov_steps"])
    assert np.array_equal(-1000 * (ours > 0), training["mask/gov"])
    assert np.unique((ours == 0).sum(-1)).tolist() == [1, 4, 9, 16, 25, 36]


def test_the_digits_are_the_recorded_ones():
    training = recorded("rbc_training")
    assert np.array_equal(saw_tooth(training["digits/x"]), training["digits/features"])


def test_the_disutility_of_work_is_the_recorded_one():
    assert rbc.initial_state(rbc.Params(), 1).theta[0] == pytest.approx(recorded("rbc_training")["theta/vector100"], rel=1e-6)


@pytest.mark.parametrize("name", "ACE")
@pytest.mark.parametrize("moment", ["in", "out"])
def test_the_raw_view_is_the_recorded_row(name, moment):
    rows = {type_: recorded("rbc_steps")[f"{name}.{moment}_{key}"] for type_, key in KEYS.items()}
    world = Batch(envs.load("rbc"), rbc.Params(n_consumers=rows["consumer"].shape[1], n_firms=rows["firm"].shape[1]),
                  len(rows["firm"]), features="raw")
    fill(world.s, rows)
    for type_, row in rows.items():
        assert np.array_equal(world.observe(type_), row), type_


def fill(s, rows):
    """Write a State from the rows in which the published program keeps it: market, then what each consumer and firm has."""
    f = s.price.shape[-1]
    market, consumer, firm = rows["government"][:, 0], rows["consumer"][:, :, 4 * f + 3:], rows["firm"][:, :, 4 * f + 3:]
    for k, name in enumerate(MARKET):
        getattr(s, name)[...] = market[:, k * f:(k + 1) * f]
    s.income_tax[...], s.corporate_tax[...], s.period[...] = market[:, 4 * f], market[:, 4 * f + 1], market[:, 4 * f + 2]
    s.budget[...], s.theta[...] = consumer[:, :, 0], consumer[:, :, 1]
    s.firm_budget[...], s.capital[...], s.labor_share[...] = firm[:, :, 0], firm[:, :, 1], firm[:, :, 2]


def test_the_first_quarter_is_the_recorded_one():
    steps = recorded("rbc_steps")
    first = int(np.flatnonzero((steps["C.kind"] == 0) & (steps["C.t"] == 0))[0])
    work_is_still_light = rbc.Params(theta_factor=1 - math.exp(-1 / 2))
    world = Batch(envs.load("rbc"), work_is_still_light, features="raw")
    for type_, key in KEYS.items():
        assert world.observe(type_)[0] == pytest.approx(steps[f"C.in_{key}"][first], rel=1e-6), type_
