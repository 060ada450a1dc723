"""The embedded engine: a causal language model of transformers, or two whose scores are mixed, run in this process,
with many requests in one batch.

It is for a small model on a CPU or one GPU. A large model is better served by vLLM and sampled through `openai`.
`loading` loads, `batch_session` forms batches, `batches` decodes, and `detokenise` makes text; this module connects
them to requests and outcomes.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.engines.transformers.batch_session import BatchSession
from alphamix.policies.engines.transformers.batches import Batch, StartBatch, batches_of
from alphamix.policies.engines.transformers.decoding import NO_TOKEN, ModelPair, cache_argument, draw_tokens
from alphamix.policies.engines.transformers.detokenise import Decode, TextStream
from alphamix.policies.engines.transformers.loading import first_line, load_checkpoint
from alphamix.policies.merging.compatibility import check_mixable
from alphamix.policies.types import (
    Completion,
    Delta,
    Engine,
    EngineFailure,
    Message,
    PolicyError,
    PromptError,
    Request,
    TokenIds,
    template_arguments,
)

_DROP_SHARE = 1 / 8
"""Share of finished rows at which they are dropped. Dropping rows copies the cache; keeping them wastes work."""

_JOIN_SHARE = 1 / 2
"""Share of free rows at which waiting requests join. Joining copies the cache as well, and the newcomers are computed
over the positions of the oldest row. So it pays where a few long answers would go on alone, and hardly elsewhere."""


@dataclass(slots=True)
class _Row:
    """State of one request in a batch."""

    index: int
    request: Request
    prompt_key: object
    prompt_tokens: list[int]
    max_tokens: int
    text: TextStream
    uniforms: Iterator[float]
    started: float
    num_drawn: int = 0
    finished: bool = False


class TransformersEngine(Engine):
    """Engine that samples from a model, or a pair of models, and a tokenizer.

    Each request draws from its own random stream, made from its seed, so its neighbours in the batch change only the
    last bits of floating-point sums. Requests that wait join a batch as others finish, where the model allows it
    (`LlamaBatch`), or make the next batch. Completion tokens include the end-of-text token. `seconds` count from when
    the request joined. On a CPU, torch is set to one thread: with more, small models get slower, and very much so when
    the cores are busy.
    """

    reproducible = True

    def __init__(
        self,
        model: PreTrainedModel | ModelPair,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int = 256,
        device: str | None = None,
    ) -> None:
        models = [model.low, model.high] if isinstance(model, ModelPair) else [model]
        device = _checked_device(device)
        if device == "cpu":
            torch.set_num_threads(1)
        for each in models:
            cache_argument(each)
            torch.nn.Module.to(each.eval(), torch.device(device))
        self._batch_size = batch_size
        self._batches: StartBatch | None = batches_of(model)
        embeddings: Any = models[0].get_input_embeddings()
        self._num_tokens: int = embeddings.weight.shape[0]
        self._tokenizer = tokenizer
        self._decode = _decoder_of(tokenizer)
        self._end_tokens = _end_tokens(models[0], tokenizer)
        self._context_length = min(filter(None, map(_context_length, models)), default=None)

    @classmethod
    def from_checkpoint(cls, path: Path, options: EngineOptions) -> "TransformersEngine":
        """Load a folder, as `load_checkpoint` does.

        Raises:
            PolicyError: the folder cannot be loaded, or this engine cannot run its model.
        """
        device = _checked_device(options.device)
        model, tokenizer = load_checkpoint(path, device, options.dtype)
        return cls(model, tokenizer, batch_size=options.batch_size, device=device)

    @classmethod
    def from_checkpoints(cls, low: Path, high: Path, alpha: float, options: EngineOptions) -> "TransformersEngine":
        """Load two folders whose scores are mixed, low + alpha * (high - low).

        Tokenizer, chat template and end tokens are those of `low` at every α, as in merges; the context is the
        shorter of the two.

        Raises:
            PolicyError: α is not finite, token ids do not mean the same in both, or a folder cannot be loaded.
        """
        check_mixable(low, high)
        if not math.isfinite(alpha):
            raise PolicyError(f"alpha is {alpha}: give a finite number.")
        device = _checked_device(options.device)
        low_model, tokenizer = load_checkpoint(low, device, options.dtype)
        high_model, _ = load_checkpoint(high, device, options.dtype)
        pair = ModelPair(low_model, high_model, alpha)
        return cls(pair, tokenizer, batch_size=options.batch_size, device=device)

    def open_session(self, *, stream: bool = False) -> BatchSession:
        """Begin a session. The model runs in the thread that receives."""
        return BatchSession(partial(self._decode_batch, stream=stream))

    def close(self) -> None:
        """Release the model; sampling in another thread ends at its next token. Safe to call twice."""
        self._batches = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _decode_batch(self, waiting: Submissions, *, stream: bool) -> Iterator[list[Delta]]:
        """Answer requests as one batch, with those that can join; after each token of all, yield what has become
        certain: with `stream` the pieces of answers, otherwise only outcomes."""
        rows, rejected = self._admit(waiting, (), stream)
        yield rejected
        if not rows:
            return
        batch = self._open()([row.prompt_tokens for row in rows])
        while True:
            self._open()  # another thread may have closed the engine
            tokens_B = _draw(batch, rows)
            drawn = zip(rows, tokens_B.tolist(), strict=True)
            deltas = [self._advance(row, token) for row, token in drawn if not row.finished]
            yield [delta for delta in deltas if delta.outcome is not None or (stream and delta.text)]
            unfinished = [b for b, row in enumerate(rows) if not row.finished]
            if not unfinished:
                return
            if len(unfinished) <= (1 - _DROP_SHARE) * len(rows):
                batch.keep(unfinished)
                tokens_B = tokens_B[unfinished]
                rows = [rows[b] for b in unfinished]
            batch.step(tokens_B.clamp(min=0))
            if batch.can_add and len(rows) <= (1 - _JOIN_SHARE) * self._batch_size and waiting.peek() is not None:
                joining, rejected = self._admit(waiting, rows, stream)
                yield rejected
                if joining:
                    batch.add([row.prompt_tokens for row in joining])
                    rows += joining

    def _open(self) -> StartBatch:
        if self._batches is None:
            raise PolicyError("the engine is closed: open the policy again.")
        return self._batches

    def _admit(self, waiting: Submissions, running: Sequence[_Row], stream: bool) -> tuple[list[_Row], list[Delta]]:
        """Take requests for the rows that are free; return their rows, and the failures of those that get none.

        Raises:
            PromptError: the first request has a prompt that does not fit the policy, and no row is running.
        """
        tokens_of = {row.prompt_key: row.prompt_tokens for row in running}
        rows: list[_Row] = []
        rejected: list[Delta] = []
        while len(running) + len(rows) < self._batch_size and (ahead := waiting.peek()) is not None:
            index, request = ahead
            key = _prompt_key(request)
            if key not in tokens_of:
                try:
                    tokens_of[key] = self._tokenize(request)
                except PromptError:
                    if running or rows or rejected:
                        break  # it is raised when those have been answered
                    waiting.pop()
                    raise
            waiting.pop()
            row = self._row(index, request, key, tokens_of[key], stream)
            if isinstance(row, EngineFailure):
                rejected.append(Delta(index, "", row))
            else:
                rows.append(row)
        return rows, rejected

    def _tokenize(self, request: Request) -> list[int]:
        prompt = request.prompt
        if isinstance(prompt, str):
            return self._tokenizer(prompt, verbose=False)["input_ids"]
        if isinstance(prompt, TokenIds):
            if wrong := [token for token in prompt if not 0 <= token < self._num_tokens]:
                raise PromptError(f"the prompt has the token {wrong[0]}: send tokens from 0 to {self._num_tokens - 1}.")
            return list(prompt)
        if self._tokenizer.chat_template is None:
            raise PromptError(
                f"the tokenizer of {Path(self._tokenizer.name_or_path).name or 'this policy'} has no chat template "
                "for messages: ask with plain text, or put chat_template.jinja beside the tokenizer."
            )
        thinking = request.parameters.thinking
        switches: dict[str, Any] = {} if thinking is None else dict(template_arguments(thinking))
        try:
            text: Any = self._tokenizer.apply_chat_template(
                [_for_template(message) for message in prompt],
                tools=list(map(dict, request.tools)) or None,
                add_generation_prompt=not request.continues_last_message,
                continue_final_message=request.continues_last_message,
                tokenize=False,
                **switches,
            )
        except jinja2.TemplateError as error:
            raise PromptError(
                f"the chat template refuses these messages ({first_line(error)}): use the roles it knows."
            ) from error
        # The template has already written the special tokens.
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _row(
        self, index: int, request: Request, prompt_key: object, prompt_tokens: list[int], stream: bool
    ) -> _Row | EngineFailure:
        if not prompt_tokens:
            return EngineFailure("rejected", "the prompt has no tokens: give the policy some text to continue.")
        parameters = request.parameters
        max_tokens = parameters.max_tokens
        if self._context_length is not None:
            room = self._context_length - len(prompt_tokens)
            if room < 1:
                return EngineFailure(
                    "rejected",
                    f"the prompt has {len(prompt_tokens)} tokens and the model's context holds "
                    f"{self._context_length}: shorten the prompt, or take a model with a longer context.",
                    is_too_long=True,
                )
            max_tokens = min(max_tokens, room)
        text = TextStream(self._decode, parameters.stop, in_pieces=stream)
        uniforms, started = _uniforms(request.seed), time.perf_counter()
        return _Row(index, request, prompt_key, prompt_tokens, max_tokens, text, uniforms, started)

    def _advance(self, row: _Row, token: int) -> Delta:
        """Add one drawn token to a row, and finish the row if that was its last."""
        if token == NO_TOKEN:
            row.finished = True
            message = (
                f"the model's scores are not finite at token {row.num_drawn + 1} of the answer: its weights "
                "are broken or were extrapolated too far, choose an alpha nearer to 0 or 1."
            )
            return Delta(row.index, "", EngineFailure("malformed", message))
        row.num_drawn += 1
        ended = token in self._end_tokens
        piece = "" if ended else row.text.push(token)
        stopped = ended or row.text.stopped
        if not stopped and row.num_drawn < row.max_tokens:
            return Delta(row.index, piece)
        row.finished = True
        piece += row.text.finish()
        completion = Completion(
            text=row.text.text,
            finish_reason="stop" if stopped or row.text.stopped else "length",
            prompt_tokens=len(row.prompt_tokens),
            completion_tokens=row.num_drawn,
            seconds=time.perf_counter() - row.started,
            kind="text" if row.text.text.strip() else "empty",
        )
        return Delta(row.index, piece, completion)


def _draw(batch: Batch, rows: Sequence[_Row]) -> torch.Tensor:
    device = batch.logits_BV.device
    parameters = [row.request.parameters for row in rows]
    return draw_tokens(
        batch.logits_BV,
        torch.tensor([p.temperature for p in parameters], device=device),
        torch.tensor([p.top_p for p in parameters], dtype=torch.float64, device=device),
        torch.tensor([next(row.uniforms) for row in rows], dtype=torch.float64, device=device),
    )


def _uniforms(seed: int) -> Iterator[float]:
    """Yield the random stream of one request: numbers in [0, 1) from Philox, keyed by its seed."""
    generator = np.random.Generator(np.random.Philox(seed))
    while True:
        yield from generator.random(64).tolist()


def _prompt_key(request: Request) -> object:
    """Return a value that is equal for requests with the same prompt tokens."""
    if isinstance(request.prompt, str | TokenIds):
        return request.prompt
    thinking = request.parameters.thinking
    return json.dumps([list(request.prompt), request.tools, request.continues_last_message, thinking], default=dict)


def _for_template(message: Message) -> dict[str, Any]:
    """Return a message in the form that chat templates expect, as vLLM does: the arguments of calls as objects, and
    the reasoning as `reasoning_content`.

    Arguments that are not JSON stay the text that they are.
    """
    content: dict[str, Any] = dict(message)
    if "reasoning" in content:
        content["reasoning_content"] = content.pop("reasoning")
    calls: list[Any] = []
    for call in message.get("tool_calls", ()):
        arguments: Any = call["function"]["arguments"]
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**content, "tool_calls": calls} if calls else content


def _decoder_of(tokenizer: PreTrainedTokenizerBase) -> Decode:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return backend.decode  # five times as fast as the wrapper, and skips special tokens as well
    decode: Any = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return decode


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the token ids that end an answer: the tokenizer's and those of the generation config, as in vLLM.

    A checkpoint without a generation config has that which transformers makes of its config.
    """
    configured = model.generation_config.eos_token_id if model.generation_config else None
    named: list[Any] = [tokenizer.eos_token_id, configured]
    lists = [[tokens] if isinstance(tokens, int) else tokens or [] for tokens in named]
    return frozenset(chain.from_iterable(lists))


def _context_length(model: PreTrainedModel) -> int | None:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _checked_device(device: str | None) -> str:
    """Return the device, or the GPU if there is one for None.

    Raises:
        PolicyError: torch does not know the device, or cannot use it on this machine.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise PolicyError(
            f"torch cannot use the device {device!r} here ({first_line(error)}): "
            "give cpu, or leave the device out, which takes the GPU if there is one."
        ) from error
    return device
