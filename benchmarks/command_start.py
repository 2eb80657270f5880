"""How soon `s4m --help` and `s4m status` answer in a fresh process: 0.5 s over their time (row 15).

`status` looks at a run of 24 labelled and 300 unlabelled generated scenes of which nothing is made
yet. Python's bytecode is compiled before, as it is after the first command of a user. Another
process of each checks that neither imports torch or another of the large libraries, nor those for
arrays, tables, images and masks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from harness import report, seconds

from s4m_pipeline.data.scenes.scenes import generate_scenes

GOAL, ALLOWED, REPEATS = 1, 0.5, 5
HEAVY = ("torch", "torchvision", "mmdet", "mmengine", "mmcv", "sam2", "cv2", "onnxruntime")
ARRAYS = ("numpy", "scipy", "pyarrow", "PIL", "pycocotools", "rlemasklib")
START = "import sys; from s4m_pipeline.cli import main; main(sys.argv[1:])"
CONFIG = """
work_dir: {folder}/work
data:
  labelled: {{annotations: {folder}/labelled.json, images: {folder}/labelled}}
  unlabelled: {{images: {folder}/unlabelled}}
"""
IMPORTED = """
import json, sys
from s4m_pipeline.cli import main
try:
    main(sys.argv[2:])
except SystemExit as ended:
    json.dump([ended.code, sorted(sys.modules)], open(sys.argv[1], "w"))
"""


def main() -> None:
    """Time both commands and look at what they import."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_scenes(folder, 24, 0, "labelled", size=64)
        generate_scenes(folder, 300, 0, "unlabelled", size=64, with_masks=False)
        (folder / "run.yaml").write_text(CONFIG.format(folder=folder))
        commands = {"--help": ["--help"], "status": ["status", "-c", str(folder / "run.yaml")]}
        # bytecode is written, whatever the environment says, and not beside the sources
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        modules = {k: _imported(folder, given, environment) for k, given in commands.items()}
        times = {key: _times(arguments, environment) for key, arguments in commands.items()}
    for key, taken in times.items():
        print(f"s4m {key}: {median(taken):.3f} s ({min(taken):.3f} to {max(taken):.3f})")
    slowest = max(median(taken) for taken in times.values())
    counts = ", ".join(f"{len(found)} in {key}" for key, found in modules.items())
    equal = f"no {', '.join(HEAVY[:3] + ARRAYS[:3])} among the modules imported ({counts})"
    report("command_start", ALLOWED / slowest, GOAL, equal, seconds=slowest)


def _times(arguments: list[str], environment: dict[str, str]) -> list[float]:
    """Seconds of each timed run, after one that is not timed."""
    command = [sys.executable, "-c", START, *arguments]

    def run() -> None:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"s4m {arguments[0]} failed: {done.stderr.strip()}")

    run()
    return [seconds(run) for _ in range(REPEATS)]


def _imported(folder: Path, arguments: list[str], environment: dict[str, str]) -> list[str]:
    """The modules that a command imports; ends with a message where a heavy one is among them."""
    path = folder / "modules.json"
    command = [sys.executable, "-c", IMPORTED, str(path), *arguments]
    subprocess.run(command, capture_output=True, env=environment)
    code, modules = json.loads(path.read_text())
    heavy = [name for name in HEAVY + ARRAYS if name in modules]
    if code or heavy:
        raise SystemExit(f"s4m {arguments[0]} ended with {code} and imported {heavy}")
    return list(modules)


if __name__ == "__main__":
    main()
