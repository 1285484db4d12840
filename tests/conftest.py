"""What holds for all tests under tests/."""

import signal

# A shell starts its background jobs with SIGINT ignored, and children inherit that: tests that
# interrupt a server would wait until they time out.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
