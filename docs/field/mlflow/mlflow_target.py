"""MLflow: experiments and runs in its `SqlAlchemyStore`, the tracking store behind `sqlite:///mlflow.db`."""

import logging

from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tornpage import Action, Configuration, SimpleTarget

logging.disable(logging.CRITICAL)


class Tracking:
    """The store; an experiment and its one run are named by the experiment's name."""

    def __init__(self, path):
        self.url = f"sqlite:///{path}"
        self.store = SqlAlchemyStore(self.url, str(path.parent / "artifacts"))

    def start(self, name):
        experiment = self.store.create_experiment(name)
        self.store.create_run(experiment, user_id="ada", start_time=1, tags=[], run_name=name)

    def metric(self, name, value):
        self.store.log_metric(self._run(name).info.run_id, Metric("loss", value, 1, 1))

    def param(self, name, value):
        self.store.log_param(self._run(name).info.run_id, Param("rate", value))

    def batch(self, name, metrics, tags):
        run = self._run(name).info.run_id
        entries = [Metric(key, value, 1, 1) for key, value in metrics.items()]
        self.store.log_batch(run, entries, [], [RunTag(*one) for one in tags.items()])

    def end(self, name):
        run = self._run(name).info
        self.store.update_run_info(run.run_id, RunStatus.FINISHED, 2, name)

    def _run(self, name):
        experiment = self.store.get_experiment_by_name(name)
        (run,) = self.store.search_runs([experiment.experiment_id], "", ViewType.ALL)
        return run

    def all(self):
        seen = {}
        for experiment in self.store.search_experiments(ViewType.ALL):
            if experiment.name != "Default":
                for run in self.store.search_runs([experiment.experiment_id], "", ViewType.ALL):
                    tags = {key: tag for key, tag in run.data.tags.items() if not key.startswith("mlflow.")}
                    seen[run.info.run_name] = [
                        experiment.lifecycle_stage,
                        run.info.status,
                        run.data.metrics,
                        run.data.params,
                        tags,
                    ]
        return seen

    def close(self):
        # It keeps an engine for each URL as long as the process lives.
        if engine := SqlAlchemyStore._engine_map.pop(self.url, None):
            engine.dispose()


class Store(SimpleTarget):
    title = "mlflow: SqlAlchemyStore"
    configurations = (Configuration("delete", "FULL"),)
    file = "mlflow.db"
    calls = (
        Action("start", {"name": "a"}),
        Action("param", {"name": "a", "value": "0.1"}),
        Action("metric", {"name": "a", "value": 0.5}),
        Action("batch", {"name": "a", "metrics": {"loss": 0.25, "score": 2.0}, "tags": {"note": "x" * 3_000}}),
        Action("end", {"name": "a"}),
    )
    beat = Action("start", {"name": "heartbeat"})
    # Each of its own calls is a transaction: here two are made.
    many_commits = ("start", "batch")

    def make(self, path, configuration, environment):
        return Tracking(path)

    def view(self, store):
        return store.all()

    def rows(self, connection):
        seen = {}
        rows = connection.execute("SELECT experiment_id, lifecycle_stage FROM experiments WHERE name != 'Default'")
        for experiment, stage in rows.fetchall():
            runs = connection.execute("SELECT run_uuid, name, status FROM runs WHERE experiment_id = ?", (experiment,))
            for run, title, status in runs.fetchall():
                found = [
                    dict(connection.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", (run,)).fetchall())
                    for table in ("latest_metrics", "params", "tags")
                ]
                found[2] = {key: tag for key, tag in found[2].items() if not key.startswith("mlflow.")}
                seen[title] = [stage, status, *found]
        return seen
