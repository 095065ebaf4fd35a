"""A world over several nodes: calls on each node's communicator, and bytes that another engine carries."""
