"""Run programs of the benchmark as another user."""

import os


def become(uid: int) -> int:
    """Become the user and group of that number for good, where we may; return who we are then.

    Called after the imports: that user may not be able to read where we are installed.
    """
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        except OSError:
            pass  # a root that has only itself: who we are says so
    return os.geteuid()
