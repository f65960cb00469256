"""APScheduler's job store with two schedulers on one file, which its documentation forbids: what comes of it."""

from tornpage.scenarios.targets.libraries.ap_scheduler import APScheduler


class TwoSchedulers(APScheduler):
    """As it ships with tornpage, and held to what it says that it isn't for."""

    title = "APScheduler: two schedulers on one SQLAlchemyJobStore"
    callers = ("processes",)
