"""optuna: studies and trials in `RDBStorage`."""

import optuna
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tornpage import Action, Configuration, Refused, SimpleTarget

optuna.logging.set_verbosity(optuna.logging.CRITICAL)


class Studies:
    """The storage; a study is made by its name, a trial by its number."""

    def __init__(self, path):
        self.storage = optuna.storages.RDBStorage(f"sqlite:///{path}")

    def create_study(self, name):
        try:
            self.storage.create_new_study([StudyDirection.MINIMIZE], name)
        except optuna.exceptions.DuplicatedStudyError as error:
            raise Refused(str(error)) from error

    def create_trial(self, name):
        self.storage.create_new_trial(self.storage.get_study_id_from_name(name))

    def set_param(self, name, number, value):
        self.storage.set_trial_param(self._trial(name, number), "x", value, FloatDistribution(0, 10))

    def finish(self, name, number, value):
        self.storage.set_trial_state_values(self._trial(name, number), TrialState.COMPLETE, [value])

    def delete_study(self, name):
        try:
            self.storage.delete_study(self.storage.get_study_id_from_name(name))
        except KeyError as error:
            raise Refused(str(error)) from error

    def _trial(self, name, number):
        study = self.storage.get_study_id_from_name(name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)

    def items(self):
        seen = {}
        for study in self.storage.get_all_studies():
            seen[f"study/{study.study_name}"] = "there"
            for trial in self.storage.get_all_trials(study._study_id):
                values, params = trial.values, sorted(trial.params.items())
                seen[f"trial/{study.study_name}/{trial.number}"] = [
                    trial.state.name,
                    values,
                    [[*one] for one in params],
                ]
        return seen

    def close(self):
        self.storage.remove_session()
        self.storage.engine.dispose()


class Storage(SimpleTarget):
    title = "optuna: RDBStorage"
    configurations = (Configuration("delete", "FULL"),)
    file = "optuna.db"
    calls = (
        Action("create_study", {"name": "a"}),
        Action("create_trial", {"name": "a"}),
        Action("set_param", {"name": "a", "number": 0, "value": 1.5}),
        Action("finish", {"name": "a", "number": 0, "value": 2.5}),
        Action("delete_study", {"name": "a"}),
    )
    beat = Action("create_study", {"name": "heartbeat"})

    def make(self, path, configuration, environment):
        return Studies(path)

    def view(self, store):
        return store.items()

    def rows(self, connection):
        seen = {}
        for id, name in connection.execute("SELECT study_id, study_name FROM studies").fetchall():
            seen[f"study/{name}"] = "there"
            trials = connection.execute(
                "SELECT trial_id, number, state FROM trials WHERE study_id = ?", (id,)
            ).fetchall()
            for trial, number, state in trials:
                values = connection.execute("SELECT value FROM trial_values WHERE trial_id = ?", (trial,)).fetchall()
                params = connection.execute(
                    "SELECT param_name, param_value FROM trial_params WHERE trial_id = ?", (trial,)
                ).fetchall()
                found = [value for (value,) in values] or None
                seen[f"trial/{name}/{number}"] = [state, found, sorted([*one] for one in params)]
        return seen
