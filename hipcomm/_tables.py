"""Made by hipcomm/native/build_tables.py of hipcomm/abi/limits.h and algorithms.def."""

MAX_RANKS = 16
MAX_BLOCKS = 256
MAX_THREADS = 512
MAX_UNIT_THREADS = 256
MAX_REGIONS = 256
MAX_MESSAGE_BYTES = 0xffffffffffffff
MAX_STAGING_BYTES = 0x1000000000
MAX_TIMEOUT_SECONDS = 1000000
MAX_HIDDEN = 65536
ALGORITHMS = ('auto', 'one_shot', 'two_shot', 'pipelined', 'direct', 'staged')
