"""The trainer's first lines, which tie its life to the learner's and lower its priority.

`python -m accrete_learner_service.trainer.starter PARENT_PID NICE MODULE`.
Done in the child rather than between fork and exec, where a threaded parent may run nothing safely.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys

from accrete_kit.parent_death import end_with_parent


def main() -> None:
    """Run the module named on the command line as `__main__`."""
    parent, nice, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    end_with_parent(parent, by=signal.SIGKILL)
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    # Ctrl-C goes to the whole foreground group; the learner decides when its trainer ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing that is imported is garbage, and looking for it took a sixth of the time. Who stands by enables it again.
    gc.disable()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
