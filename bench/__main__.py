"""Lets ``python -m hipcomm_bench`` do what the command ``hipcomm-bench`` does."""

from hipcomm_bench.cli import main

if __name__ == "__main__":
    main()
