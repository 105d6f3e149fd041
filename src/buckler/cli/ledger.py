"""``ledger``: fetch, keep and verify the record of everything. The verifying itself is buckler.ledger's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
import msgspec

from buckler.cli.output import as_json, output_option, say
from buckler.cli.session import EXIT_UNVERIFIED, Failed, operator
from buckler.model.operatorapi.ledger import LedgerKeys

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient
    from buckler.ledger.entry import Head
    from buckler.ledger.verify import Verification
    from buckler.trust.statement import KeySet

SHOWN = 20


@click.group()
def ledger() -> None:
    """Verify and export the signed, append-only record of everything that happened.

    \b
    Example:
      buckler ledger verify
    """


@ledger.command()
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True))
@click.pass_context
def export(context: click.Context, file: TextIO) -> None:
    """Write the whole ledger to FILE (- for standard output), to keep it or to verify it elsewhere.

    The first line holds the pool's keys, every further one a signed entry.

    \b
    Example:
      buckler ledger export pool.ledger
    """
    with operator(context) as client:
        file.write(msgspec.json.encode(client.ledger_keys()).decode() + "\n")
        count = 0
        for count, entry in enumerate(fetch(client), 1):  # noqa: B007  the last one is told below
            file.write(entry + "\n")
    say(f"{count} entries exported", err=True)


@ledger.command()
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An export, checked offline."
)
@click.option("--key", default="", metavar="KEY", help="The pool root's public key, as you know it (base64url).")
@click.option("--witness", default="", metavar="N:DIGEST", help="The end of the ledger as you saw it earlier.")
@output_option("table", "json")
@click.pass_context
def verify(context: click.Context, file: Path | None, key: str, witness: str, output: str) -> None:
    """Check every signature, number and link of the ledger on this machine, believing nobody.

    Without --file the entries are fetched from the controller. Without --key the root key is the one that came with
    the entries: that finds damage, not a forger who made it all anew. Without --witness nobody can say whether
    entries were cut off the end: keep the end that is printed here, and give it next time.

    \b
    Examples:
      buckler ledger verify
      buckler ledger verify --file pool.ledger --key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo

    Exit codes: 0 intact, 5 not: every fault is told.
    """
    from buckler.ledger.verify import verify_chain

    seen = parse_witness(witness) if witness else None
    if file:
        told, entries = read_export(file)
    else:
        with operator(context) as client:
            told, entries = client.ledger_keys(), list(fetch(client))
    result = verify_chain(entries, trusted_keys(told, key), seen)
    if output == "json":
        say(as_json(result))
    if not result.is_intact:
        raise Failed(*fault_lines(result), exit_code=EXIT_UNVERIFIED)
    if output != "json":
        say("\n".join(intact_lines(result, told, pinned=bool(key), witnessed=seen is not None)))


def fetch(client: OperatorClient) -> Iterator[str]:
    """Yield all entries, page by page."""
    after = 0
    while True:
        page = client.ledger_page(after=after)
        if not page.entries:
            return
        yield from page.entries
        after = page.first + len(page.entries) - 1


def read_export(file: Path) -> tuple[LedgerKeys, list[str]]:
    """Read what ``export`` wrote."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return msgspec.json.decode(lines[0], type=LedgerKeys), [line for line in lines[1:] if line.strip()]
    except (OSError, ValueError, IndexError) as error:
        raise Failed(f"{file} is no export of a ledger: {error}", exit_code=EXIT_UNVERIFIED) from error


def trusted_keys(told: LedgerKeys, pinned: str) -> KeySet:
    """Return the keys that the pool's root ever named. A root other than the pinned one, or a bad statement, ends it."""
    from buckler.model.agentapi import Issuers
    from buckler.trust.statement import Kind, Untrusted, key_from_text, key_id, verify

    try:
        root = key_from_text(pinned or told.root_key)
        keys = {}
        for statement in told.issuers:
            issuers = msgspec.json.decode(verify(Kind.ISSUERS, statement, {key_id(root): root}), type=Issuers)
            if issuers.pool != told.pool:
                raise Untrusted(f"keys of pool {issuers.pool!r} were given for pool {told.pool!r}")
            for text in issuers.keys:
                issuer = key_from_text(text)
                keys[key_id(issuer)] = issuer
    except (Untrusted, msgspec.DecodeError) as error:
        raise Failed(f"the pool's keys are not to be believed: {error}", exit_code=EXIT_UNVERIFIED) from error
    return keys


def parse_witness(text: str) -> Head:
    """Read ``N:DIGEST``."""
    from buckler.ledger.entry import Head
    from buckler.model.ids import Digest

    number, colon, digest = text.partition(":")
    if not (colon and number.isascii() and number.isdigit() and digest.startswith("sha256:")):
        raise click.UsageError(f"{text!r} is not of the form N:sha256:…")
    return Head(sequence=int(number), digest=Digest(digest))


def fault_lines(result: Verification) -> list[str]:
    """Tell every kind of fault, and the first faults of all."""
    lines = [f"the ledger is NOT intact: {len(result.findings)} faults in {result.count} entries"]
    lines += [f"  {finding.fault}: {finding.message}" for finding in result.findings[:SHOWN]]
    more = len(result.findings) - SHOWN
    return [*lines, f"  and {more} more (-o json tells all)"] if more > 0 else lines


def intact_lines(result: Verification, told: LedgerKeys, *, pinned: bool, witnessed: bool) -> list[str]:
    """Say what was proven, and what was not."""
    lines = [f"intact: {result.count} entries, every signature, number and link checked"]
    if not pinned:
        lines.append(f"root key {told.root_key} as told with the entries: compare it with yours, or give --key")
    end = f"{result.head.sequence}:{result.head.digest}"
    if witnessed:
        lines.append(f"the end that you saw earlier is part of it; it now ends at {end}")
    else:
        lines.append(f"complete up to {end}; whether more was cut off after it needs a --witness")
    return lines
