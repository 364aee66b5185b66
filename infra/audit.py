"""`make audit`: a bill of materials of what is installed, and what is publicly known against the pinned versions.

    build/audit/bin/python infra/audit.py .venv/bin/python

Writes build/sbom.cdx.json (CycloneDX 1.6) and build/advisories.json (pip-audit). Exit code 0 only if every version was
asked about and nothing is known; a service that cannot be reached, or does not know a package, is no good news.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BUILD = Path("build")
SBOM, ADVISORIES = BUILD / "sbom.cdx.json", BUILD / "advisories.json"


def verdict(advisories: dict[str, Any] | None) -> tuple[int, list[str]]:
    """Return an exit code and lines to print.

    Args:
        advisories: What pip-audit wrote; None where it wrote nothing.
    """
    if advisories is None:
        return 1, ["the advisory service could not be reached: nothing is known of these versions, good or bad"]
    packages = advisories["dependencies"]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    known = [(one, flaw) for one in packages for flaw in one.get("vulns", [])]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for one, flaw in known
    ]
    if len(skipped) == len(packages):
        lines.append("the advisory service knows none of these packages: it is no mirror of the public one")
    elif skipped:
        lines.append(f"{len(skipped)} of {len(packages)} could not be asked about: {', '.join(skipped)}")
    elif not known:
        lines.append(f"nothing is known against {len(packages)} versions")
    return int(bool(known or skipped)), lines


def main(python: str) -> int:
    """Write both files and return the exit code."""
    tools = Path(sys.executable).parent
    ADVISORIES.unlink(missing_ok=True)
    subprocess.run(
        [
            tools / "cyclonedx-py",
            "environment",
            "--pyproject",
            "pyproject.toml",
            "--output-reproducible",
            "--output-file",
            SBOM,
            python,
        ],
        check=True,
    )
    print(f"audit: {SBOM} lists {len(json.loads(SBOM.read_text(encoding='utf-8'))['components'])} packages")
    done = subprocess.run(
        [
            tools / "pip-audit",
            "--disable-pip",
            "--no-deps",
            "--requirement",
            "requirements.lock",
            "--timeout",
            "10",
            "--progress-spinner",
            "off",
            "--format",
            "json",
            "--output",
            ADVISORIES,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    there = ADVISORIES.is_file() and ADVISORIES.stat().st_size
    code, lines = verdict(json.loads(ADVISORIES.read_text(encoding="utf-8")) if there else None)
    if not there:
        lines += done.stderr.strip().splitlines()[-1:]
    for line in lines:
        print(f"audit: {line}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
