"""``ledger``: fetch, keep and verify the record of everything. The verifying itself is buckler.ledger's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from buckler.cli.output import Table, as_json, moment, output_option, say, show, words
from buckler.cli.session import EXIT_UNVERIFIED, Failed, operator
from buckler.model.operatorapi.ledger import LedgerCheckpoint

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient
    from buckler.ledger.export import Header, Line, Pool
    from buckler.ledger.trust import Trust
    from buckler.ledger.verify import Verification

SHOWN = 20
_PAGE = 1000

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def ledger() -> None:
    """Verify, export and prove the signed, append-only record of everything that happened.

    \b
    Example:
      buckler ledger verify
    """


@ledger.command()
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True))
@click.pass_context
def export(context: click.Context, file: TextIO) -> None:
    """Write the whole ledger to FILE (- for standard output), to keep it or to verify it elsewhere.

    The first line holds the pool's keys and the newest checkpoint, every further one an entry with its salt.

    \b
    Example:
      buckler ledger export pool.ledger
    """
    from buckler.ledger.export import header_text, line_text

    with operator(context) as client:
        size, header = fetch_header(client)
        file.write(header_text(header))
        for line in fetch_lines(client, size):
            file.write(line_text(line))
    say(f"{size} entries exported", err=True)


@ledger.command()
@click.argument("number", type=click.IntRange(min=1))
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True), default="-")
@click.pass_context
def prove(context: click.Context, number: int, file: TextIO) -> None:
    """Write the proof of entry NUMBER to FILE (default: standard output).

    It discloses that entry and no other. `buckler ledger verify --proof FILE` checks it, with the root's key alone.

    \b
    Example:
      buckler ledger prove 17 entry17.proof
    """
    import msgspec

    from buckler.ledger.export import Proof, proof_text

    with operator(context) as client:
        told, found = client.ledger_keys(), client.entry_proof(number)
    proof = Proof(
        pool=told.pool,
        root_key=told.root_key,
        issuers=told.issuers,
        checkpoint=found.checkpoint,
        number=found.number,
        salt=found.salt,
        entry=msgspec.Raw(found.entry.encode()),
        path=found.path,
    )
    file.write(proof_text(proof))


@ledger.command()
@output_option("table", "json", "yaml", "name")
@click.pass_context
def checkpoint(context: click.Context, output: str) -> None:
    """Show the newest signed checkpoint, and which hosts cosigned which one last.

    -o name prints the checkpoint itself (C2SP tlog-checkpoint): kept elsewhere, it is a witness for `ledger verify`.

    \b
    Example:
      buckler ledger checkpoint -o name > pool.checkpoint
    """
    with operator(context) as client:
        found = client.ledger_checkpoint()
    if output == "name":
        click.echo(found.note, nl=False)
        return
    show(found, output, lambda: checkpoint_text(found), lambda: ())


@ledger.command()
@click.option("--file", type=_FILE, help="An export, checked offline.")
@click.option("--proof", type=_FILE, help="The proof of one entry (see `ledger prove`), checked offline.")
@click.option("--root-key", default="", metavar="KEY", help="The pool root's public key, as you know it (base64url).")
@click.option(
    "--witness", "witnesses", type=_FILE, multiple=True,
    help="A checkpoint that was kept elsewhere, any number of times: `ledger checkpoint` or `agent witness` made it.",
)  # fmt: skip
@output_option("table", "json")
@click.pass_context
def verify(
    context: click.Context,
    file: Path | None,
    proof: Path | None,
    root_key: str,
    witnesses: tuple[Path, ...],
    output: str,
) -> None:
    """Check every entry of the ledger and the checkpoint over them on this machine, believing nobody.

    Without --file the entries are fetched from the controller. Without --root-key the root key is the one that came
    with them: that finds damage, not a forger who made it all anew. Without --witness nobody can say whether entries
    were cut off the end, or all written anew by whoever has the pool's keys.

    \b
    Examples:
      buckler ledger verify
      buckler ledger verify --file pool.ledger --root-key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --witness h1.witness
      buckler ledger verify --proof entry17.proof --root-key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo

    Exit codes: 0 intact, 5 not: every fault is told.
    """
    if proof:
        if file or witnesses:
            raise click.UsageError("--proof stands alone: what it proves needs no ledger")
        verify_proof(proof, root_key, output)
        return
    notes = tuple(_text_of(each) for each in witnesses)
    if file:
        with file.open(encoding="utf-8") as opened:
            result, told = verify_file(opened, root_key, notes)
    else:
        with operator(context) as client:
            size, header = fetch_header(client)
            result = verified(header, fetch_lines(client, size), root_key, notes)
            told = header
    if output == "json":
        say(as_json(result))
    if not result.is_intact:
        raise Failed(*fault_lines(result), exit_code=EXIT_UNVERIFIED)
    if output != "json":
        say("\n".join(intact_lines(result, told, pinned=bool(root_key))))


def fetch_header(client: OperatorClient) -> tuple[int, Header]:
    """Fetch what stands before the entries, and how many the checkpoint covers: later ones are left out."""
    from buckler.ledger.export import Header

    told, newest = client.ledger_keys(), client.ledger_checkpoint()
    notes = tuple(each.note for each in newest.witnesses)
    return newest.size, Header(
        pool=told.pool,
        root_key=told.root_key,
        issuers=told.issuers,
        hosts=told.hosts,
        checkpoint=newest.note,
        witnesses=notes,
    )


def fetch_lines(client: OperatorClient, size: int) -> Iterator[Line]:
    """Yield the first ``size`` entries, page by page, until none comes: ``size`` is the controller's word too."""
    from buckler.ledger.entry import Leaf
    from buckler.ledger.export import BadFile, Line, bytes_of

    for after in range(0, size, _PAGE):
        page = client.ledger_page(after=after, limit=min(_PAGE, size - after))
        if not page.entries:
            return
        try:
            for each in page.entries:
                yield Line(Leaf(each.entry, bytes_of(each.salt)), bytes_of(each.leaf))
        except BadFile as error:
            raise Failed(f"the controller gives what is no entry: {error}", exit_code=EXIT_UNVERIFIED) from error


