"""Everything that touches torch: tokenizers, networks, packing, training, scoring and generation."""

import logging

# Once peft imports it, bitsandbytes warns that a kernel wasn't downloaded.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
