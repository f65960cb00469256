"""The least that Django asks for."""

import tempfile
from pathlib import Path

SECRET_KEY = "of a test"
INSTALLED_APPS = ["shop"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_FILE = str(Path(tempfile.gettempdir()) / "shop.sqlite")
# A file, since Django's own choice for tests is memory, beneath which no operation can fail.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _FILE, "TEST": {"NAME": _FILE}}}
