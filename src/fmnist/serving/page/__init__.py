"""The web page's files, each served with its own type."""
