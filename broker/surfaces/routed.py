"""The container addresses, where two surfaces answer: which one, by the path. Answers nothing by
itself."""

from datetime import datetime

from broker.access.caller import Caller
from broker.http.message import Answer, Request
from broker.surfaces.container import Container
from broker.surfaces.namespace import NamespaceTokens


class Routed:
    """Namespace's paths to one, everything else to the other.

    What could not be read, or was too long, may have been meant for either: nsc would take a body
    for its token, and a prober must learn nothing, so the connection is closed.
    """

    name = "container"
    takes_bodies = False
    """Nobody is invited to send one: a prober of nsc's address gets not even that line."""

    def __init__(self, *, namespace: NamespaceTokens, container: Container) -> None:
        self._namespace = namespace
        self._container = container
        self._failed: NamespaceTokens | Container | None = None

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        ours = self._namespace.is_for(request)
        surface = self._namespace if ours else self._container
        try:
            return surface.answer(request, caller, now=now)
        except Exception:
            self._failed = surface  # whose nothing is asked for next, before any other request
            raise

    def nothing(self) -> Answer:
        failed, self._failed = self._failed, None
        return (failed or self._namespace).nothing()

    def unreadable(self) -> Answer:
        return self._namespace.unreadable()
