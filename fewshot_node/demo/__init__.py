"""The demonstration: a PACS, a node, tasks taught by example, new studies pushed, results scored."""
