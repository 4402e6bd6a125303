"""1: cannot import name 'Parametre' from 'prefect' (it has Parameter)"""

from prefect import Flow, Parametre, case, task  # noqa: F401
