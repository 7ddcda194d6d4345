"""Puts another version of the models to work: loaded beside the one in use, tried, then promoted, or all as before.

    1  locked     the repository's lock, which python -m export.repository takes as well
    2  whole      the version's files are those that were published
    3  beside     Triton serves it beside the version in use, which goes on answering
    4  tried      tensors against the contract, tokenizer, real inferences of all models in every shape
    5  promoted   one link is renamed; Triton loads what the repository now says, and that version alone
    6  followed   this gateway uses it; other workers, whose next inference finds the former version gone, look at once

Up to 5 nothing has changed but what Triton has in memory. A gateway that is killed before leaves the former version in
use, after it the new one. Triton's memory holds both versions twice while they are exchanged.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from export.contract.promotion import (
    RepositoryError,
    read_beside,
    read_promoted,
    served_config,
    write_promoted,
)
from export.contract.tensors import MODELS
from export.contract.versions import check_whole, published, sole_writer
from gateway.errors import ConflictError, ModelError, NotFoundError, ServiceError, UnavailableError
from gateway.models.served import Served, describe
from gateway.models.trial import try_shapes
from gateway.models.triton import read_config
from gateway.models.watch import REPLACING_INTERVAL_S, Watch
from gateway.request.deadline import Deadline

LOG = logging.getLogger("gateway.admin.activation")
TRIAL_S = 600.0  # for all inferences that are tried, of a slow model too
FOLLOW_S = 60.0


class Activation:
    """Activates versions of a repository in the Triton that `watch` looks at, one at a time."""

    def __init__(self, repository: Path, watch: Watch) -> None:
        self._repository = repository
        self._watch = watch
        self._at_work: set[asyncio.Task[Served]] = set()  # a task that nobody holds may be collected

    async def activate(self, version: int) -> Served:
        """Serves `version` from the next request on; a client that goes away does not stop it halfway.

        Raises:
            NotFoundError: the repository has no such version.
            ConflictError: another activation or command is at work, or this gateway cannot do it; the message says how.
            ModelError: it was tried and failed; the former version is in use as before.
        """
        task = asyncio.create_task(self._activate(version))
        self._at_work.add(task)
        task.add_done_callback(self._finish)
        return await asyncio.shield(task)

    def _finish(self, task: asyncio.Task[Served]) -> None:
        self._at_work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.warning("an activation failed: %s", task.exception())

    async def _activate(self, version: int) -> Served:
        self._watch.circuit.check()  # nothing is exchanged in a Triton that is away
        known = await asyncio.to_thread(published, self._repository)
        if version not in known:
            raise NotFoundError(
                f"the repository has no version {version}, it has {', '.join(map(str, known)) or 'none'}; "
                "publish one with python -m export.build"
            )
        with ExitStack() as stack:
            try:
                stack.enter_context(sole_writer(self._repository))
                promoted, beside = read_promoted(self._repository), read_beside(self._repository)
                staged = await asyncio.to_thread(self._staged, version, promoted, beside)
            except (RepositoryError, OSError) as error:
                raise self._refused(version, str(error)) from error
            try:
                await self._try(version, staged)
                await self._promote([*(number for number in promoted if number != version), version])
                await self._load_all()
                return await self._followed(str(version))
            except ConflictError as error:
                raise self._refused(version, str(error)) from error
            except Exception as error:
                undone = await self._undo(promoted, beside)
                if isinstance(error, OSError):
                    raise self._refused(version, f"the repository cannot be written: {error}; {undone}") from error
                raise ModelError(f"version {version} was not activated: {error}; {undone}") from error

    def _staged(self, version: int, promoted: Sequence[int], beside: Sequence[int]) -> list[Any]:
        """The configurations of all models that serve the version beside what is served now."""
        check_whole(self._repository, version)
        if not os.access(self._repository / MODELS[0].name, os.W_OK):
            raise RepositoryError("this gateway cannot write the repository")
        if not promoted:
            raise RepositoryError("no version was ever promoted")
        others = sorted({*beside, version} - {promoted[-1]})
        return [served_config(self._repository, spec.name, promoted[-1], others, read_config) for spec in MODELS]

    async def _try(self, version: int, staged: Sequence[Any]) -> None:
        triton = self._watch.triton
        for spec, config in zip(MODELS, staged, strict=True):
            await triton.load(spec, config)
        served = await describe(triton, str(version))
        await self._watch.make(served)  # its tokenizer is there
        await try_shapes(triton, served, MODELS, Deadline.within(TRIAL_S))

    async def _load_all(self) -> None:
        """All models at the same time, so that requests wait for the slowest one only."""
        loads = (self._watch.triton.load(spec) for spec in MODELS)
        for outcome in await asyncio.gather(*loads, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _followed(self, version: str) -> Served:
        """What this gateway uses, as soon as that is `version`; a busy Triton may have to be asked more than once."""
        last = time.monotonic() + FOLLOW_S
        while True:
            await self._watch.look()
            try:
                active = self._watch.detector().served
            except UnavailableError as error:  # it did not answer a look or two: the promotion is not undone for that
                instead = str(error)
            else:
                if active.version == version:
                    return active
                instead = f"Triton says that it serves {active.version}"
            if time.monotonic() > last:
                raise UnavailableError(f"it is not in use after {FOLLOW_S:g} s: {instead}")
            await asyncio.sleep(REPLACING_INTERVAL_S)

    async def _promote(self, promoted: Sequence[int], beside: Sequence[int] = ()) -> None:
        await asyncio.to_thread(write_promoted, self._repository, promoted, read_config, beside)

    async def _undo(self, promoted: Sequence[int], beside: Sequence[int]) -> str:
        """Has Triton serve again what was promoted before; says what came of that."""
        try:
            if (read_promoted(self._repository), read_beside(self._repository)) != (promoted, beside):
                await self._promote(promoted, beside)
            await self._load_all()
            await self._watch.look()
        except (ServiceError, RepositoryError, OSError) as error:
            return f"Triton could not return to version {promoted[-1]} ({error}): restart it"
        return f"version {promoted[-1]} is in use as before"

    def _refused(self, version: int, why: str) -> ConflictError:
        return ConflictError(
            f"version {version} was not activated: {why}; where the repository can be written, the command is "
            f"python -m export.repository promote {version} --repository {self._repository} "
            f"--triton {self._watch.triton.url}"
        )
