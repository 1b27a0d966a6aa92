"""Small real models, made here and the same each time: laid out as their tools lay them out.

`embedder` is a BERT in small, its weights drawn from a seed: words, places, layers of attention and of two dense steps,
in ONNX, with a tokenizer of a few sentences' words, and the files by which sentence-transformers knows how its
vectors are made. It understands nothing, but its tokens are real and its vectors are those of its weights: `expected`
computes them in NumPy, a row at a time, without padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TEXT = (
    "公器，属于每一个人的器具。", "An instrument that belongs to everyone.", "the quick brown fox jumps over the lazy dog",
    "数据、功劳与钱回到给予者那里", "data, credit and money flow back to those who gave", "0123456789 .,:;()",
)  # fmt: skip
MAX_TOKENS = 64


class Weights:
    """What a graph is made of: initializers by name, all drawn in order from one seed."""

    def __init__(self, vocabulary: int, *, layers: int, hidden: int, places: int, seed: int = 7) -> None:
        self.hidden, self.layers = hidden, layers
        draw = numpy.random.default_rng(seed)
        self.arrays: dict[str, Any] = {}

        def add(name: str, *shape: int, scale: float = 1.0) -> None:
            self.arrays[name] = (draw.standard_normal(shape) * scale).astype(numpy.float32)

        add("words", vocabulary, hidden)
        add("places", places, hidden, scale=0.5)
        for layer in range(layers):
            for name in ("query", "key", "value"):
                add(f"{name}.{layer}", hidden, hidden, scale=hidden**-0.5)
            add(f"up.{layer}", hidden, 4 * hidden, scale=hidden**-0.5)
            add(f"down.{layer}", 4 * hidden, hidden, scale=(4 * hidden) ** -0.5)


def embedder(
    *, layers: int = 2, hidden: int = 16, modes: Sequence[str] = ("mean_tokens",), normalizes: bool = True,
    places: int = 128, max_tokens: int = MAX_TOKENS,
) -> dict[str, bytes]:  # fmt: skip
    """Its files by path."""
    tokenizer = word_pieces()
    weights = Weights(tokenizer.get_vocab_size(), layers=layers, hidden=hidden, places=places)
    steps = ["Transformer", "Pooling", *(["Normalize"] if normalizes else [])]
    modules = [
        {"idx": n, "name": str(n), "type": f"sentence_transformers.models.{step}"} for n, step in enumerate(steps)
    ]
    pooling = {"word_embedding_dimension": hidden} | {f"pooling_mode_{mode}": True for mode in modes}
    return {
        "onnx/model.onnx": graph(weights),
        "tokenizer.json": tokenizer.to_str().encode(),
        "config.json": json.dumps({"max_position_embeddings": places, "hidden_size": hidden}).encode(),
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": json.dumps(pooling).encode(),
        "sentence_bert_config.json": json.dumps({"max_seq_length": max_tokens}).encode(),
    }


def word_pieces() -> Tokenizer:
    """Of the words of TEXT whole, and of their letters. Not trained: equal pieces would come out in any order."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {word for text in TEXT for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    letters = {letter for word in words for letter in word}
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words | letters), *sorted(f"##{each}" for each in letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    pairs = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=pairs)
    tokenizer.enable_padding(length=MAX_TOKENS)  # as files of models often have it; whoever runs them must undo it
    return tokenizer


def tokens(files: Mapping[str, bytes], text: str) -> list[int]:
    """Of a short text, by the tokenizer among these files."""
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    tokenizer.no_padding()
    return tokenizer.encode(text).ids


