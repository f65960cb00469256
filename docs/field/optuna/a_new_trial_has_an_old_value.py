"""A worker that finishes a trial while its study is deleted leaves its value behind, and the next study's trial has it.

Expected: a new trial has no value; where a study was deleted meanwhile, finishing its trial fails.
Fix: `PRAGMA foreign_keys = ON` on each connection to SQLite, so that the INSERT fails; or AUTOINCREMENT for trial_id.
"""

import tempfile
from pathlib import Path

import optuna
import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.CRITICAL)

with tempfile.TemporaryDirectory() as directory:
    url = f"sqlite:///{Path(directory, 'optuna.db')}"
    worker, other = optuna.storages.RDBStorage(url), optuna.storages.RDBStorage(url)
    study = worker.create_new_study([StudyDirection.MINIMIZE], "old")
    trial = worker.create_new_trial(study)

    done = []

    # Another process deletes the study; it has read what there is to delete when the worker writes its value.
    @sqlalchemy.event.listens_for(other.engine, "before_cursor_execute")
    def finish(connection, cursor, statement, *_):
        if statement.startswith("DELETE") and not done:
            done.append(statement)
            print("the worker finishes its trial:", worker.set_trial_state_values(trial, TrialState.COMPLETE, [2.5]))

    other.delete_study(study)
    print("the study is deleted; studies:", other.get_all_studies())
    study = other.create_new_study([StudyDirection.MINIMIZE], "new")
    trial = other.create_new_trial(study)
    print("a new trial of a new study has:", other.get_trial(trial).state.name, other.get_trial(trial).values)
