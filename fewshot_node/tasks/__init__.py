"""What a site has taught the node: tasks, their routing rules, templates and fitted adapters."""
