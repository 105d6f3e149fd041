"""The one place where what a host believes changes, from whichever side a statement comes. Fetches nothing itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import structlog

from buckler.agent.belief import (
    Belief,
    believe,
    borrow,
    is_ahead,
    issuer_keys,
    read_issuers,
    read_lent_manifest,
    read_manifest,
    read_object,
)
from buckler.model.agentapi import ObjectEnvelope
from buckler.model.bundle import Manifest
from buckler.model.ids import Digest
from buckler.ports.state import Membership, State
from buckler.trust.statement import KeySet, Untrusted

_log = structlog.get_logger()
Fetch = Callable[[frozenset[Digest]], Mapping[Digest, ObjectEnvelope]]
OWN, LENT = "manifest", "lent-manifest"


class Believer:
    """One statement at a time; what is believed is on disk before anybody is told of it."""

    def __init__(self, state: State, membership: Membership, told: Callable[[Belief], None]) -> None:
        self._state = state
        self._root_key = membership.root_key
        self._told = told
        self._lock = threading.Lock()
        self._own: Manifest | None = None
        self._lent: Manifest | None = None
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
        """A newer manifest for this host. Lent policy goes that is not ahead, or of a key retired since. Raises Untrusted."""
        with self._lock:
            manifest = read_manifest(statement, self._belief)
            if manifest.revision <= self._belief.own_revision:
                return
            lent = self._lent if self._is_vouched_for() and is_ahead(self._lent, manifest) else None
            envelopes = self._gather((manifest, lent), fetch)
            belief = believe(self._belief, manifest, envelopes)
            belief = belief if lent is None else borrow(belief, lent, envelopes)
            self._keep(OWN, statement)
            if lent is None:
                self._state.put_document(LENT, "")
            self._own, self._lent = manifest, lent
            self._state.keep_objects(_needed((manifest, lent)))
            self._adopt(belief)

    def borrow_manifest(self, statement: str, fetch: Fetch) -> bool:
        """Another member's manifest, if its policy is newer; say whether it was. Raises Untrusted, StateFailed.

        Nobody waits for the lender but who borrows: a member that hangs must not keep this host's own policy away.
        """
        lent = read_lent_manifest(statement, self._belief)
        missing = _needed((lent,)) - self._held(_needed((lent,))).keys()
        fetched = dict(fetch(missing)) if missing and self._is_newer(lent) else {}
        with self._lock:
            lent = read_lent_manifest(statement, self._belief)
            if not self._is_newer(lent):
                return False
            envelopes = self._gather((lent,), lambda wanted: {each: fetched[each] for each in wanted & fetched.keys()})
            belief = borrow(self._belief, lent, envelopes)
            self._keep(LENT, statement)
            self._lent = lent
            self._adopt(belief)
            return True

    def newest(self) -> str:
        """The statement of the newest manifest that is believed here, for a member that knows an older one."""
        return self._state.document(OWN if self._lent is None else LENT)

    def issuers(self) -> str:
        """The statement of the issuing keys."""
        return self._state.document("issuers")

    def objects(self) -> dict[Digest, ObjectEnvelope]:
        """What is on disk, as it was signed. Raises StateFailed."""
        return self._state.objects()

    def _is_newer(self, lent: Manifest) -> bool:
        return lent.revision > self._belief.revision and is_ahead(lent, self._own)

    def _is_vouched_for(self) -> bool:
        """Whether today's issuers signed what was lent: who stole an older key must not outbid the pool for ever."""
        try:
            read_lent_manifest(self._state.document(LENT), self._belief)
        except Untrusted:
            return False
        return True

    def _gather(self, manifests: tuple[Manifest | None, ...], fetch: Fetch) -> dict[Digest, ObjectEnvelope]:
        needed = _needed(manifests)
        held = self._held(needed)
        missing = needed - held.keys()
        fetched = dict(fetch(missing)) if missing else {}
        for digest, envelope in fetched.items():
            read_object(digest, envelope, self._belief.keys)
        self._state.put_objects(fetched)
        return {**held, **fetched}

    def _held(self, needed: frozenset[Digest]) -> dict[Digest, ObjectEnvelope]:
        """Objects on disk that today's issuers vouch for: after a key was retired the others are fetched anew."""
        held = {}
        for digest, envelope in self._state.objects().items():
            if digest in needed:
                with suppress(Untrusted):
                    read_object(digest, envelope, self._belief.keys)
                    held[digest] = envelope
        return held

    def _keep(self, name: str, statement: str) -> None:
        self._state.put_document(name, statement)
        self._state.put_document(f"{name}-issuers", self._state.document("issuers"))

    def _adopt(self, belief: Belief) -> None:
        self._belief = belief
        self._told(belief)

    def _load(self, blank: Belief) -> Belief:
        """What the disk holds, verified anew. A document that does not verify counts as absent: closed.

        A manifest is believed by the issuers of its time: a key retired since must not close a host whose controller is
        away. Whatever comes anew is believed by today's only.
        """
        belief, objects = blank, self._state.objects()
        try:
            if statement := self._state.document(OWN):
                belief = self._of_its_time(belief, OWN, blank.keys)
                own = read_manifest(statement, belief)
                belief, self._own = believe(belief, own, objects), own
            if statement := self._state.document(LENT):
                belief = self._of_its_time(belief, LENT, blank.keys)
                lent = read_lent_manifest(statement, belief)
                if is_ahead(lent, self._own):  # a crash can leave what the own one has replaced
                    belief, self._lent = borrow(belief, lent, objects), lent
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


def _needed(manifests: tuple[Manifest | None, ...]) -> frozenset[Digest]:
    return frozenset(digest for each in manifests if each is not None for digest in (*each.segments, *each.programs))
