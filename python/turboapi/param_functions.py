"""The declarations of parameters, as functions: typed ``Any`` so that they fit as defaults.

The common keywords are described at `turboapi.params.FieldOptions`; also see
https://fastapi.tiangolo.com/reference/parameters/.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic_core import PydanticUndefined as Undefined
from typing_extensions import Unpack

from turboapi import params
from turboapi.params import FieldOptions, with_options


@with_options()
def Path(default: Any = ..., **options: Unpack[FieldOptions]) -> Any:  # noqa: N802
    """Declare a part of the path.  It is always required: AssertionError for a default.

    See https://fastapi.tiangolo.com/tutorial/path-params-numeric-validations/.
    """
    return params.Path(default, **options)


@with_options()
def Query(default: Any = Undefined, **options: Unpack[FieldOptions]) -> Any:  # noqa: N802
    """Declare a parameter of the query string.

    See https://fastapi.tiangolo.com/tutorial/query-params-str-validations/.
    """
    return params.Query(default, **options)


@with_options("serialization_alias")
def Header(  # noqa: N802
    default: Any = Undefined, *, convert_underscores: bool = True, **options: Unpack[FieldOptions]
) -> Any:
    """Declare a header.  ``convert_underscores`` looks for ``x-token`` if the name is ``x_token``.

    See https://fastapi.tiangolo.com/tutorial/header-params/.
    """
    return params.Header(default, convert_underscores=convert_underscores, **options)


@with_options()
def Cookie(default: Any = Undefined, **options: Unpack[FieldOptions]) -> Any:  # noqa: N802
    """Declare a cookie.

    See https://fastapi.tiangolo.com/tutorial/cookie-params/.
    """
    return params.Cookie(default, **options)


@with_options()
def Body(  # noqa: N802
    default: Any = Undefined,
    *,
    embed: bool | None = None,
    media_type: str = "application/json",
    **options: Unpack[FieldOptions],
) -> Any:
    """Declare the JSON body; with ``embed``, or when there are several, the key of that name in it.

    See https://fastapi.tiangolo.com/tutorial/body-multiple-params/.
    """
    return params.Body(default, embed=embed, media_type=media_type, **options)


@with_options()
def Form(  # noqa: N802
    default: Any = Undefined,
    *,
    media_type: str = "application/x-www-form-urlencoded",
    **options: Unpack[FieldOptions],
) -> Any:
    """Declare a field of a form, or with a model as annotation all of them.

    See https://fastapi.tiangolo.com/tutorial/request-forms/.
    """
    return params.Form(default, media_type=media_type, **options)


@with_options()
def File(  # noqa: N802
    default: Any = Undefined,
    *,
    media_type: str = "multipart/form-data",
    **options: Unpack[FieldOptions],
) -> Any:
    """Declare an uploaded file, as ``bytes`` or `UploadFile`.

    See https://fastapi.tiangolo.com/tutorial/request-files/.
    """
    return params.File(default, media_type=media_type, **options)


def Depends(  # noqa: N802
    dependency: Callable[..., Any] | None = None,
    *,
    use_cache: bool = True,
    scope: Literal["function", "request"] | None = None,
    max_concurrency: int | None = None,
) -> Any:
    """Declare a value that ``dependency`` makes; by default the annotation is what is called.

    ``use_cache``: one call a request, however often it is used.  ``scope``: when the part behind
    ``yield`` runs, after the handler ("function") or after the response ("request").
    ``max_concurrency``: how many calls may run at once; ValueError below 1.

    See https://fastapi.tiangolo.com/tutorial/dependencies/.
    """
    return params.Depends(
        dependency=dependency, use_cache=use_cache, scope=scope, max_concurrency=max_concurrency
    )


def Security(  # noqa: N802
    dependency: Callable[..., Any] | None = None,
    *,
    scopes: Sequence[str] | None = None,
    use_cache: bool = True,
) -> Any:
    """Declare a dependency that asks for OAuth2 ``scopes``.

    See https://fastapi.tiangolo.com/advanced/security/oauth2-scopes/.
    """
    return params.Security(dependency=dependency, scopes=scopes, use_cache=use_cache)
