"""Which error paths of the code under test ran, and under which fault; which never ran; which had no rollback.

`ErrorPathTracer` watches a campaign with coverage.py, a context for each point; `places` finds the error paths.
"""

from tornpage.scenarios.run.error_paths.join import ErrorPath, ErrorPaths
from tornpage.scenarios.run.error_paths.places import Place, SourceError, places_of
from tornpage.scenarios.run.error_paths.tracer import ErrorPathTracer

__all__ = ["ErrorPath", "ErrorPathTracer", "ErrorPaths", "Place", "SourceError", "places_of"]
