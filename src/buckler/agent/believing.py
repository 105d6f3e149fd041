"""The one place where what a host believes changes, from whichever side a statement comes. Fetches nothing itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec
import structlog

from buckler.agent.belief import (
    Belief,
    believe,
    borrow,
    gather_members,
    gather_objects,
    is_ahead,
    is_member,
    issuer_keys,
    read_issuers,
    read_lent_manifest,
    read_manifest,
)
from buckler.model.bundle import Manifest
from buckler.model.canonical import digest_of
from buckler.model.ids import Digest
from buckler.policy.walk import Fetch, Name, Node
from buckler.ports.state import Membership, State
from buckler.trust.statement import KeySet, Untrusted

_log = structlog.get_logger()
OWN, LENT = "manifest", "lent-manifest"
_PATIENCE = 600.0
"""Seconds for all objects of one manifest: enough for the largest state over a slow line, and an end to one that trickles."""


class Believer:
    """One statement at a time; what is believed is on disk before anybody is told of it."""

    def __init__(
        self,
        state: State,
        membership: Membership,
        told: Callable[[Belief], None],
        patience: float = _PATIENCE,
    ) -> None:
        self._state = state
        self._patience = patience
        self._root_key = membership.root_key
        self._told = told
        self._lock = threading.Lock()
        self._own: Manifest | None = None
        self._lent: Manifest | None = None
        self._nodes: dict[Name, Node] = {}
        """Every object that is believed now, as it was read."""
        self._holders = 0
        self._issuers_version, today = self._keys("issuers", membership.pool)
        self._belief = self._load(Belief(pool=membership.pool, host=membership.host, keys=today))

    @property
    def belief(self) -> Belief:
        return self._belief

    @property
    def issuers_version(self) -> int:
        return self._issuers_version

    def take_issuers(self, statement: str) -> None:
        """Newer issuing keys. Raises Untrusted, StateFailed."""
        with self._lock:
            issuers = read_issuers(statement, self._root_key, self._belief.pool)
            if issuers.version > self._issuers_version:
                keys = issuer_keys(issuers)
                self._state.put_document("issuers", statement)
                self._issuers_version = issuers.version
                self._adopt(msgspec.structs.replace(self._belief, keys=keys))

    def take_manifest(self, statement: str, fetch: Fetch) -> None:
        """A newer manifest for this host. Lent policy goes that is not ahead, or of a key retired since. Raises Untrusted.

        Nobody waits for the controller but who asks it: one that hangs must not keep arriving VMs from what others lend.
        """
        with self.holding():
            with self._lock:
                manifest = read_manifest(statement, self._belief)
                if manifest.revision <= self._belief.own_revision:
                    return
                known = self._nodes
            source = _Source(self._state, fetch, self._patience)
            nodes = gather_objects(manifest, known, source)
            with self._lock:
                manifest = read_manifest(statement, self._belief)
                if manifest.revision > self._belief.own_revision:
                    self._put_manifest(statement, manifest, nodes, source.fresh)

    def _put_manifest(
        self, statement: str, manifest: Manifest, nodes: dict[Name, Node], fresh: Mapping[Digest, bytes]
    ) -> None:
        lent = self._lent if self._is_vouched_for() and is_ahead(self._lent, manifest) else None
        belief = believe(self._belief, manifest, nodes)
        documents = self._said(OWN, statement)
        if lent is None:
            documents[LENT] = ""
        else:  # all of it is known: it is believed now
            ahead = gather_objects(lent, self._nodes, _Source(self._state, lambda _: {}))
            belief, nodes = borrow(belief, lent, ahead), nodes | ahead
        is_alone = self._holders == 1
        needed = frozenset(digest for _, digest in nodes) if is_alone else None
        self._state.put_policy(documents, fresh, needed)
        self._own, self._lent, self._nodes = manifest, lent, nodes
        self._adopt(belief)

    def borrow_manifest(self, statement: str, fetch: Fetch) -> bool:
        """Another member's manifest, if its policy is newer; say whether it was. Raises Untrusted, StateFailed.

        Nobody waits for the lender but who borrows: a member that hangs must not keep this host's own policy away.
        """
        lent = read_lent_manifest(statement, self._belief)
        with self.holding():
            with self._lock:
                if not self._is_newer(lent):
                    return False
                known = self._nodes
            source = _Source(self._state, fetch, self._patience)
            if not is_member(self._belief.host, lent, gather_members(lent, known, source)):
                raise Untrusted("a manifest in which this host is no member")
            nodes = gather_objects(lent, known, source)
            with self._lock:
                lent = read_lent_manifest(statement, self._belief)
                if not self._is_newer(lent):
                    return False
                belief = borrow(self._belief, lent, nodes)
                self._state.put_policy(self._said(LENT, statement), source.fresh, None)
                self._lent, self._nodes = lent, self._nodes | nodes
                self._adopt(belief)
                return True

    @contextmanager
    def holding(self) -> Iterator[None]:
        """What is on disk stays there meanwhile: somebody borrows, or is lent to, object by object."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1

    def newest(self) -> str:
        """The statement of the newest manifest that is believed here, for a member that knows an older one."""
        return self._state.document(OWN if self._lent is None else LENT)

    def issuers(self) -> str:
        """The statement of the issuing keys."""
        return self._state.document("issuers")

    def objects(self, wanted: frozenset[Digest]) -> Mapping[Digest, bytes]:
        """What is on disk of them. Raises StateFailed."""
        return self._state.objects(wanted)

    def _is_newer(self, lent: Manifest) -> bool:
        return lent.revision > self._belief.revision and is_ahead(lent, self._own)

    def _is_vouched_for(self) -> bool:
        """Whether today's issuers signed what was lent: who stole an older key must not outbid the pool for ever."""
        try:
            read_lent_manifest(self._state.document(LENT), self._belief)
        except Untrusted:
            return False
        return True

    def _said(self, name: str, statement: str) -> dict[str, str]:
        return {name: statement, f"{name}-issuers": self._state.document("issuers")}

    def _adopt(self, belief: Belief) -> None:
        self._belief = belief
        self._told(belief)

    def _load(self, blank: Belief) -> Belief:
        """What the disk holds, verified anew. A document that does not verify counts as absent: closed.

        A manifest is believed by the issuers of its time: a key retired since must not close a host whose controller is
        away. Whatever comes anew is believed by today's only.
        """
        belief, source = blank, _Source(self._state, lambda _: {})
        try:
            if statement := self._state.document(OWN):
                belief = self._of_its_time(belief, OWN, blank.keys)
                own = read_manifest(statement, belief)
                nodes = gather_objects(own, {}, source)
                belief, self._own, self._nodes = believe(belief, own, nodes), own, nodes
            if statement := self._state.document(LENT):
                belief = self._of_its_time(belief, LENT, blank.keys)
                lent = read_lent_manifest(statement, belief)
                if is_ahead(lent, self._own):  # older versions of this agent could leave what the own one has replaced
                    nodes = gather_objects(lent, self._nodes, source)
                    belief, self._lent, self._nodes = borrow(belief, lent, nodes), lent, self._nodes | nodes
        except Untrusted as error:
            _log.warning("a manifest on disk is not believed", error=str(error))
        return msgspec.structs.replace(belief, keys=blank.keys)

    def _of_its_time(self, belief: Belief, name: str, today: KeySet) -> Belief:
        _, then = self._keys(f"{name}-issuers", belief.pool)
        return msgspec.structs.replace(belief, keys=then or today)

    def _keys(self, name: str, pool: str) -> tuple[int, KeySet]:
        """(version, keys) of issuers on disk."""
        statement = self._state.document(name)
        if not statement:
            return 0, {}
        try:
            issuers = read_issuers(statement, self._root_key, pool)
            return issuers.version, issuer_keys(issuers)
        except Untrusted as error:
            _log.warning("the issuers on disk are not believed", error=str(error))
            return 0, {}


class _Source:
    """Objects from the disk, the others from where a statement came. ``fresh`` is what has yet to be kept."""

    def __init__(self, state: State, fetch: Fetch, patience: float = _PATIENCE) -> None:
        self._state = state
        self._fetch = fetch
        self._until = time.monotonic() + patience
        self.fresh: dict[Digest, bytes] = {}

    def __call__(self, wanted: frozenset[Digest]) -> Mapping[Digest, bytes]:
        held = {
            digest: content for digest, content in self._state.objects(wanted).items() if digest_of(content) == digest
        }
        missing = wanted - held.keys() - self.fresh.keys()
        if missing and time.monotonic() >= self._until:
            raise Untrusted("a manifest whose objects take too long to come")
        fetched = self._fetch(missing) if missing else {}
        self.fresh |= {digest: content for digest, content in fetched.items() if digest in missing}
        return {**held, **{digest: self.fresh[digest] for digest in wanted & self.fresh.keys()}}
