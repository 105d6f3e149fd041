"""An import as the texts of its files: inventory, policies, losses. Owns no file system."""

from __future__ import annotations

from collections.abc import Iterable

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

    Raises ValueError when it is not what our own checks take: a fault of the importer, and nothing to write.
    """
    files = {INVENTORY: _yaml(result.inventory)}
    for number in range(0, max(len(result.policies), 1), _PER_FILE):
        files[f"{POLICIES}/{number // _PER_FILE + 1:03}.yaml"] = _yaml(result.policies[number : number + _PER_FILE])
    faults = check_files(files)
    if faults:
        raise ValueError("; ".join(f"{each.file} line {each.line}: {each.message}" for each in faults[:5]))
    return files | {LOSSES: loss_report(result)}


def check_files(files: dict[str, str]) -> tuple[Problem, ...]:
    """List what our own checks refuse in written documents."""
    reading = read_documents(Source(name, text) for name, text in sorted(files.items()))
    problems = (*reading.problems, *check_documents(reading.documents))
    return tuple(each for each in problems if each.severity is Severity.ERROR)


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
