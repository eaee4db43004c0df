"""Start the same work on several processes or machines: with torchrun for training, with Ray for measuring."""

from sizewise.launch.address import Launch, is_first_process, parse_launch, requested_launch, use_launch

__all__ = ["Launch", "is_first_process", "parse_launch", "requested_launch", "use_launch"]
