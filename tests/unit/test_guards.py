"""A fast path looks at once when what it stands for is replaced, in whatever way a name changes."""

import types

import pytest

from turboapi import _core


class Probe(_core.Innermost):
    """Asks for its table of routes only while its guards hold."""

    def __init__(self, *guards):
        self._prepare(None, ({}, {}), guards)

    def _renew(self):
        self.asked = True
        self._use(None)

    def _serve(self, scope, receive, send):
        return None

    def holds(self):
        self.asked = False
        self._drop()
        assert self({"type": "http"}, None, None) is None
        return self.asked


class Owner:
    pass


def spaces():
    module = types.ModuleType("probed")
    owner = Owner()
    crowded = Owner()
    for i in range(100):  # more than objects share with their dicts
        setattr(crowded, f"a{i}", i)
    module.name = owner.name = crowded.name = ours
    return [
        ({"name": ours}, dict.__setitem__),
        (vars(module), lambda space, name, value: setattr(module, name, value)),
        (vars(module), lambda space, name, value: exec(f"global {name}\n{name} = _v", space)),
        (vars(owner), lambda space, name, value: setattr(owner, name, value)),
        (vars(owner), dict.__setitem__),
        (vars(crowded), lambda space, name, value: setattr(crowded, name, value)),
    ]


def ours():
    pass


def other():
    pass


@pytest.mark.parametrize("which", range(6))
def test_a_replaced_name_is_seen_at_once(which):
    space, assign = spaces()[which]
    space["_v"] = other
    probe = Probe((space, "name", ours))
    for _ in range(200):  # also when the interpreter has specialised the assignment
        assert probe.holds()
        assign(space, "name", other)
        assert not probe.holds()
        assert not probe.holds()
        space["name"] = ours
    assert probe.holds()


@pytest.mark.parametrize(
    "change",
    [
        lambda space: space.update(name=other),
        lambda space: space.__ior__({"name": other}),
        lambda space: space.pop("name"),
        lambda space: space.__delitem__("name"),
        lambda space: space.popitem(),
        lambda space: space.clear(),
    ],
)
def test_each_way_to_change_a_dict(change):
    space = {"name": ours}
    probe, unrelated = Probe((space, "name", ours)), Probe()
    assert probe.holds()
    change(space)
    assert not probe.holds()
    assert unrelated.holds()
    space["name"] = ours
    assert probe.holds()


def test_guards_of_one_namespace_are_freed_apart():
    space = {"name": ours, "more": ours}
    first, second = (
        Probe((space, "name", ours)),
        Probe((space, "name", ours), (space, "more", ours)),
    )
    assert first.holds()
    assert second.holds()
    del first
    space["unrelated"] = 1
    assert second.holds()
    space["more"] = other
    assert not second.holds()


def test_many_namespaces():
    owned = [{"name": ours} for _ in range(300)]
    probe = Probe(*((space, "name", ours) for space in owned))
    assert probe.holds()
    for space in owned[::50]:
        space["name"] = other
        assert not probe.holds()
        space["name"] = ours
        assert probe.holds()
