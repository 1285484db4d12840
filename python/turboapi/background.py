"""Background tasks.  See https://fastapi.tiangolo.com/tutorial/background-tasks/."""

from collections.abc import Callable
from typing import Any

from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from typing_extensions import ParamSpec

from turboapi.telemetry._api import _operation

P = ParamSpec("P")


class BackgroundTasks(StarletteBackgroundTasks):
    """Calls to make once the response was sent, in the order they were added."""

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a call; a plain function runs in the thread pool, a coroutine function is awaited."""
        super().add_task(func, *args, **kwargs)

    async def __call__(self) -> None:
        """Make the calls, each with a span of its own where the request has one."""
        for task in self.tasks:
            with _operation(name="background_task", function=task.func):
                await task()
