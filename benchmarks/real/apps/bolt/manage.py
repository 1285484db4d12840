"""Starts Django-Bolt's server: python -m bolt.manage runbolt --port 8000."""

import os

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "bolt.settings"
    execute_from_command_line()
