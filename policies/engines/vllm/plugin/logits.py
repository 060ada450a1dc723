"""Two checkpoints as one model of vLLM, and the processor that mixes their logits: low + alpha * (high - low).

Both run on the same tokens in one step, under one scheduler, with their caches in one paged pool. The sampler gets
low's scores; the difference travels as an attribute of the same tensor, so that it cannot be applied to other rows. The
processor adds it with the α of each request, before penalties, temperature and top-p; tokens that other processors have
excluded stay excluded. Settings that would lose the attribute are refused when the model loads. If it is lost anyway,
the step fails, so samples of low alone never pass for samples of the mixture.
"""

# vLLM is not in the environment that types are checked in.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownParameterType=false

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models.interfaces import has_inner_state, supports_multimodal
from vllm.model_executor.models.utils import AutoWeightsLoader, maybe_prefix
from vllm.sampling_params import SamplingParams
from vllm.transformers_utils.config import get_config, get_hf_text_config
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from alphamix.policies.engines.vllm.pair import LOGITS_PROCESSOR, PAIR, SERVER_ARGUMENTS

_DIFFERENCE = "alphamix_high_minus_low"


class PairForCausalLM(nn.Module):
    """Both models of a pair as one model. Its hidden states are those of low and high, side by side."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        _check_server(vllm_config)
        folders = getattr(vllm_config.model_config.hf_config, PAIR)
        self.low: Any = _load(vllm_config, folders["low"], maybe_prefix(prefix, "low"))
        self.high: Any = _load(vllm_config, folders["high"], maybe_prefix(prefix, "high"))
        self.secondary_weights = [
            DefaultModelLoader.Source(folder, revision=None, prefix=f"{end}.") for end, folder in folders.items()
        ]

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """Refuse input embeddings: two models cannot share them. vLLM only checks that the method exists."""
        raise NotImplementedError("a pair of models takes token ids: send no embeddings.")

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Run both models; return `[tokens, hidden size of low + hidden size of high]`."""
        if input_ids is None or inputs_embeds is not None:
            raise NotImplementedError("a pair of models takes token ids: send no embeddings.")
        low: Tensor = self.low(input_ids, positions, intermediate_tensors)
        high: Tensor = self.high(input_ids, positions, intermediate_tensors)
        self._hidden_sizes = [low.shape[-1], high.shape[-1]]
        return torch.cat([low, high], dim=-1)

    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        """Return the logits of low, `[rows, V]` float32, which carry the difference of high from them."""
        at_low, at_high = hidden_states.split(self._hidden_sizes, dim=-1)
        low_BV = self.low.compute_logits(at_low.contiguous()).float()
        high_BV = self.high.compute_logits(at_high.contiguous()).float()
        # Where both are the same infinity, the subtraction would give NaN.
        setattr(low_BV, _DIFFERENCE, torch.where(low_BV == high_BV, 0.0, high_BV - low_BV))
        return low_BV

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Give each model the weights under its own name."""
        return AutoWeightsLoader(self).load_weights(weights)


class PairLogits(LogitsProcessor):
    """Processor that adds alpha * (high - low) to the logits of low. Every request has its own `alpha`, in
    `extra_args`."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a request without α, and one for log-probabilities of the prompt, which pass no processor.

        Raises:
            ValueError: vLLM answers it with HTTP 400.
        """
        _alpha(sampling_params)
        if sampling_params.prompt_logprobs is not None:
            raise ValueError(
                "log-probabilities of the prompt would be those of low alone: ask a pair for none (no "
                "prompt_logprobs, no echo with logprobs)."
            )

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._alphas: dict[int, float] = {}
        self._alpha_B1 = torch.empty(0, 1)

    def is_argmax_invariant(self) -> bool:
        """Return False, since the processor changes which token is the best."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests that are added, moved and removed."""
        if batch_update is not None:
            process_dict_updates(self._alphas, batch_update, _new_alpha)
            alphas = [self._alphas[row] for row in range(batch_update.batch_size)]
            self._alpha_B1 = torch.tensor(alphas, dtype=torch.float32, device=self._device)[:, None]

    def apply(self, logits: Tensor) -> Tensor:
        """Mix the logits in place, in float32.

        Raises:
            RuntimeError: something between model and sampler has replaced the model's scores.
        """
        difference_BV = getattr(logits, _DIFFERENCE, None)
        if difference_BV is None or len(difference_BV) != len(self._alpha_B1):
            raise RuntimeError(
                "the scores of the second model did not reach the sampler: serve the pair with exactly "
                f"{' '.join(SERVER_ARGUMENTS)}, and with a vLLM that alphamix knows."
            )
        return logits.addcmul_(self._alpha_B1, difference_BV)


def _new_alpha(parameters: SamplingParams, _prompt: Any, _output: Any) -> float:
    return _alpha(parameters)


def _alpha(parameters: SamplingParams) -> float:
    alpha = (parameters.extra_args or {}).get("alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ValueError(
            f'alpha is {alpha!r}: send a finite number with each request, as "vllm_xargs": {{"alpha": 1.5}}.'
        )
    return float(alpha)


def _load(vllm_config: VllmConfig, folder: str, prefix: str) -> nn.Module:
    """Build the model of a folder, still without weights, as vLLM would build it alone."""
    hf_config = get_config(folder, trust_remote_code=False)
    config = vllm_config.with_hf_config(hf_config)
    config.model_config.model = folder
    config.model_config.hf_text_config = get_hf_text_config(hf_config)
    config.model_config.model_arch_config = config.model_config.get_model_arch_config()
    model = initialize_model(vllm_config=config, prefix=prefix)
    if supports_multimodal(model) or has_inner_state(model):
        raise ValueError(
            f"{folder} is a {type(model).__name__}, which takes more than text or keeps a state beside keys and "
            "values: mix only text models with attention."
        )
    return model


def _check_server(config: VllmConfig) -> None:
    model = config.model_config
    reasons = {
        "--logits-processors is without the pair's": LOGITS_PROCESSOR not in (model.logits_processors or ()),
        f"--logprobs-mode is {model.logprobs_mode}": not model.logprobs_mode.startswith("processed"),
        "models would be compiled": not model.enforce_eager,
        "scheduling is asynchronous": bool(config.scheduler_config.async_scheduling),
        "decoding is speculative": config.speculative_config is not None,
        f"{config.parallel_config.world_size} processes would share the model": config.parallel_config.world_size > 1,
        "the V2 model runner is in use (VLLM_USE_V2_MODEL_RUNNER=0 turns it off)": config.use_v2_model_runner,
    }
    wrong = [reason for reason, holds in reasons.items() if holds]
    if wrong:
        raise ValueError(
            f"a pair cannot be served like this, {'; '.join(wrong)}: start vLLM with {' '.join(SERVER_ARGUMENTS)} "
            "and without speculation or parallelism."
        )
