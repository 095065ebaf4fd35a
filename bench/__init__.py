"""hipcomm-bench: time collectives, alone or beside other libraries, in nccl-tests' units and columns."""
