"""One lab per module, with names of its own beside any lab that a person has up."""

import os

import pytest

from buckler.lab.datacentre import build_lab
from buckler.lab.machine import is_root
from buckler.lab.plan import plan_lab
from buckler.lab.pool import Pool, raise_pool, shop_files
from buckler.lab.shop import shop_vms
from buckler.lab.story.cast import Cast
from buckler.lab.sweep import sweep

PREFIX = "blt"


def pytest_collection_modifyitems(items):
    if is_root() or os.environ.get("CI") == "true":
        return
    for item in items:
        if "system" in str(item.path):
            item.add_marker(pytest.mark.skip(reason="the lab needs root"))


@pytest.fixture(scope="module")
def pool():
    plan = plan_lab(shop_vms(), prefix=PREFIX)
    try:
        centre = build_lab(plan, print)
        raise_pool(centre, shop_files(), print)
        yield Pool(centre)
    finally:
        sweep(plan.folder, plan.prefix)


@pytest.fixture
def cast(pool):
    return Cast(pool, print)
