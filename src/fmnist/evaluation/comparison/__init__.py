"""Which of several models is better, and all of them in one table.

The two verbs are imported from their modules: neither needs the other.
"""
