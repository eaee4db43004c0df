"""Everything that touches torch: tokenizers, networks, packing, training, scoring and generation."""
