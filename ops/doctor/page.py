"""docs/TROUBLESHOOTING.md: `python -m ops.doctor.page > docs/TROUBLESHOOTING.md`."""

from __future__ import annotations

import sys

from ops.doctor.problems import PROBLEMS, Problem

HEAD = """\
# Troubleshooting

```sh
rushes doctor                                     # looks at everything, and tries it
rushes doctor --log ~/.rushes/logs/worker-0.log   # finds the problems below in a log
rushes serve ... --log-level debug                # says more, in every process and rank
```

Each line of `rushes doctor` that is not `ok` names what mends it; the exit code is 1 if something cannot
work. This page is made from what the doctor knows (`ops/doctor/problems.py`); a test holds them together.
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_section(problem) for problem in PROBLEMS)


def _section(problem: Problem) -> str:
    steps = "\n".join(problem.fix)
    return f"\n## {problem.name}\n\n{problem.cause}\n\n```sh\n{steps}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
