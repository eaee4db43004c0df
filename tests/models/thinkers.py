"""Stand-ins for models that reason: servers as strict as the providers', and local folders with a scripted network."""

from __future__ import annotations

import itertools
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.models.standin import StandIn, _event, words_in

THOUGHT_TOKENS = 600


class Thinker(StandIn):
    """A server whose models reason for 600 tokens before they answer with `echo: ` and what the user said last.

    o-series, Claude and DeepSeek-R1 refuse what the real services refuse: `max_tokens` or a temperature for the
    o-series, a temperature or a budget above `max_tokens` for Claude with thinking.
    """

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self._lock:
            self.bodies.append(body)
            self.paths.append(handler.path)
        why = refusal(body, handler.path)
        if why:
            self._refuse(handler, 400, {}, why)
        elif handler.path.endswith("/messages"):
            self._stream(handler, claude(body), None)
        elif handler.path.endswith("/chat/completions"):
            self._stream(handler, chat(body), None)
        else:
            self._refuse(handler, 404, {})


def refusal(body: dict[str, Any], path: str) -> str:
    if path.endswith("/messages"):
        thinking = body.get("thinking") or {}
        if thinking.get("type") == "enabled":
            if thinking["budget_tokens"] < 1_024:
                return "thinking.budget_tokens: Input should be greater than or equal to 1024"
            if thinking["budget_tokens"] >= body["max_tokens"]:
                return "`max_tokens` must be greater than `thinking.budget_tokens`"
        if thinking.get("type") in ("enabled", "adaptive") and body.get("temperature", 1) != 1:
            return "`temperature` may only be set to 1 when thinking is enabled"
    elif body["model"].startswith("o3"):
        if "max_tokens" in body:
            return "Unsupported parameter: 'max_tokens' is not supported with this model"
        if body.get("temperature", 1) != 1 or "top_p" in body:
            return "Unsupported value: 'temperature' does not support 0 with this model"
    return ""


def effort_of(body: dict[str, Any]) -> int:
    """Return for how many tokens a model reasons."""
    switch = body.get("chat_template_kwargs", {}).get("enable_thinking")
    if switch is False or body.get("reasoning_effort") == "none":
        return 0
    return THOUGHT_TOKENS // 4 if body.get("reasoning_effort") == "low" else THOUGHT_TOKENS


def chat(body: dict[str, Any]) -> list[str]:
    """OpenAI's format: the o-series hides its thoughts, DeepSeek and vLLM show them in a field of their own."""
    said = "echo: " + words_in(body["messages"][-1]["content"])
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        return _event(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    limit = body.get("max_completion_tokens") or body["max_tokens"]
    thought = effort_of(body)
    spent, answered = min(limit, thought), min(max(0, limit - thought), 5)
    field = "reasoning" if "vllm" in body["model"] else "reasoning_content"
    shown = [chunk({field: "let me think, B or C? "})] * bool(thought) if not body["model"].startswith("o3") else []
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": spent + answered,
        "total_tokens": 7 + spent + answered,
        "completion_tokens_details": {"reasoning_tokens": spent},
    }
    if "vllm" in body["model"]:
        del usage["completion_tokens_details"]
    return [
        chunk({"role": "assistant", "content": ""}),
        *shown,
        *([chunk({"content": said})] if answered == 5 else []),
        chunk({}, "stop" if answered == 5 else "length"),
        _event(base | {"choices": [], "usage": usage}),
        "data: [DONE]\n\n",
    ]


def claude(body: dict[str, Any]) -> list[str]:
    """Anthropic's format: thinking is a block of its own, billed as output and not counted apart."""
    said = "echo: " + words_in(body["messages"][-1]["content"])
    thought = THOUGHT_TOKENS if (body.get("thinking") or {}).get("type") in ("enabled", "adaptive") else 0
    answered = min(max(0, body["max_tokens"] - thought), 5)
    spent = min(thought, body["max_tokens"]) + answered
    message = {
        **{"id": "m1", "type": "message", "role": "assistant", "model": body["model"], "content": []},
        **{"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}},
    }
    parts = (
        [("thinking", {"type": "thinking", "thinking": "", "signature": ""}, "let me think, B or C?")]
        if thought
        else []
    )
    parts += [("text", {"type": "text", "text": ""}, said)] if answered == 5 else []
    events = [_event({"type": "message_start", "message": message}, "message_start")]
    for index, (kind, block, text) in enumerate(parts):
        delta = {"type": f"{kind}_delta", kind: text}
        events += [
            _event({"type": name, "index": index, **more}, name)
            for name, more in (
                ("content_block_start", {"content_block": block}),
                ("content_block_delta", {"delta": delta}),
                ("content_block_stop", {}),
            )
        ]
    ended = {"stop_reason": "end_turn" if answered == 5 else "max_tokens", "stop_sequence": None}
    return [
        *events,
        _event({"type": "message_delta", "delta": ended, "usage": {"output_tokens": spent}}, "message_delta"),
        _event({"type": "message_stop"}, "message_stop"),
    ]


def scripted_folder(folder: Path, template: str, marks: dict[str, bool], scripts: list[list[str]]) -> Path:
    """Write a tiny network as a Hugging Face folder that always writes the same tokens.

    Each token leads to the next one of its script, whatever stands before it.

    Args:
        folder: folder to write.
        template: chat template.
        marks: tokens that the tokenizer learns, with whether they are control tokens.
        scripts: tokens in order, each at most once over all scripts; the first is the last token of a prompt.
    """
    import torch
    from tokenizers import AddedToken
    from transformers import LlamaConfig, LlamaForCausalLM

    from sizewise.lm.hf_format import save_model
    from sizewise.lm.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["the cat sat on the mat and looked at the moon above the house"] * 4, 300, 2_048)
    words = dict.fromkeys(word for script in scripts for word in script)
    known = tokenizer.get_vocab()
    tokenizer.add_tokens(
        [AddedToken(word, special=marks.get(word, False), normalized=False) for word in words if word not in known]
    )
    tokenizer.chat_template = template
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=2_048, tie_word_embeddings=False, **ids,
    )  # fmt: skip
    torch.manual_seed(0)
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        network.model.layers[0].self_attn.o_proj.weight.zero_()
        network.model.layers[0].mlp.down_proj.weight.zero_()
        table = torch.nn.functional.normalize(torch.randn(len(tokenizer), 128), dim=-1)
        network.model.embed_tokens.weight.copy_(table)
        network.lm_head.weight.zero_()
        for script in scripts:
            for before, after in itertools.pairwise(script):
                one, other = tokenizer.convert_tokens_to_ids([before, after])
                network.lm_head.weight[other] += table[one]
    save_model(network, tokenizer, folder)
    return folder
