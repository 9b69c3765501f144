"""The HTTP handlers of the nouns, the only package besides mosis.ui that imports bottle. Each
module has its URL table in routes()."""
