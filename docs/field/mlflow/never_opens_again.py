"""A first start that meets a full disk, or is killed, leaves a database that can't be opened any more.

Expected: the next start makes the tables that are missing, and works.
Fix: create the tables and the row of alembic_version in one transaction, or go on from the tables that are there.
"""

import logging
import resource
import signal
import tempfile
from pathlib import Path

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

logging.disable(logging.CRITICAL)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

with tempfile.TemporaryDirectory() as directory:
    url = f"sqlite:///{Path(directory, 'mlflow.db')}"
    for what, size in (("on a full disk", 200_000), ("when there is room", resource.RLIM_INFINITY)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            store = SqlAlchemyStore(url, directory)
            print(f"opened {what}:", [experiment.name for experiment in store.search_experiments()])
        except Exception as error:
            print(f"opened {what}:", type(error).__name__, str(error).partition("\n")[0])
        if engine := SqlAlchemyStore._engine_map.pop(url, None):
            engine.dispose()
