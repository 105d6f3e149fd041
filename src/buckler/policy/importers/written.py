"""An import as the texts of its files: inventory, policies, losses. Owns no file system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import yaml

from buckler.policy.crosscheck import check_documents
from buckler.policy.documents import read_documents
from buckler.policy.form import document_to_dict
from buckler.policy.importers.outcome import Effect, Import, Loss
from buckler.policy.language import Document
from buckler.policy.problem import Problem, Severity
from buckler.policy.source import MAX_BYTES, Source

INVENTORY = "inventory.yaml"
POLICIES = "policies"
LOSSES = "loss.json"
_PER_FILE = 500


class _PlainDumper(yaml.SafeDumper):
    """Writes every value out: what we write, we must read again, and we take no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - yaml's form
        return True


def import_files(result: Import) -> dict[str, str]:
    """Give every file by its path below OUT. What we write we read again first.

    Raises ValueError when it is not what our own checks take, with the places in the source: nothing is to be written.
    """
    parts = {INVENTORY: result.inventory}
    for number in range(0, max(len(result.policies), 1), _PER_FILE):
        parts[f"{POLICIES}/{number // _PER_FILE + 1:03}.yaml"] = result.policies[number : number + _PER_FILE]
    files = {name: _yaml(documents) for name, documents in parts.items()}
    faults = check_files(files)
    if faults:
        raise ValueError("; ".join(_at_source(each, files[each.file], parts[each.file]) for each in faults[:5]))
    return files | {LOSSES: loss_report(result)}


def check_files(files: dict[str, str]) -> tuple[Problem, ...]:
    """List what our own checks refuse in written documents."""
    reading = read_documents(Source(name, text) for name, text in sorted(files.items()))
    problems = (*reading.problems, *check_documents(reading.documents))
    return tuple(each for each in problems if each.severity is Severity.ERROR)


def _at_source(fault: Problem, text: str, documents: Sequence[Document]) -> str:
    """Say what is wrong where it came from: of what is not written nobody can look at a line."""
    started = text.splitlines()[: max(fault.line, 1)].count("---")
    document = documents[max(started, 1) - 1]
    return f"{document.file} line {document.line}: {document.kind} {document.name}: {fault.path}: {fault.message}"


def loss_report(result: Import) -> str:
    """Write what was not carried over exactly, and beside it what is only worth knowing."""
    told = {
        "source": result.source,
        "exact": result.is_exact,
        "losses": [_told(each) for each in result.losses if each.effect is not Effect.NOTE],
        "notes": [_told(each) for each in result.losses if each.effect is Effect.NOTE],
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n"


def _told(loss: Loss) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(loss)
    return fields


def _yaml(documents: Iterable[Document]) -> str:
    dicts = [document_to_dict(each) for each in documents]
    text = yaml.dump_all(dicts, Dumper=_PlainDumper, sort_keys=False, width=120, explicit_start=True)
    if len(text) > MAX_BYTES:
        raise ValueError(f"a file of more than {MAX_BYTES} characters would not be read again")
    return text
