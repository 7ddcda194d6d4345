"""Many pictures asked about side by side, each ending as an answer or as the error with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from gateway.answer import DetectAnswer
from gateway.client.client import Client
from gateway.client.errors import ClientError


@dataclass(frozen=True)
class Outcome:
    """What became of one picture."""

    picture: Path
    answer: DetectAnswer | None
    error: ClientError | OSError | None


class Question:
    """The same words and parameters for every picture; where `annotated` is a folder, pictures with boxes go there."""

    def __init__(
        self, prompts: Sequence[str], parameters: Mapping[str, str], annotated: Path | None, timeout_s: float
    ) -> None:
        self._prompts = prompts
        self._parameters: dict[str, object] = {**parameters}
        self._annotated = annotated
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
            (self._annotated / f"{picture.name}.{suffix}").write_bytes(answer.annotated.data)
            answer.annotated = None  # thousands of them would fill the memory
        return answer


def ask_all(pictures: Sequence[Path], ask: Callable[[Path], DetectAnswer], at_once: int) -> Iterator[Outcome]:
    """The outcome of each picture as soon as it is known; `at_once` of them are at work.

    When the caller stops asking for outcomes, pictures whose turn has not come are left.
    """

    def outcome(picture: Path) -> Outcome:
        try:
            return Outcome(picture, ask(picture), None)
        except (ClientError, OSError) as error:
            return Outcome(picture, None, error)

    pool = ThreadPoolExecutor(at_once)
    try:
        for future in as_completed([pool.submit(outcome, picture) for picture in pictures]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
