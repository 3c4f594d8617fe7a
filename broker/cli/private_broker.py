"""Run a program with a private broker, which lives as long as the program."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from broker.cli.commands.exec import not_started
from broker.cli.environment import TOKEN_FILE, container_variables
from broker.cli.offline import configured, explained, one_off_flags, role_in, warn
from broker.cli.parser import Options
from broker.config import Config, load_roles
from broker.files.private import write_private

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
        return asyncio.run(served(config, role, options.words))


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
    try:
        yield signals
    finally:
        for number in PASSED_ON:
            loop.remove_signal_handler(number)


async def served(config: Config, role: str | None, words: tuple[str, ...]) -> int:
    with passing_on() as signals:
        try:
            return await served_until_it_ends(config, role, words, signals)
        except asyncio.CancelledError:
            if signals.ended_by is None:
                raise
            return 128 + signals.ended_by


async def served_until_it_ends(
    config: Config, role: str | None, words: tuple[str, ...], signals: Signals
) -> int:
    from broker.daemon.main import private
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    runtime = Runtime(log=logger(form="auto", level="warning"))
    with tempfile.TemporaryDirectory(prefix="namespace-broker-exec-") as directory:
        async with private(config, runtime) as broker:
            token_file = os.path.join(directory, TOKEN_FILE)
            write_private(token_file, str(broker.client["container_token"]), durable=False)
            variables = container_variables(
                broker.client, role=role, token_file=token_file, environ=os.environ
            )
            return await child(words, variables.over(os.environ), signals)


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
