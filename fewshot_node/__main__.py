"""``python -m fewshot_node`` is ``fewshot-node``."""

from fewshot_node.cli.main import main

main()
