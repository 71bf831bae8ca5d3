"""Has the apply process of an agent note which lines it runs: on the path of the agents while coverage is measured.

That process may write below its base only, so coverage cannot make its file when the process ends. What is open before
it gives up the right to write elsewhere stays open. `suites/measure.py` makes such notes into files of coverage's.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

if os.environ.get("COVERAGE_PROCESS_START") and "apply" in sys.orig_argv:
    import coverage

    running = coverage.Coverage.current()
    notes = open(f"{os.environ['COVERAGE_FILE']}-apply-{os.getpid()}.notes", "xb")  # noqa: SIM115  # until it ends
    end = os._exit

    def keep_and_end(status: int) -> NoReturn:
        """Write the notes, and end as the process would have."""
        if running is not None and running._collector is not None:
            data = running._collector.covdata = coverage.CoverageData(no_disk=True)
            running.stop()
            running._collector.flush_data()
            notes.write(data.dumps())
            notes.close()
        end(status)

    os._exit = keep_and_end