def graph(weights: Weights) -> bytes:
    """input_ids, attention_mask, token_type_ids -> last_hidden_state FP32 [batch, tokens, hidden]."""
    nodes: list[Any] = []
    constants: dict[str, Any] = dict(weights.arrays)

    def step(kind: str, *inputs: Any, **attributes: Any) -> str:
        names = []
        for each in inputs:
            if not isinstance(each, str):
                constants[name := f"constant.{len(constants)}"] = numpy.asarray(each)
                each = name
            names.append(each)
        nodes.append(helper.make_node(kind, names, [output := f"step.{len(nodes)}"], **attributes))
        return output

    zero, one = numpy.int64(0), numpy.int64(1)
    width = step("Gather", step("Shape", "input_ids"), one)
    places = step("Gather", "places", step("Range", zero, width, one))
    state = step("Add", step("Gather", "words", "input_ids"), places)
    mask = step("Unsqueeze", step("Cast", "attention_mask", to=TensorProto.FLOAT), numpy.array([1], numpy.int64))
    away = step("Mul", step("Sub", mask, numpy.float32(1)), numpy.float32(1e9))
    for layer in range(weights.layers):
        query, key, value = (step("MatMul", state, f"{name}.{layer}") for name in ("query", "key", "value"))
        scores = step("MatMul", query, step("Transpose", key, perm=[0, 2, 1]))
        scores = step("Add", step("Mul", scores, numpy.float32(weights.hidden**-0.5)), away)
        state = step("Add", state, step("MatMul", step("Softmax", scores, axis=-1), value))
        raised = step("Tanh", step("MatMul", state, f"up.{layer}"))
        state = step("Add", state, step("MatMul", raised, f"down.{layer}"))
    nodes.append(helper.make_node("Identity", [state], ["last_hidden_state"]))
    shape: list[Any] = ["batch", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shape)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, weights.hidden])
    made = helper.make_graph(
        nodes, "embedder", inputs, [output], [numpy_helper.from_array(array, name) for name, array in constants.items()]
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def expected(files: Mapping[str, bytes], ids: Sequence[int]) -> Any:
    """last_hidden_state of one row, [tokens, hidden], by the same weights and another program."""
    model = onnx.load_from_string(files["onnx/model.onnx"])
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    layers = sum(name.startswith("query.") for name in arrays)
    state = arrays["words"][list(ids)] + arrays["places"][: len(ids)]
    for layer in range(layers):
        query, key, value = (state @ arrays[f"{name}.{layer}"] for name in ("query", "key", "value"))
        scores = query @ key.T * state.shape[1] ** -0.5
        scores = numpy.exp(scores - scores.max(axis=1, keepdims=True))
        state = state + scores / scores.sum(axis=1, keepdims=True) @ value
        state = state + numpy.tanh(state @ arrays[f"up.{layer}"]) @ arrays[f"down.{layer}"]
    return state


CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}</{{ message.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def writer(folder: Path, *, template: str | None = CHAT_TEMPLATE, context: int = 512, ends: bool = True) -> bytes:
    """A Llama in small that writes bytes, as GGUF: its tokens are the 256 bytes and three marks, its weights drawn from a
    seed, so what it writes makes no sense; but it is counted, sampled and stopped as any other. One number of its state is
    the same for every token, and through it letters are likelier than other bytes, and the end is likely or impossible.
    Needs the package `gguf`."""
    import gguf

    layers, hidden, heads, vocabulary = 2, 32, 4, 259
    draw = numpy.random.default_rng(11)

    def weight(*shape: int) -> Any:
        return (draw.standard_normal(shape) * shape[-1] ** -0.5).astype(numpy.float32)

    words, output = weight(vocabulary, hidden) * 4, weight(vocabulary, hidden)
    words[:, 0] = 4.0
    output[:, 0] = -4.0
    output[[3 + letter for letter in b"abcdefghijklmnopqrstuvwxyz ,.{}"], 0] = 2.0
    output[2, 0] = 1.0 if ends else -40.0
    path = folder / "writer.gguf"
    made = gguf.GGUFWriter(path, "llama")
    made.add_context_length(context)
    made.add_embedding_length(hidden)
    made.add_block_count(layers)
    made.add_feed_forward_length(2 * hidden)
    made.add_head_count(heads)
    made.add_head_count_kv(heads)
    made.add_layer_norm_rms_eps(1e-5)
    made.add_rope_dimension_count(hidden // heads)
    made.add_vocab_size(vocabulary)
    made.add_tokenizer_model("llama")
    made.add_token_list([b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))])
    made.add_token_scores([0.0] * vocabulary)
    kind = gguf.TokenType
    made.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256])
    made.add_bos_token_id(1)
    made.add_eos_token_id(2)
    made.add_unk_token_id(0)
    made.add_add_space_prefix(False)
    if template is not None:
        made.add_chat_template(template)
    made.add_tensor("token_embd.weight", words)
    made.add_tensor("output_norm.weight", numpy.ones(hidden, numpy.float32))
    made.add_tensor("output.weight", output)
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            made.add_tensor(f"blk.{layer}.{name}.weight", numpy.ones(hidden, numpy.float32))
        shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (hidden, hidden))
        shapes |= dict.fromkeys(("ffn_gate", "ffn_up"), (2 * hidden, hidden)) | {"ffn_down": (hidden, 2 * hidden)}
        for name, shape in shapes.items():
            array = weight(*shape)
            if name in ("attn_output", "ffn_down"):
                array[0] = 0  # which leaves that number alone
            made.add_tensor(f"blk.{layer}.{name}.weight", array)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return path.read_bytes()
