"""Documents to questions by a writer model, approved by people."""
