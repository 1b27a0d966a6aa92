"""`transformers` and `datasets` as their users have them, with nothing set but endpoint and token.

They live in an environment of their own, which `make test-clients` makes; without it these tests are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

PYTHON = Path(os.environ.get("GONGQI_TEST_LIBRARIES", ".venv-clients")).absolute() / "bin" / "python"
SECONDS = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * SECONDS),
    pytest.mark.skipif(not PYTHON.exists(), reason="`make test-clients` makes the environment of these libraries"),
]

MAKE_A_MODEL = """
import json, sys
from pathlib import Path
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
folder = Path(sys.argv[1])
words = ["[PAD]", "[UNK]", "a", "public", "good", "公", "器"]
tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
torch.manual_seed(1)
shape = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)
"""
LOAD_A_MODEL = """
import json, sys
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
where = sys.argv[1]
tokenizer, model = AutoTokenizer.from_pretrained(where), AutoModel.from_pretrained(where)
given = tokenizer("a public good 公 器", return_tensors="pt")
with torch.no_grad():
    seen = model.eval()(input_ids=given["input_ids"]).last_hidden_state.flatten().tolist()
print(json.dumps([given["input_ids"].tolist(), seen, AutoConfig.from_pretrained(where).hidden_size]))
"""
MAKE_A_TABLE = """
import sys
from datasets import Dataset
folder = sys.argv[1]
table = Dataset.from_dict({"n": [1, 2, 3], "word": ["a", "公器", "c"]})
table.to_parquet(f"{folder}/train.parquet")
table.to_csv(f"{folder}/train.csv", index=False)
table.to_json(f"{folder}/train.jsonl", force_ascii=False)
"""
LOAD_A_TABLE = """
import json, sys
from datasets import load_dataset
whole = load_dataset(sys.argv[1], split="train")
stream = load_dataset(sys.argv[1], split="train", streaming=True)
print(json.dumps([whole.to_list(), list(stream)]))
"""
PUSH_A_TABLE = """
import sys
from datasets import Dataset
Dataset.from_dict({"n": [4, 5]}).push_to_hub(sys.argv[1])
"""
UPLOAD = """
import sys
from huggingface_hub import HfApi
kind, repo, folder = sys.argv[1:]
HfApi().create_repo(repo, repo_type=kind)
HfApi().upload_folder(repo_id=repo, repo_type=kind, folder_path=folder)
"""
TABLE = [{"n": 1, "word": "a"}, {"n": 2, "word": "公器"}, {"n": 3, "word": "c"}]


def run(hub: Any, home: Path, script: str, *arguments: str, secret: str | None = None) -> Any:
    """What the script printed as JSON on its last line, or an error's words."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    given = {"HF_ENDPOINT": hub.foundation.url, "HF_TOKEN": secret or hub.donor.secret, "HF_HOME": str(home)}
    command = [str(PYTHON), "-c", script, *arguments]
    done = subprocess.run(command, env=kept | given, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("[") else None


def test_a_model_that_was_uploaded_is_loaded_by_its_name_and_is_the_same(hub: Any, tmp_path: Path) -> None:
    folder, home = tmp_path / "model", tmp_path / "home"
    folder.mkdir()
    run(hub, home, MAKE_A_MODEL, str(folder))
    run(hub, home, UPLOAD, "model", "north/tiny-bert", str(folder))
    here = run(hub, home, LOAD_A_MODEL, str(folder))
    assert run(hub, home, LOAD_A_MODEL, "north/tiny-bert") == here
    assert here[2] == 16 and len(here[1]) == 5 * 16
    with pytest.raises(RuntimeError, match=r"not a valid model identifier|not found|404|401"):
        run(hub, tmp_path / "other", LOAD_A_MODEL, "north/tiny-bert", secret=hub.other.secret)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_table_is_loaded_whole_and_as_a_stream(hub: Any, tmp_path: Path, form: str) -> None:
    folder, home = tmp_path / "all", tmp_path / "home"
    (tmp_path / "one").mkdir()
    folder.mkdir()
    run(hub, home, MAKE_A_TABLE, str(folder))
    (folder / f"train.{form}").rename(tmp_path / "one" / f"train.{form}")
    run(hub, home, UPLOAD, "dataset", f"north/table-{form}", str(tmp_path / "one"))
    assert run(hub, home, LOAD_A_TABLE, f"north/table-{form}") == [TABLE, TABLE]


def test_a_table_is_pushed_as_its_library_pushes_it(hub: Any, tmp_path: Path) -> None:
    run(hub, tmp_path, PUSH_A_TABLE, "north/pushed")
    rows = [{"n": 4}, {"n": 5}]
    assert run(hub, tmp_path, LOAD_A_TABLE, "north/pushed") == [rows, rows]
