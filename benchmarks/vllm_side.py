"""The other side of `engine`: vLLM in one process on a CPU, run by a Python that has it.

The only argument is a checkpoint. Each line of standard input is JSON, `[prompt, number of completions, tokens of
each]`; the answer to it is one line with the CPU seconds. What vLLM writes besides goes to standard error.
"""

import json
import os
import sys

from side import used_cpu_s

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402  # pyright: ignore[reportMissingImports]  # in an environment of its own

torch.set_num_threads(1)
model = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_num_seqs=256)
for line in sys.stdin:
    prompt, count, tokens = json.loads(line)
    parameters = SamplingParams(temperature=1.0, n=count, max_tokens=tokens, ignore_eos=True)
    before_s = used_cpu_s()
    model.generate([prompt], parameters, use_tqdm=False)
    print(used_cpu_s() - before_s, file=answers, flush=True)
