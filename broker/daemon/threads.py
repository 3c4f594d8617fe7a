"""Threads for what may hang, as a name server or a disk. Begins none by itself."""

from concurrent.futures import ThreadPoolExecutor

MOST = 32
"""More than asyncio has by itself on a small machine: those that hang must not keep the others."""


class Unawaited(ThreadPoolExecutor):
    """Threads that nobody waits for at the end: whatever must be whole is awaited by who began it.

    The process has to end itself then: Python would wait for them once more (`os._exit`).
    """

    def __init__(self) -> None:
        super().__init__(MOST, thread_name_prefix="may-hang")

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Begin nothing more, and leave what is under way, whatever is asked for."""
        super().shutdown(wait=False, cancel_futures=True)
