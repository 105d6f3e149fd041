"""Names for the shell's completion, asked of the controller. Completion never fails: without an answer it offers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient

KINDS = {
    "vm": "VM",
    "network": "Network",
    "policy": "Policy",
    "flow": "Flow",
    "endpoint": "Endpoint",
    "addressgroup": "AddressGroup",
    "service": "Service",
    "response": "Response",
    "exception": "Exception",
}
"""Every kind of document, by the word that people write."""


def complete_vm(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of VMs."""
    del parameter
    return _starting(incomplete, _ask(context, lambda client: [vm.name for vm in client.vms()]))


def complete_host(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of hosts."""
    del parameter
    return _starting(incomplete, _ask(context, lambda client: [host.name for host in client.hosts()]))


def complete_kind_or_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer kinds first, then the names of documents of the kind that was given."""
    given = context.params.get("what") or context.params.get("kind") or ()
    word = given if isinstance(given, str) else given[0] if given else ""
    if not word or parameter.name == "kind":
        return _starting(incomplete, [*KINDS, "all"] if parameter.name == "what" else KINDS)
    kind = KINDS.get(word.lower(), word)
    names = _ask(context, lambda client: [item.document["metadata"]["name"] for item in client.documents(kind)])
    return _starting(incomplete, names)


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def _ask(context: click.Context, question: Callable[[OperatorClient], list[str]]) -> list[str]:
    from buckler.client.operator import OperatorClient, OperatorFailed
    from buckler.model.operatorapi import SOCKET

    socket = context.meta.get("buckler.socket") or context.find_root().params.get("socket") or SOCKET
    try:
        with OperatorClient(socket) as client:
            return question(client)
    except OperatorFailed:
        return []
