"""Which rules stand at which label set, kept up to date change by change: label sets that the same rules bind share a row.

Owns no meaning of a rule (resolve) and no number of anything: numbers come from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from buckler.model.canonical import digest_of
from buckler.model.ids import IDENTITY_HOST, Digest, IdentityNumber, RuleNumber
from buckler.model.label import LABEL_NETWORK, Labels, Selector
from buckler.model.program import Direction
from buckler.policy.farend import Opinions, draft_only, join_ends
from buckler.policy.identity import rule_means_everyone, rule_means_group
from buckler.policy.language import Document, Peer, Stand
from buckler.policy.learned import LearnedPeer
from buckler.policy.lend import AskedNumbers
from buckler.policy.posting import Mask, Postings, hooks_of
from buckler.policy.resolve import Table, resolve_rules
from buckler.policy.row import Row, Sheet, Side, encode_program, partition, unite
from buckler.policy.rules import Rule, end_of, expand_document

EVERYONE: Mask = -1
"""A rule that leaves its peers out, or says ``any``."""
PostKey = tuple[tuple[int, int], str, Direction, Stand, int]
"""Place, document key, direction, whose end, and there which rule: posts in this order stand in the order of judging."""
RowKey = tuple[int, tuple[PostKey, ...]]
"""The zone and every post of a label set."""


class _Rule(msgspec.Struct, frozen=True):
    """``handle`` names this writing of the rule: another one with its key has another."""

    handle: int
    rule: Rule
    everyone: bool
    group: bool


class _Post:
    """The rules of one document in one direction, and the selectors of those at whom they stand."""

    __slots__ = ("is_learned", "key", "masks", "peers", "rules", "subjects")

    def __init__(self, key: PostKey, rules: Sequence[_Rule], subjects: frozenset[bytes], peers: frozenset[bytes]):
        self.key, self.rules, self.subjects, self.peers = key, tuple(rules), subjects, peers
        self.masks: tuple[Mask, ...] | None = None
        self.is_learned = any(isinstance(peer, LearnedPeer) for each in rules for peer in each.rule.peers)


class _Chosen:
    """A selector that some post has: whom it matches, and whose it is."""

    __slots__ = ("mask", "peer_of", "selector", "subject_of")

    def __init__(self, selector: Selector, mask: Mask) -> None:
        self.selector, self.mask = selector, mask
        self.subject_of: set[PostKey] = set()
        self.peer_of: set[PostKey] = set()


class _Held:
    """A row with the label sets that share it."""

    __slots__ = ("members", "row")

    def __init__(self) -> None:
        self.members: set[IdentityNumber] = set()
        self.row: Row | None = None


class Rows:
    """The rows of a whole pool. Change it by ``put_`` and ``drop_``; ``settle`` then says whose row is another."""

    def __init__(self, rule_number: Callable[[str], RuleNumber]) -> None:
        self.postings = Postings()
        self._rule_number = rule_number
        self._posts: dict[PostKey, _Post] = {}
        self._of_document: dict[str, list[PostKey]] = {}
        self._prefixes_of: dict[str, frozenset[str]] = {}
        self._prefix_count: dict[str, int] = {}
        self._chosen: dict[bytes, _Chosen] = {}
        self._by_label: dict[tuple[str, str | None], set[bytes]] = {}
        self._unlabelled: set[bytes] = set()
        self._at: dict[IdentityNumber, RowKey] = {}
        self._held: dict[RowKey, _Held] = {}
        self._rows_of: dict[PostKey, set[RowKey]] = {}
        self._astir: set[IdentityNumber] = set()
        self._dirty: set[RowKey] = set()
        self._told: dict[IdentityNumber, Digest] = {}
        self._outside_posts: set[PostKey] = set()
        self._network_of: dict[int, str] = {}
        self._opinions = Opinions()
        self._handles = 0
        self._sheets: dict[tuple[int, ...], Sheet] = {}
        self._interned: dict[Table, Sheet] = {}

    def row(self, number: IdentityNumber) -> Row:
        """Give the row of a label set, after ``settle``."""
        row = self._held[self._at[number]].row
        assert row is not None, "not settled"  # noqa: S101 - a slip of ours, never of the input
        return row

    def rows(self) -> Iterator[tuple[frozenset[IdentityNumber], Row]]:
        """Give every row with the label sets that share it, after ``settle``."""
        for held in self._held.values():
            if held.row is not None:
                yield frozenset(held.members), held.row

    def standing(self) -> Iterator[tuple[frozenset[IdentityNumber], Direction, tuple[tuple[Rule, Mask], ...]]]:
        """Give each row's rules in the order of judging, with the classes that each means there; -1: everyone."""
        for (zone, posts), held in self._held.items():
            scope = self.postings.zones.get(zone, 0) | self.postings.outside
            for side in Direction:
                mine = [self._posts[post] for post in posts if post[2] is side]
                meant = tuple(
                    (each.rule, EVERYONE if each.everyone else mask & scope)
                    for post in mine
                    for each, mask in zip(post.rules, self._masks(post, zone), strict=True)
                )
                yield frozenset(held.members), side, meant

    def put_labels(self, number: IdentityNumber, labels: Labels, zone: int) -> None:
        """Take a label set in."""
        self.postings.add_labels(number, labels, zone)
        self._network_of[zone] = labels.get(LABEL_NETWORK, "")
        bit = 1 << self.postings.places[number]
        for chosen in self._matching(labels):
            chosen.mask |= bit
            self._stir_peers(chosen, zone)
        self._astir.add(number)

    def drop_labels(self, number: IdentityNumber) -> None:
        """Leave a label set out."""
        bit = 1 << self.postings.places[number]
        zone = self.postings.zone_of(number)
        for chosen in self._matching(self.postings.labels[number]):
            chosen.mask &= ~bit
            self._stir_peers(chosen, zone)
        self._leave(number)
        self._astir.discard(number)
        self._told.pop(number, None)
        self.postings.drop(number)

    def put_document(self, document: Document, prefix_number: Callable[[str], IdentityNumber]) -> None:
        """Take a Policy or Flow in, in place of the one with its key."""
        self.drop_document(document.key)
        rules = expand_document(document)
        self._put_prefixes(document.key, rules, prefix_number)
        for side in Direction:
            here = [rule for rule in rules if rule.direction is side and rule.stand is Stand.VM]
            mine = [rule for rule in here if not rule.yielding]
            if mine:
                self._put_post((mine[0].place, document.key, side, Stand.VM, 0), mine)
            excepted = [rule for rule in here if rule.yielding]
            for place, key in enumerate(dict.fromkeys(rule.key for rule in excepted), 1):
                one = [rule for rule in excepted if rule.key == key]  # it may stand at fewer than its document does
                self._put_post((one[0].place, document.key, side, Stand.VM, place), one)
        far = [rule for rule in rules if rule.stand is not Stand.VM]
        for place, key in enumerate(dict.fromkeys(rule.key for rule in far)):
            one = [rule for rule in far if rule.key == key]  # it binds other VMs than the next rule of its document
            self._put_post((one[0].place, document.key, one[0].direction, one[0].stand, place), one)
        if self._opinions.put(document.key, far):
            self._dirty.update(self._held)

    def drop_document(self, key: str) -> None:
        """Leave a document out."""
        for post in self._of_document.pop(key, ()):
            self._drop_post(self._posts.pop(post))
        if self._opinions.put(key, ()):
            self._dirty.update(self._held)
        gone = []
        for prefix in self._prefixes_of.pop(key, ()):
            self._prefix_count[prefix] -= 1
            if not self._prefix_count[prefix]:
                del self._prefix_count[prefix]
                gone.append(prefix)
        if gone:
            self.postings.drop_prefixes(gone)
            self._stir_outside()

    def settle(self) -> set[IdentityNumber]:
        """Work out every row that may have changed; name the label sets whose program is new or another."""
        for number in self._astir:
            self._move(number)
        asked = set(self._astir)
        for key in self._dirty:
            held = self._held.get(key)
            if held is not None:
                held.row = self._work_out(key)
                asked |= held.members
        self._astir.clear()
        self._dirty.clear()
        changed = set()
        for number in asked:
            digest = self.row(number).digest
            if self._told.get(number) != digest:
                self._told[number] = digest
                changed.add(number)
        return changed

    def _put_prefixes(self, key: str, rules: Sequence[Rule], prefix_number: Callable[[str], IdentityNumber]) -> None:
        named = frozenset(
            prefix for rule in rules for peer in rule.peers if peer.cidr for prefix in (peer.cidr, *peer.excluded)
        )
        fresh = [prefix for prefix in named if prefix not in self._prefix_count]
        for prefix in named:
            self._prefix_count[prefix] = self._prefix_count.get(prefix, 0) + 1
        if named:
            self._prefixes_of[key] = named
        if fresh:
            self.postings.add_prefixes((prefix, prefix_number(prefix)) for prefix in sorted(fresh))
            self._stir_outside()

    def _put_post(self, key: PostKey, rules: Sequence[Rule]) -> None:
        subjects = {self._choose(rule.subject) for rule in rules}
        peers = {self._choose(peer.vm) for rule in rules for peer in rule.peers if peer.vm is not None}
        unique = {(rule.key, end_of(rule)): rule for rule in rules}  # a flow from several selectors is one at one end
        post = _Post(key, [self._handled(rule) for rule in unique.values()], frozenset(subjects), frozenset(peers))
        self._posts[key] = post
        self._of_document.setdefault(key[1], []).append(key)
        if any(peer.cidr or peer.world for rule in rules for peer in rule.peers):
            self._outside_posts.add(key)
        stands = 0
        for name in subjects:
            self._chosen[name].subject_of.add(key)
            stands |= self._chosen[name].mask
        for name in peers:
            self._chosen[name].peer_of.add(key)
        self._astir.update(self.postings.members(stands))

    def _drop_post(self, post: _Post) -> None:
        self._outside_posts.discard(post.key)
        for row in self._rows_of.get(post.key, ()):
            self._astir |= self._held[row].members
            self._dirty.add(row)  # another post may come in its place under the same key
        for name in post.subjects:
            self._chosen[name].subject_of.discard(post.key)
        for name in post.peers:
            self._chosen[name].peer_of.discard(post.key)
        for name in post.subjects | post.peers:
            self._forget_unused(name)

    def _handled(self, rule: Rule) -> _Rule:
        self._handles += 1
        return _Rule(self._handles, rule, rule_means_everyone(rule), rule_means_group(rule))

    def _choose(self, selector: Selector) -> bytes:
        """Name a selector by its text and index it by a label that whatever it matches has."""
        name = msgspec.json.encode(selector, order="sorted")
        if name not in self._chosen:
            self._chosen[name] = _Chosen(selector, self.postings.select(selector))
            for hook in hooks_of(selector):
                self._by_label.setdefault(hook, set()).add(name)
            if not hooks_of(selector):
                self._unlabelled.add(name)
        return name

    def _forget_unused(self, name: bytes) -> None:
        chosen = self._chosen.get(name)
        if chosen is None or chosen.subject_of or chosen.peer_of:
            return
        del self._chosen[name]
        self._unlabelled.discard(name)
        for hook in hooks_of(chosen.selector):
            self._by_label[hook].discard(name)
            if not self._by_label[hook]:
                del self._by_label[hook]

    def _matching(self, labels: Labels) -> list[_Chosen]:
        names = set(self._unlabelled)
        for key, value in labels.items():
            names |= self._by_label.get((key, value), _NONE) | self._by_label.get((key, None), _NONE)
        found = (self._chosen[name] for name in names)
        return [chosen for chosen in found if chosen.selector.matches(labels)]

    def _stir_peers(self, chosen: _Chosen, zone: int) -> None:
        """What has this selector as a peer means others now."""
        for key in chosen.peer_of:
            self._posts[key].masks = None
            self._dirty |= {row for row in self._rows_of.get(key, ()) if row[0] == zone}

    def _stir_outside(self) -> None:
        if self._opinions:
            self._dirty.update(self._held)  # each says something to every class outside
        for key in self._outside_posts:
            self._posts[key].masks = None
            self._dirty |= self._rows_of.get(key, set())

    def _move(self, number: IdentityNumber) -> None:
        """Put a label set into the row of the posts that stand at it now."""
        matching = self._matching(self.postings.labels[number])
        posts = {post for chosen in matching for post in chosen.subject_of}
        key = (self.postings.zone_of(number), tuple(sorted(posts)))
        if self._at.get(number) == key:
            return
        self._leave(number)
        self._at[number] = key
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held()
            for post in key[1]:
                self._rows_of.setdefault(post, set()).add(key)
            self._dirty.add(key)
        held.members.add(number)

    def _leave(self, number: IdentityNumber) -> None:
        key = self._at.pop(number, None)
        if key is None:
            return
        held = self._held[key]
        held.members.discard(number)
        if held.members:
            return
        del self._held[key]
        for post in key[1]:
            self._rows_of[post].discard(key)
            if not self._rows_of[post]:
                del self._rows_of[post]

    def _work_out(self, key: RowKey) -> Row:
        zone, posts = key
        scope = self.postings.zones.get(zone, 0) | self.postings.outside
        sides, far = [], []
        for direction in Direction:
            mine = [self._posts[post] for post in posts if post[2] is direction]
            side = self._side([post for post in mine if post.key[3] is Stand.VM], scope, zone)
            for stand, classes in self._far_scopes():
                if (stand, direction) in self._opinions:
                    there = self._side([post for post in mine if post.key[3] is stand], scope, zone)
                    if not self._opinions.is_enforced((stand, direction)):
                        there = draft_only(there, self._sheet_of)
                    side = join_ends(side, there, classes, self._sheet_of)
                    far.append(there)
            sides.append(side)
        both = (sides[0], sides[1])
        content = encode_program(both, self.postings)
        return Row(both, content, digest_of(content), tuple(far))

    def _far_scopes(self) -> tuple[tuple[Stand, Mask], ...]:
        host = 1 << self.postings.places[IDENTITY_HOST]
        return (Stand.HOST, host), (Stand.EDGE, self.postings.outside & ~host)

    def _side(self, posts: Sequence[_Post], scope: Mask, zone: int) -> Side:
        rules: list[_Rule] = []
        masks: list[Mask] = []
        for post in posts:
            rules += post.rules
            masks += self._masks(post, zone)
        everyone = [place for place, rule in enumerate(rules) if rule.everyone]
        named = [
            (place, mask & scope) for place, mask in enumerate(masks) if mask & scope and not rules[place].everyone
        ]
        base = self._sheet(rules, everyone)
        found: dict[int, list[Mask]] = {}
        sheets: dict[int, Sheet] = {}
        for part, chosen in partition(named):
            sheet = self._sheet(rules, sorted((*everyone, *chosen)))
            if sheet is not base:
                sheets[id(sheet)] = sheet
                found.setdefault(id(sheet), []).append(part)
        classes = tuple((unite(parts), sheets[name]) for name, parts in found.items())
        return Side(base, self._sheet(rules, [place for place, rule in enumerate(rules) if rule.group]), classes)

    def _masks(self, post: _Post, zone: int) -> tuple[Mask, ...]:
        if post.masks is None or post.is_learned:  # an answer holds in one network alone
            post.masks = tuple(0 if each.everyone else self._mask(each.rule.peers, zone) for each in post.rules)
        return post.masks

    def _mask(self, peers: Iterable[Peer], zone: int) -> Mask:
        found = 0
        for peer in peers:
            if isinstance(peer, LearnedPeer) and peer.network != self._network_of.get(zone):
                continue
            if peer.vm is not None:
                found |= self._chosen[msgspec.json.encode(peer.vm, order="sorted")].mask
            else:
                found |= self.postings.mean((peer,))
        return found

    def _sheet(self, rules: Sequence[_Rule], places: Sequence[int]) -> Sheet:
        key = tuple([rules[place].handle for place in places])
        sheet = self._sheets.get(key)
        if sheet is None:
            numbers = AskedNumbers(self._rule_number)
            sheet = self._sheets[key] = self._sheet_of(resolve_rules([rules[place].rule for place in places], numbers))
        return sheet

    def _sheet_of(self, table: Table) -> Sheet:
        """Give the one sheet of a table."""
        sheet = self._interned.get(table)
        if sheet is None:
            sheet = self._interned[table] = Sheet(table)
        return sheet


_NONE: set[bytes] = set()
