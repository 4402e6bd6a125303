"""How much memory is free, so that a picture that will not fit is refused before the work."""

import contextlib
import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # limits of a container or a batch job


def free() -> int | None:
    """Bytes that this process may still take; None where the system does not tell."""
    known = [found for found in (_of_machine(), _of_group(), _of_process()) if found is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    with contextlib.suppress(OSError, TypeError):
        return 1024 * int(re.search(r"MemAvailable:\s+(\d+)", MEMINFO.read_text())[1])
    return None


def _of_group() -> int | None:
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
        limit = int((CGROUP / "memory.max").read_text())
        taken = int((CGROUP / "memory.current").read_text())
        # The file cache counts as taken, but the system frees it when a process needs memory.
        files = re.findall(r"^(?:in)?active_file (\d+)", (CGROUP / "memory.stat").read_text(), re.MULTILINE)
        return limit - taken + sum(map(int, files))
    return None


def _of_process() -> int | None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return None
