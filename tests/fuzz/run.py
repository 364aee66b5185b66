"""Fuzz targets under atheris, guided by coverage; new inputs that reach new lines go to the kept corpus.

Each target runs in a process of its own with kernels compiled anew so that an index out of bounds is an error. What
breaks an invariant, takes more than 20 seconds or 2 GB goes to `build/fuzz/findings/TARGET`, with the command that
replays it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORPUS, BUILD = ROOT / "tests" / "fuzz" / "corpus", ROOT / "build" / "fuzz"
# Inputs a target, bytes of one; bytes of an input while fuzzing.
KEPT, KEPT_BYTES, MAX_BYTES = 40, 1500, 4096
TOKEN = re.compile(rb'"[^"\n]{0,30}"|<[^<>\n]{0,30}>|[A-Za-z][\w-]{1,30}|[\x80-\xff]{2,30}')  # what mutations insert
OF_JSON = ("tokenizer", "model", "manifests")
STRANGE = (
    *"null true -1 0 1 1.5 1e308 1099511627776 9223372036854775808 [] {} [[]]".split(),
    "[" * 300 + "]" * 300,
    *map(json.dumps, ("", "好", "\ud800", "\0", "../x", "/x", "a" * 300)),
)
LIMITS = (f"-max_len={MAX_BYTES}", "-rss_limit_mb=2048", "-timeout=20")
EXAMPLES = """examples:
  python -m tests.fuzz.run jsonl html --seconds 300 --seed 7
  python -m tests.fuzz.run html --replay build/fuzz/findings/html/crash-0123"""


def main() -> int:
    """Fuzz, or replay one input; return 1 where something was found."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="functions of targets.py; all where none is named")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: 1)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="call the target with one input, without atheris")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return fuzz(args.targets[0], args.seconds, args.seed)
    from tests.fuzz.targets import TARGETS

    unknown = [name for name in args.targets if name not in TARGETS]
    if unknown or (args.replay and len(args.targets) != 1):
        parser.error(f"targets are {', '.join(TARGETS)}; a replay takes one")
    if args.replay:
        TARGETS[args.targets[0]](args.replay.read_bytes())
        return 0
    failed = [name for name in args.targets or TARGETS if not one(name, args.seconds, args.seed)]
    for name in args.targets or TARGETS:
        keep(name)
    for name in failed:
        for path in sorted((BUILD / "findings" / name).iterdir()):
            print(f"found: python -m tests.fuzz.run {name} --replay {path.relative_to(ROOT)}")
    return int(bool(failed))


def one(name: str, seconds: int, seed: int) -> bool:
    """Fuzz a target in a process of its own; return whether nothing was found."""
    for folder in ("findings", "corpus"):
        (BUILD / folder / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.run", "--inside", name, f"--seconds={seconds}", f"--seed={seed}"]
    # Numba's cache does not tell kernels with bounds checked from those without.
    apart = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(BUILD / "numba")}
    print(f"{name}: {seconds} s", flush=True)
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **apart}, check=False).returncode == 0


def fuzz(name: str, seconds: int, seed: int) -> int:
    """Run libFuzzer over a target; it ends the process."""
    import atheris

    kernels = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "slimpajama").rglob("*.py"))
        if {"@numba.njit", "@compiled"} & set(re.findall(r"@[\w.]+", path.read_text(encoding="utf-8")))
    ]
    with atheris.instrument_imports(include=["slimpajama", "polib", "warcio", "jieba"], exclude=kernels):
        import polib  # noqa: F401 -- imported late by the readers
        import warcio.archiveiterator  # noqa: F401

        from tests.fuzz.targets import TARGETS
    # In order: counters are numbered as they come.
    for module in sorted(sys.modules.keys() & {*kernels}):
        # The plain ones; numba compiles the others as written.
        for function in vars(sys.modules[module]).values():
            if isinstance(function, types.FunctionType) and function.__module__ == module:
                atheris.instrument_func(function)
    found, made, kept = BUILD / "findings" / name, BUILD / "corpus" / name, CORPUS / name
    tokens = set()
    for path in sorted(kept.iterdir()):
        # Compiles the kernels, which takes longer than an input may.
        TARGETS[name](path.read_bytes())
        tokens.update(TOKEN.findall(path.read_bytes()))
    dictionary = BUILD / f"{name}.dict"
    dictionary.write_text("".join(f'"{escaped(token)}"\n' for token in sorted(tokens)), encoding="ascii")
    flags = [f"-dict={dictionary}", f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={found}/"]
    quiet = ["-verbosity=0", "-print_final_stats=1"]
    arguments = [sys.argv[0], *flags, *LIMITS, *quiet, str(made), str(kept)]
    if name in OF_JSON:
        atheris.Setup(arguments, TARGETS[name], custom_mutator=lambda *given: changed(*given, atheris.Mutate))
    else:
        atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()
    return 0


def changed(data: bytes, most: int, seed: int, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """Return JSON, which a byte may precede, with another value at one of its places; else what `mutate` makes."""
    draw, start = random.Random(seed), 0 if data[:1] in b"{[" else 1
    places: list[tuple[Any, Any]] = []
    try:
        left = [whole := json.loads(data[start:])]
        while left:
            node = left.pop()
            keys = [*node] if isinstance(node, dict) else [*range(len(node))] if isinstance(node, list) else []
            places += [(node, key) for key in keys]
            left += [node[key] for key in keys]
        if places and draw.random() < 0.8:
            (node, key), (other, of) = draw.choice(places), draw.choice(places)
            value = json.loads(draw.choice([*STRANGE, json.dumps(other[of])]))
            node[of if isinstance(node, dict) and draw.random() < 0.3 else key] = value
            written = data[:start] + json.dumps(whole).encode()
            if len(written) <= most:
                return written
    except (ValueError, RecursionError):
        pass
    return mutate(data, most)


def escaped(word: bytes) -> str:
    """Return bytes as libFuzzer's dictionaries write them."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word)


def keep(name: str) -> None:
    """Copy to the kept corpus what reaches lines of the library that nothing kept does, the smallest first."""
    from tests.fuzz.targets import TARGETS

    folder = CORPUS / name
    kept = sorted(folder.iterdir())
    new = sorted((BUILD / "corpus" / name).iterdir(), key=lambda path: (path.stat().st_size, path.name))
    seen: set[tuple[str, int]] = set()

    def trace(frame: types.FrameType, event: str, _: object) -> object:
        path = frame.f_code.co_filename
        if event == "line":
            seen.add((path, frame.f_lineno))
        return trace if path.startswith(str(ROOT / "slimpajama")) else None

    count = len(kept)
    for path in [*kept, *new]:
        if count >= KEPT or path.stat().st_size > KEPT_BYTES:
            continue
        before, data = len(seen), path.read_bytes()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            TARGETS[name](data)
        except Exception:
            # A finding is not kept: it is mended first.
            continue
        finally:
            sys.settrace(None)
        if path.parent != folder and len(seen) > before:
            count += 1
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
