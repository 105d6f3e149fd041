"""Everybody asks everybody for everything, with eyes at every target. Believes nothing that Buckler says."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from buckler.lab.story.probing import PATIENCE_MS, REPEATS, REPORTED, SERVICES, Service, scan, watch


class Asking(NamedTuple):
    """One party asks a service at an address; ``to`` is whose it is in the asking one's network, or whose elsewhere."""

    origin: str
    to: str
    service: Service

    def __str__(self):
        return f"{self.origin} → {self.to} {self.service.protocol}/{self.service.port} (IPv{self.service.version})"


class Pairs:
    """All that can be asked in a tenants' lab, and the eyes. Made once; asks as often as one likes."""

    def __init__(self, lab):
        self.lab = lab
        self.targets = {one.name: self._targets(one) for one in lab.parties}
        self.everything = frozenset(each for known in self.targets.values() for each in known.values())
        self.neighbours = frozenset(each for each in self.everything if self._share(each))
        self._eyes = {one.name: self._open_eyes(one) for one in lab.parties}

    def _targets(self, one):
        """What it can ask, by the probe's word: its network's, and addresses that only others' networks know."""
        mine = {other.ipv4: other for other in self.lab.parties if other.network == one.network}
        others = {other.ipv4: other for other in self.lab.parties if other.ipv4 not in mine}
        return {
            _word(service, other): Asking(one.name, other.name, service)
            for other in (*mine.values(), *others.values())
            if other != one and not (one.namespace and other.namespace)
            for service in SERVICES
        }

    def _share(self, asking):
        return self.lab.party(asking.origin).network == self.lab.party(asking.to).network

    def _open_eyes(self, one):
        """Look for whatever its neighbours, and whoever has an address that none of them has, could ask it."""
        words = {
            _word(asking.service, self.lab.party(asking.origin)): asking
            for asking in sorted(self.everything, key=lambda each: each not in self.neighbours)[::-1]
            if asking.to == one.name
        }
        if one.namespace:
            return words, self.lab.centre.start_at(one.namespace, "watch", "seen", "0", *words)
        return words, watch(self.lab.centre, one.name, "seen", list(words))

    def ask(self, hoped=frozenset()):
        """Return (answered, arrived). What was ``hoped`` for and is missing is asked again, also what eyes missed of it."""
        before = self._seen()
        answered = self._ask(self.everything)
        for _ in range(REPEATS):
            if missing := hoped - answered:
                answered |= self._ask(missing)
        time.sleep(REPORTED)
        arrived = self._arrived(before)
        for _ in range(10 * REPEATS):
            if not (unseen := answered - arrived):
                break
            self._ask(unseen & hoped)
            time.sleep(REPORTED)
            arrived = self._arrived(before)
        return answered, arrived

    def _ask(self, wanted):
        def ask_of(one):
            words = [word for word, asking in self.targets[one.name].items() if asking in wanted]
            answers = self._scan(one, words) if words else {}
            return {self.targets[one.name][word] for word, answer in answers.items() if answer == "open"}

        return frozenset().union(*self._of_all(ask_of))

    def _scan(self, one, words):
        if not one.namespace:
            return scan(self.lab.centre, one.name, words)
        done = self.lab.centre.attempt_at(one.namespace, "scan", str(PATIENCE_MS), *words)
        assert done.returncode == 0, done.stderr
        return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())

    def _seen(self):
        def counts_of(one):
            words, job = self._eyes[one.name]
            counts = job.read()
            return {asking: int(counts.get(word, 0)) for word, asking in words.items()}

        return {asking: count for counts in self._of_all(counts_of) for asking, count in counts.items()}

    def _arrived(self, before):
        return frozenset(asking for asking, count in self._seen().items() if count > before[asking])

    def _of_all(self, of_one):
        with ThreadPoolExecutor(len(self.lab.parties)) as pool:
            return list(pool.map(of_one, self.lab.parties))


def differences(found, expected):
    """At most thirty, in words."""
    closed = [f"closed, should be open: {each}" for each in expected - found]
    return tuple(sorted(closed + [f"open, should be closed: {each}" for each in found - expected]))[:30]


def _word(service, party):
    return f"{service.protocol}/{party.address(service.version)}" + (f"/{service.port}" if service.port else "")
