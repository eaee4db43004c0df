"""Everything that touches torch: tokenizers, networks, packing, training, scoring, generating."""
