"""The harness. Its rooms, from top to bottom; imports point down only.

``cli`` and ``pytest_plugin`` are the doors; ``selftest`` shows that known bugs are caught; ``report`` renders what a
run recorded; ``run`` is a campaign; ``search`` decides which scenarios to try; ``execution`` runs one; ``targets`` is
what can be put under test; ``model`` is what all of them talk about.
"""
