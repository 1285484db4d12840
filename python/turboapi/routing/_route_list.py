"""The list of a router's routes, which tells the router when somebody changes it."""

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

from starlette.routing import BaseRoute

if TYPE_CHECKING:
    from turboapi.routing._dispatch import DispatchingRouter


class RouteList(list[BaseRoute]):
    """The routes of a router, which learns of every change."""

    def __init__(self, routes: Iterable[BaseRoute], router: "DispatchingRouter") -> None:
        super().__init__(routes)
        # A weak reference: the router owns the list.
        self._router = weakref.ref(router)

    def _changed(self) -> None:
        if (router := self._router()) is not None:
            router._mark_routes_changed()

    def __reduce__(self) -> Any:
        return list, (list(self),)

    def append(self, route: BaseRoute, /) -> None:
        super().append(route)
        self._changed()

    def extend(self, routes: Iterable[BaseRoute], /) -> None:
        super().extend(routes)
        self._changed()

    def insert(self, index: SupportsIndex, route: BaseRoute, /) -> None:
        super().insert(index, route)
        self._changed()

    def pop(self, index: SupportsIndex = -1, /) -> BaseRoute:
        route = super().pop(index)
        self._changed()
        return route

    def remove(self, route: BaseRoute, /) -> None:
        super().remove(route)
        self._changed()

    def clear(self) -> None:
        super().clear()
        self._changed()

    def reverse(self) -> None:
        super().reverse()
        self._changed()

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        super().sort(key=key, reverse=reverse)
        self._changed()

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        self._changed()

    def __delitem__(self, index: Any) -> None:
        super().__delitem__(index)
        self._changed()

    def __iadd__(self, routes: Iterable[BaseRoute]) -> Any:  # type: ignore[misc, override]
        self.extend(routes)
        return self

    def __imul__(self, count: SupportsIndex) -> Any:
        self[:] = list(self) * count
        return self
