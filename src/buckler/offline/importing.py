"""``buckler import``: the rules of other systems → inventory, policies and a report of losses. Reads and writes files only."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import click
import msgspec

from buckler.cli.output import say
from buckler.cli.session import EXIT_USAGE, Failed
from buckler.policy.importers.kubernetes.cluster import import_kubernetes
from buckler.policy.importers.neutron.cloud import import_neutron
from buckler.policy.importers.nsx.firewall import import_nsx
from buckler.policy.importers.nwfilter.host import import_nwfilter
from buckler.policy.importers.outcome import Effect, Import, Loss
from buckler.policy.importers.proxmox.pool import import_proxmox
from buckler.policy.importers.written import INVENTORY, LOSSES, POLICIES, import_files
from buckler.policy.source import Source

EXIT_LOSSES = 3
MAX_FILE = 64 * 1024 * 1024
YAML = (".yaml", ".yml", ".json")
_OURS = {INVENTORY, POLICIES, LOSSES}
Importer = Callable[[list[Source], str], Import]


@click.group(name="import")
def import_() -> None:
    """Carry over policies of other systems: needs no controller and no root.

    \b
    Example:
      buckler import kubernetes manifests/ --out carried/
      buckler policy reach --inventory carried/inventory.yaml -f carried/policies/

    OUT/inventory.yaml holds networks and VMs, OUT/policies/ the policies, OUT/loss.json all that could not be carried over
    exactly, with file and line. Nothing is loosened: what is unclear is denied.

    Exit codes: 0 all carried over exactly, 3 with losses, 2 nothing written because the input cannot be read.
    """


def _command(name: str, folder: bool, suffixes: Collection[str], importer: Importer, words: str) -> None:
    """Add one command; they differ in what they read only."""

    @import_.command(name, help=words, short_help=words.splitlines()[0])
    @click.argument("path", metavar="DIR" if folder else "FILE", type=click.Path(exists=True, path_type=Path))
    @click.option("--out", required=True, metavar="OUT", type=click.Path(path_type=Path), help="Folder to write to.")
    @click.option("--review", metavar="DATE", help="Review date of every policy; left out: a year from today.")
    def run(path: Path, out: Path, review: str | None) -> None:
        if out.resolve().is_relative_to(path.resolve()):
            what = f"{out} lies in what is read: the next import would read it too"
            raise Failed(what, "name a folder elsewhere", exit_code=EXIT_USAGE)
        taken, left, inner, problems = _find(path, suffixes)
        result = importer(_read(path, taken, problems), _review(review))
        problems += map(str, result.unreadable)
        if problems:
            raise Failed("the input cannot be read; nothing was written", *problems, exit_code=EXIT_USAGE)
        losses = (*result.losses, *(_left_out(each, suffixes) for each in left), *map(_read_elsewhere, inner))
        result = msgspec.structs.replace(result, losses=losses)
        try:
            files = import_files(result)
        except ValueError as error:
            raise Failed("nothing was written", str(error), exit_code=EXIT_USAGE) from error
        _write(out, files)
        _tell(result, out)
        raise SystemExit(0 if result.is_exact else EXIT_LOSSES)


def _review(given: str | None) -> str:
    today = dt.datetime.now(dt.UTC).date()
    try:
        return (dt.date.fromisoformat(given) if given else today + dt.timedelta(days=365)).isoformat()
    except ValueError as error:
        raise Failed(f"{given!r} is no date", "write it like 2027-01-31", exit_code=EXIT_USAGE) from error


def _find(path: Path, suffixes: Collection[str]) -> tuple[list[Path], list[str], list[str], list[str]]:
    """List a file, or those below a folder with one of the suffixes; the names of all others; links within the folder; problems.

    What would be read and cannot be is a problem, as it might deny. What a link within the folder names is read in its place.
    """
    if not path.is_dir():
        return [path], [], [], []
    taken: list[Path] = []
    left: list[str] = []
    inner: list[str] = []
    problems: list[str] = []
    for folder, below, names in os.walk(path, onerror=lambda error: problems.append(f"{error} cannot be listed")):
        links = [each for each in map(Path(folder).joinpath, below) if each.is_symlink()]
        below[:] = sorted(set(below) - {".git"})
        for each in links:
            if each.resolve().is_relative_to(path.resolve()):
                inner.append(str(each.relative_to(path)))
            else:
                problems.append(f"{each} is a link to a folder outside, which is not read: copy it, or take it away")
        for each in map(Path(folder).joinpath, names):
            if each.suffix.lower() not in suffixes:
                left.append(str(each.relative_to(path)))
            elif each.is_file():
                taken.append(each)
            else:
                problems.append(f"{each} is no file that can be read")
    if not taken and not problems:
        raise Failed(f"{path} holds no file of {', '.join(suffixes)}", exit_code=EXIT_USAGE)
    return sorted(taken), sorted(left), sorted(inner), problems


def _left_out(name: str, suffixes: Collection[str]) -> Loss:
    what = f"it is no file of {', '.join(suffixes)}"
    return Loss(name, 1, "", name, what, "it was not read: nothing of it is carried over", Effect.OMITTED)


def _read_elsewhere(name: str) -> Loss:
    return Loss(name, 1, "", name, "it is a link to a folder of the input", "what is in it was read there", Effect.NOTE)


def _read(path: Path, files: Sequence[Path], problems: list[str]) -> list[Source]:
    """Read files, in the order of their names. ``problems`` gets those that cannot be read."""
    sources = []
    for each in files:
        name = str(each.relative_to(path)) if path.is_dir() else each.name
        try:
            if each.stat().st_size > MAX_FILE:
                problems.append(f"{each} is larger than {MAX_FILE >> 20} MiB")
            else:
                sources.append(Source(name, each.read_text(encoding="utf-8-sig")))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{each} cannot be read: {error}")
    return sources


def _write(out: Path, files: dict[str, str]) -> None:
    """Write all files; a folder that holds anything but an earlier import is not touched."""
    try:
        if out.exists() and (not out.is_dir() or {each.name for each in out.iterdir()} - _OURS):
            raise Failed(f"{out} holds other things", "name a new folder", exit_code=EXIT_USAGE)
        (out / POLICIES).mkdir(parents=True, exist_ok=True)
        for old in (out / POLICIES).glob("*.yaml"):
            old.unlink()
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"{out} cannot be written: {error}", exit_code=EXIT_USAGE) from error


def _tell(result: Import, out: Path) -> None:
    losses = [each for each in result.losses if each.effect is not Effect.NOTE]
    say(f"{len(result.inventory)} documents of inventory, {len(result.policies)} policies in {out}")
    for each in losses[:20]:
        say(f"{each.file}:{each.line}: {each.subject}: {each.what}: {each.means}", err=True)
    if losses:
        say(f"{len(losses)} differences, all of them in {out / LOSSES}", err=True)


_command(
    "kubernetes",
    True,
    YAML,
    import_kubernetes,
    """Carry over the workloads and network policies of a Kubernetes cluster.

    DIR holds manifests or dumps (YAML or JSON, Lists too): Namespaces, Pods and what controls them, NetworkPolicy v1,
    AdminNetworkPolicy and BaselineAdminNetworkPolicy v1alpha1, ClusterNetworkPolicy v1alpha2.

    Exit codes: 0 all carried over exactly, 3 with losses, 2 nothing written because the input cannot be read.""",
)
_command(
    "proxmox",
    True,
    (".fw", ".conf"),
    import_proxmox,
    """Carry over the firewall of a Proxmox VE cluster.

    DIR holds cluster.fw, VMID.fw, and best also the guests' VMID.conf (a copy of /etc/pve serves): interfaces and
    addresses are read from there and from IP filters. Rules are resolved to guests by their addresses.

    Exit codes: 0 all carried over exactly, 3 with losses, 2 nothing written because the input cannot be read.""",
)
_command(
    "neutron",
    False,
    (".json",),
    import_neutron,
    """Carry over security groups and ports of OpenStack Networking.

    FILE is one JSON object with security_groups and ports as the Networking API lists them, and as far as there are such:
    networks, address_groups, servers (for names), security_group_rules. A folder of such files is taken too.

    Exit codes: 0 all carried over exactly, 3 with losses, 2 nothing written because the input cannot be read.""",
)
_command(
    "nsx",
    False,
    (".json",),
    import_nsx,
    """Carry over the distributed firewall of VMware NSX.

    FILE is JSON of the policy API, as a tree (Infra) or as lists: SecurityPolicy with rules, Group, Service,
    VirtualMachine, VirtualNetworkInterface. A folder of such files is taken too.

    Exit codes: 0 all carried over exactly, 3 with losses, 2 nothing written because the input cannot be read.""",
)
_command(
    "nwfilter",
    True,
    (".xml",),
    import_nwfilter,
    """Carry over libvirt's network filters.

    DIR holds domains (virsh dumpxml) and filters (virsh nwfilter-dumpxml), one to a file. libvirt's own filters are known by
    name; those against spoofing are what every shield does by itself.

    Exit codes: 0 all carried over exactly, 3 with losses, 2 nothing written because the input cannot be read.""",
)
