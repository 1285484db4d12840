"""OpenTelemetry: `FastAPI(telemetry={...})`. https://fastapi.tiangolo.com/advanced/opentelemetry/"""

from turboapi.telemetry._api import TelemetryConfig as TelemetryConfig
from turboapi.telemetry._api import TelemetryData as TelemetryData
from turboapi.telemetry._api import get_telemetry_data as get_telemetry_data
