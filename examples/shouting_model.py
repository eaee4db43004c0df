"""A plug-in: models of your own behind `sizewise evaluate shout:NAME`, in thirty lines.

Put it into a package whose pyproject.toml says:

    [project.entry-points."sizewise.models"]
    shout = "shouting_model:ShoutingModel"
"""

from sizewise.records import Completion, ModelDescription


class ShoutingModel:
    """Answers with the question, loudly."""

    def __init__(self, name):
        self.name = name

    def describe(self):
        return ModelDescription(
            uri=f"shout:{self.name}", origin="an example", license="Apache-2.0", engine="rule", precision="none",
            can_chat=True,
        )  # fmt: skip

    def complete(self, requests):
        for request in requests:
            text = request.messages[-1].content.upper()
            words = len(text.split())
            yield Completion(
                id=request.id, text=text, prompt_tokens=words, completion_tokens=words, seconds=0.0, finish="stop"
            )

    def close(self):
        """Nothing to free; `score` and `signature` are only asked of models with can_score."""
