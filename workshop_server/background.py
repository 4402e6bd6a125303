"""The services in the background: the scheduler, the zombie killer, Lazarus and the sender of web hooks."""

import logging
import threading
import time
from collections.abc import Callable

from workshop_server.context import ServerContext
from workshop_server.errors import one_line
from workshop_server.hooks.delivery import send_hooks
from workshop_server.runs.dead_processes import reap_zombies, revive_lost_runs
from workshop_server.runs.scheduler import schedule_runs

logger = logging.getLogger(__name__)

ASLEEP = 30  # seconds: if a wait takes this much longer than asked for, the machine slept


class Services:
    """The running services, each in a thread of its own, until `stop`."""

    def __init__(self, server: ServerContext) -> None:
        settings = server.settings
        self._server = server
        self._stopped = threading.Event()
        self._threads = [self._start(schedule_runs, settings.scheduler_interval),
                         self._start(reap_zombies, settings.zombie_interval, settings.heartbeat_timeout),
                         self._start(revive_lost_runs, settings.lazarus_interval, settings.heartbeat_timeout),
                         self._start(send_hooks, settings.hook_interval)]

    def stop(self) -> None:
        """End the loops; passes that are running are completed first."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _start(self, *how: object) -> threading.Thread:
        thread = threading.Thread(target=self._loop, args=how, name=how[0].__name__, daemon=True)
        thread.start()
        return thread

    def _loop(self, work: Callable[[ServerContext], int], interval: float, grace: float = 0) -> None:
        """Call `work` at intervals. With a `grace`, wait that long first, so that live runs can send a heartbeat."""
        first = max(interval, grace) if grace else 0
        wait, began = first, time.time()
        while not self._stopped.wait(wait):
            slept = time.time() - began > wait + ASLEEP
            wait = first if grace and slept else interval
            if wait == interval:
                try:
                    work(self._server)
                except Exception as error:  # an error in one pass must not end the service
                    logger.error("%s: %s; it goes on in %g s", work.__name__, one_line(error), interval)
            began = time.time()


def start(server: ServerContext) -> Services:
    """Start all services."""
    return Services(server)
