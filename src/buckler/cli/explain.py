"""``explain``: why a connection is allowed or refused, told for both ends. The reasons are the controller's."""

from __future__ import annotations

import click

from buckler.cli.complete import complete_vm
from buckler.cli.output import output_option, show, tenant_option
from buckler.cli.session import Failed, operator
from buckler.model.operatorapi.answers import ExplainedPath, Explanation, Side, Step

PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMP", "icmpv6": "ICMPv6"}
ECHO = {"ICMP": 8, "ICMPv6": 128}
_FORMS = "5432, 53/udp, icmp or icmpv6/135"


def parse_port(text: str) -> tuple[str, int]:
    """Read ``5432``, ``53/udp``, ``icmp``, ``icmpv6/135`` or ``icmp/3.4``; ICMP gives type << 8 | code, echo by default."""
    first, _, second = text.lower().partition("/")
    word, number = (first, second) if first in PROTOCOLS else (second or "tcp", first)
    protocol = PROTOCOLS.get(word)
    if protocol is None:
        raise click.UsageError(f"{text!r}: write {_FORMS}")
    if protocol in ECHO:
        kind, _, code = (number or str(ECHO[protocol])).partition(".")
        return protocol, _number(kind, 255, text) << 8 | _number(code or "0", 255, text)
    return protocol, _number(number, 65535, text)


def _number(text: str, most: int, whole: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise click.UsageError(f"{whole!r}: {text[:24]!r} is no number from 0 to {most}; write {_FORMS}")
    return int(text)


@click.command()
@click.argument("origin", metavar="FROM", shell_complete=complete_vm)
@click.argument("to", metavar="TO", shell_complete=complete_vm)
@click.argument("port", metavar="PORT")
@tenant_option("The tenant of names without one (default: default).")
@click.option("--expect", type=click.Choice(["allow", "deny"]), help="Exit with 1 unless this is the verdict.")
@output_option("table", "wide", "json", "yaml")
@click.pass_context
def explain(
    context: click.Context, origin: str, to: str, port: str, tenant: str, expect: str | None, output: str
) -> None:
    """Say what both ends' shields do with a connection, by which rule of which tier, document and line.

    FROM and TO are VMs (or TENANT/NAME), endpoints, addresses, `world`, or `host` (the gateway that the host serves); TO may be the
    virtual address of a Service: then each of its members is told. PORT is 5432, 53/udp, icmp, icmpv6/135.

    \b
    Examples:
      buckler explain web1 db 5432
      buckler explain web1 192.0.2.7 443 -o wide
      buckler explain web1 app 8080 --expect allow

    Exit codes: 0 explained (and as expected), 1 refused or not as expected.
    """
    protocol, number = parse_port(port)
    with operator(context) as client:
        answer = client.explain(origin, to, protocol, number, tenant)
    show(answer, output, lambda: "\n".join(explanation_lines(answer, every_step=output == "wide")), lambda: ())
    if expect and answer.verdict != expect:
        raise Failed(f"the verdict is {answer.verdict}, expected was {expect}")


def port_words(protocol: str, port: int) -> str:
    """Write a protocol and port as people read them."""
    if protocol not in ECHO:
        return f"{protocol} {port}" if protocol in PROTOCOLS.values() else protocol
    kind, code = port >> 8, port & 0xFF
    name = " (echo request)" if kind == ECHO[protocol] and not code else ""
    return f"{protocol} type {kind} code {code}{name}"


def explanation_lines(answer: Explanation, *, every_step: bool) -> list[str]:
    """Tell an explanation in words."""
    port = port_words(answer.protocol, answer.port)
    verdict = "ALLOWED" if answer.verdict == "allow" else "DENIED"
    lines = [f"{answer.origin} → {answer.to}, {port}: {verdict}"]
    lines += [f"  {line}" for line in answer.text.splitlines()]
    for path in answer.paths:
        lines += ["", *_path_lines(path, every_step=every_step)]
    return lines


def _path_lines(path: ExplainedPath, *, every_step: bool) -> list[str]:
    lines = [f"on network {path.network}: {path.origin} → {path.to}: {path.verdict}"]
    for side in path.sides:
        lines += _side_lines(side, every_step=every_step)
    return lines


def _side_lines(side: Side, *, every_step: bool) -> list[str]:
    end = "sender" if side.direction == "egress" else "receiver"
    whose = f", for the {side.at}" if side.at else ""
    lines = [f"  {end} {side.vm}, {side.direction}{whose}: {side.verdict}"]
    if side.mode != "enforce":
        lines.append("    the shield only observes: what is denied is recorded, and passes")
    lines += [f"    {line}" for line in side.text.splitlines()]
    if side.policy and side.policy not in side.text:
        lines.append(
            f"    rule {side.rule!r} of policy {side.policy!r}, tier {side.tier}{_place(side.file, side.line)}"
        )
    if every_step and side.steps:
        lines.append("    considered, in order:")
        lines += [f"      {_step_words(step)}" for step in side.steps]
    return lines


def _step_words(step: Step) -> str:
    place = _place(step.file, step.line)
    return f"{step.tier}: {step.policy}/{step.rule} ({step.action}): {step.outcome}{place}"


def _place(file: str, line: int) -> str:
    if not file or file.startswith("("):
        return f" {file}".rstrip()
    return f", written in {file}:{line}" if line else f", written in {file}"