def verify_file(lines: TextIO, root_key: str, notes: tuple[str, ...]) -> tuple[Verification, Header]:
    """Verify what ``export`` wrote."""
    from buckler.ledger.export import BadFile, read_export

    try:
        header, entries = read_export(lines)
        return verified(header, entries, root_key, notes), header
    except (BadFile, UnicodeError) as error:
        raise Failed(f"this is no export of a ledger: {error}", exit_code=EXIT_UNVERIFIED) from error


def verified(header: Header, lines: Iterator[Line], root_key: str, notes: tuple[str, ...]) -> Verification:
    """Verify entries as they come."""
    from buckler.ledger.verify import verify_ledger

    return verify_ledger(lines, header.checkpoint, trusted(header, root_key), notes, header.witnesses)


def verify_proof(file: Path, root_key: str, output: str) -> None:
    """Check one entry's proof and tell it."""
    from buckler.ledger.entry import BadEntry
    from buckler.ledger.export import BadFile, bytes_of, leaf_in, read_proof
    from buckler.ledger.history import describe
    from buckler.ledger.tree import BadProof
    from buckler.ledger.verify import verify_entry
    from buckler.trust.statement import Untrusted

    try:
        told = read_proof(_text_of(file))
        leaf = leaf_in(told.entry, told.salt)
        path = [bytes_of(each) for each in told.path]
        entry, signed = verify_entry(leaf, told.number, path, told.checkpoint, trusted(told, root_key))
    except (BadFile, BadEntry, BadProof, Untrusted) as error:
        raise Failed(f"this proves nothing: {error}", exit_code=EXIT_UNVERIFIED) from error
    if output == "json":
        say(as_json(entry))
        return
    say(f"proven: entry {entry.sequence} of a ledger of {signed.size}")
    say(f"  {moment(entry.at)}: {describe(entry)}")
    if not root_key:
        say(pin_line(told))


def trusted(told: Pool, root_key: str) -> Trust:
    """Return whose checkpoints count. A root other than the pinned one, or a bad statement, ends it."""
    from buckler.ledger.trust import trust_root
    from buckler.trust.statement import Untrusted

    try:
        return trust_root(root_key or told.root_key, told.pool, told.issuers, told.hosts)
    except Untrusted as error:
        raise Failed(f"the pool's keys are not to be believed: {error}", exit_code=EXIT_UNVERIFIED) from error


def checkpoint_text(found: LedgerCheckpoint) -> str:
    """Tell the checkpoint, and below it a row of every witness."""
    from buckler.cli.output import fields, plain_table

    facts = [("Entries", str(found.size)), ("Root hash", found.root)]
    rows = tuple((each.host, str(each.size), moment(each.at)) for each in found.witnesses)
    table = plain_table(Table(("WITNESS", "ENTRIES", "COSIGNED"), rows))
    return "\n".join([*fields(facts), table if rows else "No host has cosigned one yet."])


def fault_lines(result: Verification) -> list[str]:
    """Tell every kind of fault, and the first faults of all."""
    lines = [f"the ledger is NOT intact: {len(result.findings)} faults in {result.count} entries"]
    lines += [f"  {finding.fault}: {finding.message}" for finding in result.findings[:SHOWN]]
    more = len(result.findings) - SHOWN
    return [*lines, f"  and {more} more (-o json tells all)"] if more > 0 else lines


def intact_lines(result: Verification, told: Pool, *, pinned: bool) -> list[str]:
    """Say what was proven, and what was not."""
    lines = [f"intact: {result.count} entries, each in its place under the signed checkpoint"]
    if not pinned:
        lines.append(pin_line(told))
    for each in result.witnesses:
        names = words((f"host {cosigned.host}" for cosigned in each.cosigned), "nobody whose key is known")
        lines.append(f"a witness saw the first {each.size} entries, and they are these (cosigned by {names})")
    if not result.witnesses:
        lines.append(f"complete up to {result.size}; whether more was cut off after it needs a --witness")
    return lines


def pin_line(told: Pool) -> str:
    """Say whose word the root key is."""
    return f"root key {told.root_key} as told with the entries: compare it with yours, or give --root-key"


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise Failed(f"{file} cannot be read: {error}", exit_code=EXIT_UNVERIFIED) from error
