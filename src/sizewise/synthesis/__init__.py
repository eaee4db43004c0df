"""Draft examples from documents with a model, and review them."""
