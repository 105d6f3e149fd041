"""``./demo``: play the story on a lab of its own and tell it. Exit code 1 when one claim did not hold."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from buckler.client.operator import OperatorFailed
from buckler.lab.command import end_on_signals, told
from buckler.lab.datacentre import build_lab
from buckler.lab.machine import LabFailed
from buckler.lab.plan import LabPlan, plan_lab
from buckler.lab.pool import Pool, raise_pool, shop_files
from buckler.lab.shop import shop_vms
from buckler.lab.story.cast import Cast
from buckler.lab.story.play import STEPS, Result, summarise
from buckler.lab.sweep import sweep, take_snapshot

INTRODUCTION = """\
Buckler puts a shield in front of every virtual machine of a pool: outside the guest, by identity instead of address,
closed from the first frame. This demo builds a small data centre on this machine (two hypervisor hosts with their own
libvirt, real guests, a controller) and tries to break the shields. No packet leaves the lab.
"""
CLOSING = """\

In words
  A shop of four VMs ran on two hosts beside an attacker and a machine that nobody registered. Each VM could speak only
  with those that a policy names by label, in both directions, over IPv4 and IPv6; nobody wrote an address into a rule.
  That stayed true while a VM moved five times without one of its connections breaking, while the agents and then the controller were dead, while a card was plugged in,
  and while somebody deleted the filters by hand. Taking a label away cut a running connection at once.
  Every one of these events is an entry of a signed ledger that anybody with the pool's key can check.

How to go on
  ./demo --keep                     the same, and the lab stays
  buckler lab up                    a lab to play in; it prints how to reach its controller
  buckler reach                     who may speak with whom
  buckler explain attacker db 5432 --tenant shop
  buckler lab exec web1 'probe get tcp/10.50.0.13/8080'
  buckler lab down                  takes all away
  docs/guide/first-steps.md         the same on a real host
"""


@click.command()
@click.option("--keep", is_flag=True, help="Leave the lab up to explore it.")
@click.option("--summary", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
@click.option("--only", multiple=True, type=click.Choice([step.name for step in STEPS]), help="Play only these steps.")
@click.option("--prefix", default="bl", hidden=True)
def demo(keep: bool, summary: Path | None, only: tuple[str, ...], prefix: str) -> None:
    """Build a lab, play the story, take the lab away."""
    began = time.monotonic()
    end_on_signals()
    click.echo(INTRODUCTION)
    before = take_snapshot(prefix)
    results: dict[str, Result] = {}
    with told():
        plan = plan_lab(shop_vms(), prefix=prefix)
        try:
            _play(plan, only, results, began)
        except BaseException:
            sweep(plan.folder, plan.prefix)
            raise
        left = () if keep else _take_away(plan, before)
    figures = summarise(results, len(plan.guests), len(plan.hosts), time.monotonic() - began, left)
    if summary:
        summary.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    failed = [step.name for step in STEPS if step.name in results and not results[step.name].holds]
    missing = [step.name for step in STEPS if step.name not in results and (not only or step.name in only)]
    fate = "The lab is up: `buckler lab status`." if keep else "Nothing of the lab is left."
    _close(failed, missing, left, figures.seconds, fate)
    sys.exit(1 if failed or missing or left else 0)


def _play(plan: LabPlan, only: tuple[str, ...], results: dict[str, Result], began: float) -> None:
    def tell(line: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {line}")

    centre = build_lab(plan, tell)
    raise_pool(centre, shop_files(), tell)
    for number, step in enumerate(STEPS, start=1):
        if only and step.name not in only:
            continue
        click.echo(f"\n{number}. {step.claim}")
        try:
            result = step.run(Cast(Pool(centre), tell))
        except (LabFailed, OperatorFailed) as failure:
            tell(f"this step broke off: {failure}")
            continue
        results[step.name] = result
        tell("holds" if result.holds else f"DOES NOT HOLD: {result}")


def _take_away(plan: LabPlan, before: frozenset[str]) -> tuple[str, ...]:
    sweep(plan.folder, plan.prefix)
    return tuple(sorted(take_snapshot(plan.prefix) - before))


def _close(failed: list[str], missing: list[str], left: tuple[str, ...], seconds: float, fate: str) -> None:
    if failed or missing or left:
        click.echo(
            f"\nNot all is well: failed {failed}, broken off {missing}, left behind {list(left)} ({seconds:.0f} s)"
        )
    else:
        click.echo(CLOSING)
        click.echo(f"Everything held, in {seconds:.0f} s. {fate}")


if __name__ == "__main__":
    demo()
