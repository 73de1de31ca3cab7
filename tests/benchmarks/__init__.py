"""Speed and checks against references, as commands: `python -m tests.benchmarks.NAME`."""
