"""Apps, their versions and reviews: from an upload to publication."""
