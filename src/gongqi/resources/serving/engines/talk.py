"""OpenAI's chat completions and completions, answered by a model in this process.

One call at a time writes, a token after the other; the others wait in line, which is bounded. A caller that leaves is
noticed between two tokens. Usage is what was counted: the tokens of the prompt, and those that were written but for the
mark of the end. What this engine cannot do is refused by name, never left out in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.serving.engines.answers import Answer, Chat, Completion
from gongqi.resources.serving.engines.door import Visit
from gongqi.resources.serving.engines.writer import Text, Writer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MAX_WAITING = 32  # calls in line; each may take minutes
RETRY_SECONDS = 5

_T = TypeVar("_T")


class Talk:
    """The APIs of one model."""

    _answers = {CHAT: Chat, COMPLETIONS: Completion}  # noqa: RUF012 - never changed
    paths = tuple(_answers)

    def __init__(self, writer: Writer, loop: asyncio.AbstractEventLoop) -> None:
        self.since: float | None = None
        self.waiting = 0
        self._answered = 0
        self._writer = writer
        self._loop = loop
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def attend(self, visit: Visit) -> None:
        """Raises Refused: serving.request-unreadable, serving.engine-lacks, serving.engine-no-template,
        serving.conversation-unfit, serving.prompt-invalid, serving.prompt-too-long, serving.schema-unusable; Unavailable
        serving.engine-busy."""
        answer = self._answers[visit.path](visit.body)
        leaving = self._loop.create_task(visit.leaving())
        try:
            async with self._in_turn():
                if not leaving.done():
                    self._answered += 1
                    await self._write(visit, answer, leaving)
        finally:
            leaving.cancel()

    @property
    def done(self) -> tuple[int, int]:
        """One call at a time."""
        return self._answered, self._answered

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        if self.waiting >= MAX_WAITING:
            raise Unavailable("serving.engine-busy", retry_after_seconds=RETRY_SECONDS)
        self.waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self.waiting -= 1

    async def _write(self, visit: Visit, answer: Answer, leaving: asyncio.Task[None]) -> None:
        tokens = await self._run(lambda: answer.tokens(self._writer))
        if not tokens or any(not 0 <= token < self._writer.vocabulary for token in tokens):
            raise Refused("serving.prompt-invalid")
        room = self._writer.context - len(tokens)
        if room < 1:
            raise Refused("serving.prompt-too-long", tokens=len(tokens), limit=self._writer.context - 1)
        limit = min(answer.limit or visit.output_tokens or room, room)
        answer.begin(len(tokens))
        steps = self._writer.steps(tokens, answer.wishes, limit)
        text = Text(answer.stops)
        while (step := await self._run(lambda: next(steps, None))) is not None:
            if leaving.done():
                return
            answer.say(text.feed(step.text), step)
            if text.has_stopped:
                break
            if answer.streams and answer.has_news:
                await visit.event(answer.news())
        answer.say(text.end())
        answer.end("stop" if text.has_stopped or answer.written < limit else "length")
        if not answer.streams:
            await visit.answer(answer.whole())
            return
        for event in answer.last_events():
            await visit.event(event)
        await visit.end()

    async def _run(self, work: Callable[[], _T]) -> _T:
        """On the engine's one thread, with an eye on how long it takes."""
        self.since = self._loop.time()
        try:
            return await self._loop.run_in_executor(self._thread, work)
        finally:
            self.since = None
