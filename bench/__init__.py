"""hipcomm-bench: time collectives, alone or next to other libraries, in nccl-tests' units and columns."""
