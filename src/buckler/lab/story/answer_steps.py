"""Steps about decisions people take, and what Buckler answers when asked: revoke, quarantine, explain, remember."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from buckler.lab.story.cast import TENANT, Cast, wait_until
from buckler.lab.story.figures import QuarantineHolds, RevocationCut, WordsFound
from buckler.lab.story.probing import hold, is_reached, scan
from buckler.model.operatorapi.documents import LabelRequest, Reference
from buckler.model.operatorapi.vms import QuarantineRequest

WEB1 = Reference(kind="VM", name="web1", tenant=TENANT)
LABEL = "tier"


def revocation_cut(cast: Cast) -> RevocationCut:
    """Remove the label that makes ``web1`` a web server while its connection to ``app`` speaks; then give it back."""
    target = f"tcp/{cast.guest('app').ipv4}/8080"
    connection = hold(cast.centre, "web1", "revoked", target)
    wait_until("the connection speaks", lambda: int(connection.read().get("received", 0)) > 5)
    with cast.operator() as client:
        value = client.vm("web1", TENANT).labels[LABEL]
        client.label(WEB1, LabelRequest(remove=(LABEL,)))
    cast.pool.wait_for_hosts()
    before = int(connection.read_settled()["received"])
    time.sleep(2)
    after = int(connection.stop()["received"]) - before
    with cast.operator() as client:
        client.label(WEB1, LabelRequest(set={LABEL: value}))
    cast.pool.wait_for_hosts()
    came_back = is_reached(scan(cast.centre, "web1", [target])[target])
    cast.tell(f"an open connection had {before} answers; after the label went {after} more; with it again: {came_back}")
    return RevocationCut(before, after, came_back)


def quarantine_holds(cast: Cast) -> QuarantineHolds:
    """Quarantine ``web1`` in one step, let all try all, release it."""
    with cast.operator() as client:
        client.quarantine("web1", QuarantineRequest(reason="the demo suspects it"), TENANT)
    cast.pool.wait_for_hosts()
    found = cast.probed()
    reached = tuple(sorted(str(meeting) for meeting in found if "web1" in (meeting.origin, meeting.to)))
    if cast.page("web1"):
        reached = (*reached, "outside → web1 TCP 80")
    with cast.operator() as client:
        client.release("web1", QuarantineRequest(reason="it was the demo"), TENANT)
    cast.pool.wait_for_hosts()
    works = cast.page("web1").count("hello from") == 3
    cast.tell(f"in quarantine web1 had {len(reached)} ways in or out; after release it works: {works}")
    return QuarantineHolds(reached, works)


def words_found(cast: Cast) -> WordsFound:
    """Ask why one packet of the attacker was refused, what ``app`` lived through, and whether the ledger is whole."""
    with cast.operator() as client:
        explanation = client.explain("attacker", "db", "TCP", 5432, TENANT)
        history = tuple(entry.text for entry in client.history("app", TENANT))
    texts = [explanation.text, *(side.text for path in explanation.paths for side in path.sides)]
    for text in texts:
        cast.tell(text)
    cast.tell(f"app lived through {len(history)} events; the last of them:")
    for line in history[-4:]:
        cast.tell(f"  {line.partition(' (')[0]}")
    entries = len(cast.ledger())
    verified = subprocess.run(
        [sys.executable, "-m", "buckler", "ledger", "verify"],
        env={**os.environ, "BUCKLER_SOCKET": cast.pool.socket},
        capture_output=True,
        text=True,
        check=False,
    )
    cast.tell((verified.stdout.strip() or verified.stderr.strip()).partition("\n")[0])
    why = " ".join(texts) if explanation.verdict == "deny" else ""
    return WordsFound(why, history, entries, verified.returncode == 0)
