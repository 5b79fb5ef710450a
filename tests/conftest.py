"""What all tests share."""

import os

# Two test processes on two cores: one thread of the numerical libraries each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
