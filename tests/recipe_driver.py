"""Types the commands of docs/extending.md, in a process that imports a package of its own.

    python recipe_driver.py FOLDER

The folder holds ``commands.json``, the arguments of each recipe's commands, and ``run``, where they
are typed. Exit code, standard output and standard error of each go to ``told.json``, and the place
of the package too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import s4m_pipeline
from s4m_pipeline.cli import main
from s4m_pipeline.labels.page import write_label_page


def call(arguments: list[str]) -> tuple[Any, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code or 0
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":  # the processes of a command import this file too
    write_label_page.__defaults__ = (2,)  # as in tests/workshop.py
    folder = Path(sys.argv[1])
    os.chdir(folder / "run")
    commands = json.loads((folder / "commands.json").read_text())
    told = {name: [call(arguments) for arguments in some] for name, some in commands.items()}
    told["package"] = s4m_pipeline.__file__
    (folder / "told.json").write_text(json.dumps(told))
