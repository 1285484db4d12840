"""Background tasks.  See https://fastapi.tiangolo.com/tutorial/background-tasks/."""

from collections.abc import Callable
from inspect import CO_COROUTINE
from types import FunctionType
from typing import Any

from starlette import background as starlette_background
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from typing_extensions import ParamSpec

from turboapi._untouched import is_from
from turboapi.telemetry._api import _operation

P = ParamSpec("P")

_TASK, _INIT = starlette_background.BackgroundTask, starlette_background.BackgroundTask.__init__
_ADD_TASK = StarletteBackgroundTasks.add_task
_PRISTINE = is_from(_INIT, starlette_background) and is_from(_ADD_TASK, starlette_background)


def _is_untouched() -> bool:
    return (
        _PRISTINE
        and starlette_background.BackgroundTask is _TASK
        and _TASK.__init__ is _INIT
        and StarletteBackgroundTasks.add_task is _ADD_TASK
    )


class BackgroundTasks(StarletteBackgroundTasks):
    """Calls to make once the response was sent, in the order they were added."""

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a call; a plain function runs in the thread pool, a coroutine function is awaited."""
        if type(func) is not FunctionType or func.__dict__ or not _is_untouched():
            super().add_task(func, *args, **kwargs)
            return
        # Its flags tell what inspect would find out.
        task: Any = _TASK.__new__(_TASK)
        task.func, task.args, task.kwargs = func, args, kwargs
        task.is_async = func.__code__.co_flags & CO_COROUTINE != 0
        self.tasks.append(task)

    async def __call__(self) -> None:
        """Make the calls, each with a span of its own where the request has one."""
        for task in self.tasks:
            with _operation(name="background_task", function=task.func):
                await task()
