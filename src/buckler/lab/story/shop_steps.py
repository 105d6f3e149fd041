"""Steps about the shop standing still: it works, strangers get nothing, prediction equals probing."""

from __future__ import annotations

from buckler.lab.story.cast import Cast
from buckler.lab.story.figures import MatrixMatches, ShopWorks
from buckler.lab.story.probing import every_meeting


def shop_works(cast: Cast) -> ShopWorks:
    """Fetch the shop's page through three tiers from outside; let attacker and rogue try everything they can."""
    chains = {name: cast.page(name) for name in ("web1", "web2")}
    found = cast.probed()
    reached = {
        stranger: tuple(sorted(str(meeting) for meeting in found if meeting.origin == stranger))
        for stranger in ("attacker", "rogue")
    }
    for name, chain in chains.items():
        cast.tell(f"outside → {name}: {chain or 'no answer'}")
    cast.tell(f"attacker reached {len(reached['attacker'])} services, rogue reached {len(reached['rogue'])}")
    return ShopWorks(chains, reached["attacker"], reached["rogue"])


def matrix_matches(cast: Cast) -> MatrixMatches:
    """Compare ``buckler reach`` with what every pair of guests can really do, TCP, UDP and ICMP, IPv4 and IPv6."""
    expected = cast.expected()
    found = cast.probed(expected)
    tried = every_meeting(cast.guests)
    cast.tell(f"{len(tried)} meetings tried, {len(found)} succeeded, {len(expected)} are allowed by policy")
    return MatrixMatches(
        tried=len(tried),
        succeeded=len(found),
        unexpectedly_open=tuple(sorted(str(meeting) for meeting in found - expected)),
        unexpectedly_closed=tuple(sorted(str(meeting) for meeting in expected - found)),
    )
