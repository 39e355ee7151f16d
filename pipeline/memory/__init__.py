"""Where a model's weights lie while they are not in use."""
