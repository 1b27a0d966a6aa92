"""Child processes for bytes that somebody else wrote: bounded, without a network, and forgotten when done.

Whoever parses a stranger's file in C, or runs a stranger's model, does it here, so that a parser that crashes, eats
memory, never ends or is taken over harms one request and nothing else. A child has bounded processor time, address
space and output, an empty environment, its own process group, may write no file, and is ended when time is up.

* `alone.run_file` starts a fresh interpreter for one request (half a second of imports): for work that takes seconds.
* `spawner.Spawner` keeps one interpreter that has imported what the work needs and forks a fresh child for each
  request (a few milliseconds). The children share no state, so one that was taken over cannot lie about the next file;
  they are handed an open file rather than its name, and can open none by name but the interpreter's own.

`confine.py` sets the bounds, from inside the child and before it meets the bytes: code between fork and exec is unsafe
in a threaded parent. What a machine cannot give (no user namespaces, no Landlock) is said, not hidden: `lacking`.
Source: setrlimit(2), user_namespaces(7), network_namespaces(7), landlock(7), prctl(2).
"""

from gongqi.kernel.sandbox.alone import run_file
from gongqi.kernel.sandbox.confine import Bounds
from gongqi.kernel.sandbox.spawner import Outcome, Spawner

__all__ = ["Bounds", "Outcome", "Spawner", "run_file"]
