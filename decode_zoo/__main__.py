"""``python -m decode_zoo`` is the same program as ``decode-zoo``."""

from decode_zoo.cli import main

main()
