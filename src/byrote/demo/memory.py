"""How much memory this process and its workers take together."""

import threading
from types import TracebackType

import psutil


class Watch:
    """Looks every half second at the summed PSS of this process and all below it; `peak` is the most, in bytes.

    PSS counts a page that several processes share once. Where the system does not tell it, RSS stands in.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._over.wait(0.5):
            self.peak = max(self.peak, sum(_bytes(process) for process in [me, *me.children(recursive=True)]))


def _bytes(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(getattr(info, "pss", info.rss))
