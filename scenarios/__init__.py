"""The harness. Its packages, from top to bottom; imports point down only.

``cli`` and ``pytest_plugin`` are the entry points; ``selftest`` proves that known bugs are caught; ``report`` renders
the record of a run; ``run`` is a campaign; ``search`` decides which scenarios to try; ``execution`` runs one;
``targets`` has the stores to test; ``model`` has the types that all of them share.
"""
