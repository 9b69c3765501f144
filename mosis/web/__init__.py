"""The HTTP faces of the nouns: the only place that imports bottle. Each module has its URL table in routes()."""
