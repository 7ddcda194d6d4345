"""The parts of the review loop, put together for an application."""

from contextlib import AsyncExitStack

from fastapi import Request

from gateway.database import Database
from gateway.metrics import Metrics
from gateway.review.images import ImageStore
from gateway.review.rates import Rates
from gateway.review.recorder import Recorder
from gateway.review.retention import Retention
from gateway.review.store import ReviewStore
from gateway.settings import Settings


class ReviewLoop:
    """Records, prunes and counts while it is used as a context; leaving it writes out what is still to be recorded.

    Raises:
        ValueError: the settings name no image store that there can be.
    """

    def __init__(self, settings: Settings, database: Database, metrics: Metrics) -> None:
        self.images = ImageStore(settings.image_store) if settings.image_store else None
        self.store = ReviewStore(database)
        self.recorder = Recorder(self.store, self.images, settings, metrics)
        self._parts = (self.recorder, Retention(database, self.images, settings), rates := Rates(self.store))
        metrics.registry.register(rates)

    async def __aenter__(self) -> "ReviewLoop":
        async with AsyncExitStack() as stack:
            for part in self._parts:
                await stack.enter_async_context(part)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


def review_of(request: Request) -> ReviewLoop:
    """The review loop of the application that the request came to."""
    review: ReviewLoop = request.app.state.review
    return review
