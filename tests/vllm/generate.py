"""Run vLLM once, in this process: `generate.py SPECIFICATION.json OUTPUT.npz`. A program: each run starts clean.

The specification has `engine`, the arguments of `vllm.LLM`; `requests`, each `{"prompt": [ids], …}` with parameters
of `SamplingParams`; and maybe `refused`, parameters that are each sent alone. The output has tokens_N and logprobs_N
(`[tokens, V]`) for request N, and error_N for what was refused.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}

import numpy as np
from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMValidationError


def main(specification: Path, output: Path) -> None:
    asked = json.loads(specification.read_text())
    engine: Any = LLM(
        **{"max_model_len": 256, "max_logprobs": -1, "generation_config": "vllm", "enforce_eager": True}
        | asked["engine"]
    )
    vocabulary = range(engine.llm_engine.model_config.get_vocab_size())
    prompts, parameters = [], []
    found: dict[str, Any] = {}
    for request in asked["requests"]:
        prompts.append({"prompt_token_ids": request.pop("prompt")})
        parameters.append(SamplingParams(logprobs=-1, ignore_eos=True, **request))
    for number, result in enumerate(engine.generate(prompts, parameters, use_tqdm=False)):
        answer = result.outputs[0]
        found[f"tokens_{number}"] = np.array(answer.token_ids)
        found[f"logprobs_{number}"] = np.array([[step[v].logprob for v in vocabulary] for step in answer.logprobs])
    for number, refused in enumerate(asked.get("refused", [])):
        try:
            engine.generate(prompts[0], SamplingParams(**refused), use_tqdm=False)
        except VLLMValidationError as error:
            found[f"error_{number}"] = np.array(str(error))
    np.savez(output, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
