"""The functions of this package under the names of FastAPI's module."""

from turboapi.dependencies._analysis import ParamDetails as ParamDetails
from turboapi.dependencies._analysis import _get_flat_body_params as _get_flat_body_params
from turboapi.dependencies._analysis import (
    _get_flat_fields_from_params as _get_flat_fields_from_params,
)
from turboapi.dependencies._analysis import (
    add_non_field_param_to_dependency as add_non_field_param_to_dependency,
)
from turboapi.dependencies._analysis import add_param_to_fields as add_param_to_fields
from turboapi.dependencies._analysis import analyze_param as analyze_param
from turboapi.dependencies._analysis import get_dependant as get_dependant
from turboapi.dependencies._analysis import get_flat_params as get_flat_params
from turboapi.dependencies._analysis import (
    get_parameterless_sub_dependant as get_parameterless_sub_dependant,
)
from turboapi.dependencies._body import _get_body_field as _get_body_field
from turboapi.dependencies._body import _should_embed_body_fields as _should_embed_body_fields
from turboapi.dependencies._body import request_body_to_args as request_body_to_args
from turboapi.dependencies._extract import _get_model_type as _get_model_type
from turboapi.dependencies._extract import _get_multidict_value as _get_multidict_value
from turboapi.dependencies._extract import _get_param_aliases as _get_param_aliases
from turboapi.dependencies._extract import _get_param_model as _get_param_model
from turboapi.dependencies._extract import _is_json_field as _is_json_field
from turboapi.dependencies._extract import (
    _validate_value_with_model_field as _validate_value_with_model_field,
)
from turboapi.dependencies._extract import get_validation_alias as get_validation_alias
from turboapi.dependencies._extract import request_params_to_args as request_params_to_args
from turboapi.dependencies._forms import _get_form_model as _get_form_model
from turboapi.dependencies._forms import _get_form_models as _get_form_models
from turboapi.dependencies._forms import _get_form_union_models as _get_form_union_models
from turboapi.dependencies._forms import _read_file_bytes as _read_file_bytes
from turboapi.dependencies._forms import (
    ensure_multipart_is_installed as ensure_multipart_is_installed,
)
from turboapi.dependencies._forms import (
    multipart_incorrect_install_error as multipart_incorrect_install_error,
)
from turboapi.dependencies._forms import (
    multipart_not_installed_error as multipart_not_installed_error,
)
from turboapi.dependencies._generators import _solve_generator as _solve_generator
from turboapi.dependencies._signature import get_stream_item_type as get_stream_item_type
from turboapi.dependencies._signature import get_typed_annotation as get_typed_annotation
from turboapi.dependencies._signature import (
    get_typed_return_annotation as get_typed_return_annotation,
)
from turboapi.dependencies._signature import get_typed_signature as get_typed_signature
from turboapi.dependencies._solve import SolvedDependency as SolvedDependency
from turboapi.dependencies._solve import solve_dependencies as solve_dependencies
from turboapi.dependencies.models import Dependant as Dependant

# isort: split
# Libraries also import these from here, where FastAPI only uses them.
from pydantic import BaseModel as BaseModel
from pydantic.fields import FieldInfo as FieldInfo
from starlette.concurrency import run_in_threadpool as run_in_threadpool
from starlette.datastructures import FormData as FormData
from starlette.datastructures import Headers as Headers
from starlette.datastructures import ImmutableMultiDict as ImmutableMultiDict
from starlette.datastructures import QueryParams as QueryParams
from starlette.datastructures import UploadFile as UploadFile
from starlette.requests import HTTPConnection as HTTPConnection
from starlette.requests import Request as Request
from starlette.responses import Response as Response
from starlette.websockets import WebSocket as WebSocket

from turboapi._compat import ModelField as ModelField
from turboapi._compat import RequiredParam as RequiredParam
from turboapi._compat import Undefined as Undefined
from turboapi._compat import copy_field_info as copy_field_info
from turboapi._compat import create_body_model as create_body_model
from turboapi._compat import evaluate_forwardref as evaluate_forwardref
from turboapi._compat import field_annotation_is_scalar as field_annotation_is_scalar
from turboapi._compat import (
    field_annotation_is_scalar_sequence as field_annotation_is_scalar_sequence,
)
from turboapi._compat import field_annotation_is_sequence as field_annotation_is_sequence
from turboapi._compat import get_cached_model_fields as get_cached_model_fields
from turboapi._compat import get_missing_field_error as get_missing_field_error
from turboapi._compat import (
    is_bytes_or_nonable_bytes_annotation as is_bytes_or_nonable_bytes_annotation,
)
from turboapi._compat import is_bytes_sequence_annotation as is_bytes_sequence_annotation
from turboapi._compat import is_scalar_field as is_scalar_field
from turboapi._compat import (
    is_uploadfile_or_nonable_uploadfile_annotation as is_uploadfile_or_nonable_uploadfile_annotation,  # noqa: E501
)
from turboapi._compat import is_uploadfile_sequence_annotation as is_uploadfile_sequence_annotation
from turboapi._compat import lenient_issubclass as lenient_issubclass
from turboapi._compat import serialize_sequence_value as serialize_sequence_value
from turboapi._compat import value_is_sequence as value_is_sequence
from turboapi.background import BackgroundTasks as BackgroundTasks
from turboapi.concurrency import contextmanager_in_threadpool as contextmanager_in_threadpool
from turboapi.dependencies.models import _get_cache_key as _get_cache_key
from turboapi.dependencies.models import _get_computed_scope as _get_computed_scope
from turboapi.dependencies.models import _get_oauth_scopes as _get_oauth_scopes
from turboapi.dependencies.models import _is_async_gen_callable as _is_async_gen_callable
from turboapi.dependencies.models import _is_coroutine_callable as _is_coroutine_callable
from turboapi.dependencies.models import _is_gen_callable as _is_gen_callable
from turboapi.exceptions import DependencyScopeError as DependencyScopeError
from turboapi.logger import logger as logger
from turboapi.security._scopes import SecurityScopes as SecurityScopes
from turboapi.utils import create_model_field as create_model_field
from turboapi.utils import get_path_param_names as get_path_param_names
