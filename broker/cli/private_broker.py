"""Run a program with a private broker, which lives as long as the program."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from broker.cli.commands.exec import environment_of, no_lease, not_started, takes_token_file
from broker.cli.environment import TOKEN_FILE, container_variables
from broker.cli.offline import configured, explained, one_off_flags, role_in, warn
from broker.cli.parser import Options
from broker.config import Config, load_roles
from broker.files import locations
from broker.files.private import write_private

if TYPE_CHECKING:
    from broker.daemon.lifecycle import Broker

PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
FROM_THE_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)


def run_with_it(options: Options) -> int:
    """Run ``options.words`` with a private broker; return its exit code as a shell does.

    Raises:
        NoRole: No role is configured.
        Misuse, Failure: Wrong configuration; or the broker cannot start.
    """
    config = configured(one_off_flags(options), load_roles)
    role = options.text("role")
    if role is not None:
        role = role_in(config, role)
    warn(config.warnings)
    with explained("exec"):
        return asyncio.run(served(config, role, options))


class Signals:
    """Pass signals to the program; before it runs, they end us.

    The terminal sends its own signals to the program directly.
    """

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.ended_by: int | None = None
        self._task = task
        self._process: asyncio.subprocess.Process | None = None
        self._starting = False
        self._early: list[signal.Signals] = []

    async def started(
        self, words: tuple[str, ...], environ: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        """Start the program and pass it the signals that arrived meanwhile."""
        self._starting = True
        self._process = await asyncio.create_subprocess_exec(*words, env=environ)
        for number in self._early:
            self.hear(number)
        return self._process

    def reap(self) -> None:
        """Reap processes whose parents have ended; as process 1, they are ours."""
        while self._process is not None:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid == self._process.pid:
                return  # asyncio reaps the program itself
            os.waitpid(ended.si_pid, os.WNOHANG)

    def hear(self, number: signal.Signals) -> None:
        if self._process is not None:
            by_keyboard = number in FROM_THE_KEYBOARD and in_foreground()
            if self._process.returncode is None and not by_keyboard:
                self._process.send_signal(number)
        elif self._starting:
            self._early.append(number)
        else:
            self.ended_by = number
            self._task.cancel()


@contextmanager
def passing_on() -> Iterator[Signals]:
    """Handle every signal that is passed on, for the block."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    signals = Signals(task)
    for number in PASSED_ON:
        loop.add_signal_handler(number, signals.hear, number)
    if os.getpid() == 1:
        loop.add_signal_handler(signal.SIGCHLD, signals.reap)
    try:
        yield signals
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
        for number in PASSED_ON:
            loop.remove_signal_handler(number)


async def served(config: Config, role: str | None, options: Options) -> int:
    with passing_on() as signals:
        try:
            return await served_until_it_ends(config, role, options, signals)
        except asyncio.CancelledError:
            if signals.ended_by is None:
                raise
            return 128 + signals.ended_by


async def served_until_it_ends(
    config: Config, role: str | None, options: Options, signals: Signals
) -> int:
    from broker.daemon.main import private
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    runtime = Runtime(log=logger(form="auto", level="warning"))
    with locations.short_temporary_directory("namespace-broker-exec-") as directory:
        async with private(config, runtime) as broker:
            if not options.switch("anyway"):
                require_lease(broker, role_in(config, role))
            token_file = os.path.join(directory, TOKEN_FILE)
            write_private(token_file, str(broker.client["container_token"]), durable=False)
            variables = container_variables(
                broker.client,
                role=role,
                token_file=token_file if takes_token_file() else None,
                environ=os.environ,
            )
            return await child(options.words, environment_of(variables, os.environ), signals)


def require_lease(broker: "Broker", role: str) -> None:
    """Raise `Failure` where the role has no lease yet: the start-up limit is over."""
    from broker.lease import NotReady

    try:
        broker.pipelines.roles[role].current()
    except NotReady as error:
        raise no_lease(str(error)) from error


async def child(words: tuple[str, ...], environ: Mapping[str, str], signals: Signals) -> int:
    """Run the program until it ends; return its code, 128+N for signal N, or 126 or 127."""
    try:
        process = await signals.started(words, environ)
    except (OSError, ValueError) as error:
        return not_started(words[0], error)
    code = await process.wait()
    return 128 - code if code < 0 else code


def in_foreground() -> bool:
    """Return whether the terminal sends its signals to us, and so to the program too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
