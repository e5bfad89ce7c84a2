"""Other people's models: asked or read, doubted, measured, shown.

The verb is in `making`; the leaderboard shares the doubts.
"""
