"""Django's settings: none of Django's own middleware, and no database of its own."""

import work

SECRET_KEY = work.SECRET
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django_bolt"]
ROOT_URLCONF = "bolt.urls"
BOLT_API = ["bolt.api:api", "bolt.api:guarded"]
USE_TZ = True
DATABASES: dict[str, dict[str, str]] = {}
LOGGING_CONFIG = None
