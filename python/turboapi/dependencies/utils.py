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
from turboapi.dependencies._signature import get_stream_item_type as get_stream_item_type
from turboapi.dependencies._signature import get_typed_annotation as get_typed_annotation
from turboapi.dependencies._signature import (
    get_typed_return_annotation as get_typed_return_annotation,
)
from turboapi.dependencies._signature import get_typed_signature as get_typed_signature
from turboapi.dependencies._solve import SolvedDependency as SolvedDependency
from turboapi.dependencies._solve import _solve_generator as _solve_generator
from turboapi.dependencies._solve import solve_dependencies as solve_dependencies
from turboapi.dependencies.models import Dependant as Dependant
