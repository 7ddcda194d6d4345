"""Many pictures asked about side by side, each ending as an answer or as the error with it."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread

from gateway.answer import DetectAnswer
from gateway.client.client import Client
from gateway.client.errors import ClientError

ENDING_S = 5.0  # for what is at work when the caller wishes to end
LOOK_S = 0.1  # between looks at that wish


@dataclass(frozen=True)
class Outcome:
    """What became of one picture."""

    picture: Path
    answer: DetectAnswer | None
    error: ClientError | OSError | None


class Question:
    """The same words and parameters for every picture.

    Where `annotated` is a folder, pictures with boxes go there, each under its path from the folder `root`: two folders
    may have pictures of one name.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        parameters: Mapping[str, str],
        annotated: Path | None,
        root: Path,
        timeout_s: float,
    ) -> None:
        self._prompts = prompts
        self._parameters: dict[str, object] = {**parameters}
        self._annotated = annotated
        self._root = root
        self._timeout_s = timeout_s
        if annotated is not None:
            annotated.mkdir(parents=True, exist_ok=True)
            self._parameters["annotated"] = True

    def __repr__(self) -> str:
        return repr((list(self._prompts), sorted(self._parameters.items())))

    def ask(self, client: Client, picture: Path, key: str | None = None) -> DetectAnswer:
        """One picture's answer; raises as Client.detect."""
        answer = client.detect(
            picture, self._prompts, timeout_s=self._timeout_s, idempotency_key=key, **self._parameters
        )
        if self._annotated is not None and answer.annotated is not None:
            suffix = answer.annotated.media_type.rpartition("/")[2]
            folder = self._annotated / picture.parent.resolve().relative_to(self._root)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{picture.name}.{suffix}").write_bytes(answer.annotated.data)
            answer.annotated = None  # thousands of them would fill the memory
        return answer


def ask_all(
    pictures: Sequence[Path], ask: Callable[[Path], DetectAnswer], at_once: int, ended: Event | None = None
) -> Iterator[Outcome]:
    """The outcome of each picture as soon as it is known; `at_once` of them are at work.

    When `ended` is set, or the caller stops asking for outcomes, pictures whose turn has not come are left. Those at
    work have ENDING_S more, then they are left too: a gateway that does not answer holds nobody up.
    """
    left = deque(pictures)
    outcomes: SimpleQueue[Outcome | Exception | None] = SimpleQueue()

    def work() -> None:
        while True:
            try:
                picture = left.popleft()
            except IndexError:
                outcomes.put(None)
                return
            try:
                outcomes.put(Outcome(picture, ask(picture), None))
            except (ClientError, OSError) as error:
                outcomes.put(Outcome(picture, None, error))
            except Exception as error:  # noqa: BLE001 - raised where the outcomes are read
                outcomes.put(error)

    workers = min(at_once, len(pictures))
    for _ in range(workers):
        Thread(target=work, daemon=True).start()  # the process does not wait for it
    leave_at = math.inf
    try:
        while workers and time.monotonic() < leave_at:
            if ended is not None and ended.is_set() and leave_at == math.inf:
                left.clear()
                leave_at = time.monotonic() + ENDING_S
            try:
                outcome = outcomes.get(timeout=LOOK_S)
            except Empty:
                continue
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is None:
                workers -= 1
            else:
                yield outcome
    finally:
        left.clear()
