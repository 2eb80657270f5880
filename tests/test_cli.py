"""The command line: what a user sees, exit codes, and what is not imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from s4m_pipeline import __version__
from s4m_pipeline.cli import main
from s4m_pipeline.errors import S4MError
from tests.small_sets import coco_content, write_images, write_json

COMMANDS = [
    "run",
    "structure",
    "train-teacher",
    "pseudo-label",
    "refine",
    "train-student",
    "evaluate",
    "status",
    "demo",
    "init",
    "report",
    "doctor",
    "data",
    "artifacts",
    "convert-checkpoint",
]
HEAVY = ("torch", "mmdet", "mmengine", "mmcv", "sam2", "cv2", "onnxruntime")
ARRAYS = ("numpy", "scipy", "pyarrow", "PIL", "pycocotools", "rlemasklib")
CALIBRATED = ("refine.policy=auto", "pseudo_label.thresholds=precision")
VALIDATED = ("data.validation.images=photos", "data.validation.annotations=labelled.json")


@pytest.fixture
def s4m(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_help_names_every_command(s4m):
    code, out, _ = s4m("--help")
    assert code == 0
    for command in COMMANDS:
        assert command in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(s4m, command):
    code, out, _ = s4m(command, "--help")
    assert code == 0
    assert "Usage" in out


def test_version(s4m):
    assert s4m("--version")[1] == f"s4m {__version__}\n"


def test_unknown_command_is_wrong_use(s4m):
    code, _, err = s4m("refyne")
    assert code == 2
    assert "refyne" in err


def test_init_writes_a_run_file_and_does_not_overwrite(s4m, tmp_path):
    path = tmp_path / "run.yaml"
    assert s4m("init", path)[0] == 0
    assert "work_dir" in path.read_text()
    code, _, err = s4m("init", path)
    assert code == 2
    assert "does not overwrite" in err


def test_init_names_the_templates(s4m, tmp_path):
    code, _, err = s4m("init", tmp_path / "run.yaml", "--template", "coko")
    assert code == 2
    assert "small" in err


@pytest.mark.parametrize("limit", [0, -1])
def test_a_report_of_no_image_is_wrong_use(s4m, tmp_path, limit):
    code, _, err = s4m("report", "-c", tmp_path / "run.yaml", "--limit", limit)
    assert code == 2
    assert "--limit" in err


def imported_by(*arguments, packages=HEAVY):
    """Which of some packages a command imports, in a process of its own."""
    program = (
        "import sys\nfrom s4m_pipeline.cli import main\n"
        f"try:\n    main({list(map(str, arguments))!r})\nexcept SystemExit as end:\n"
        "    code = end.code\n"
        f"print('IMPORTED', code, [n for n in {packages!r} if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


def small_run(folder):
    from PIL import Image

    for name, colour in (("photos", "red"), ("unlabelled", "blue")):
        (folder / name).mkdir()
        Image.new("RGB", (32, 32), colour).save(folder / name / "a.png")
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[1, 1, 9, 1, 9, 9]],
    }
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 32, "width": 32}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (folder / "labelled.json").write_text(json.dumps(content))
    (folder / "run.yaml").write_text(
        "work_dir: work\ndata:\n  labelled: {images: photos, annotations: labelled.json}\n"
        "  unlabelled: {images: unlabelled}\n"
        "segmenter: {name: demo, image_size: 64}\nteacher: {model: mask2former_demo}\n"
        "student: {model: mask2former_demo}\n"
    )
    return folder / "run.yaml"


@pytest.mark.parametrize("command", [["--help"], ["refine", "--help"], ["init", "--help"]])
def test_help_imports_nothing_heavy_and_nothing_for_pixels_or_tables(command):
    assert imported_by(*command, packages=HEAVY + ARRAYS) == "IMPORTED 0 []"


@pytest.mark.parametrize("change", [(), CALIBRATED, VALIDATED])
def test_status_imports_nothing_heavy_and_nothing_for_pixels_or_tables(tmp_path, change):
    command = ["status", "-c", small_run(tmp_path), *change]
    assert imported_by(*command, packages=HEAVY + ARRAYS) == "IMPORTED 0 []"


def test_dry_run_imports_nothing_heavy(tmp_path):
    assert imported_by("run", "-c", small_run(tmp_path), "--dry-run") == "IMPORTED 0 []"


def test_status_as_json_names_stage_state_and_fingerprint(s4m, tmp_path):
    code, out, _ = s4m("status", "-c", small_run(tmp_path), "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["stage"] for row in rows] == [
        "structure",
        "train-teacher",
        "pseudo-label",
        "refine",
        "train-student",
    ]
    assert {row["state"] for row in rows} == {"missing"}
    assert all(len(row["fingerprint"]) == 16 for row in rows)


def test_dry_run_makes_nothing(s4m, tmp_path):
    code, out, _ = s4m("run", "-c", small_run(tmp_path), "--dry-run")
    assert code == 0
    assert "train-teacher" in out
    assert not list((tmp_path / "work").glob("*/*/"))


def test_an_unexpected_error_is_one_message_and_verbose_shows_the_traceback(
    s4m, tmp_path, monkeypatch
):
    from s4m_pipeline.workflow import pipeline

    def fails(_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(pipeline, "status", fails)
    path = small_run(tmp_path)
    code, _, err = s4m("status", "-c", path)
    assert (code, "Traceback" in err) == (1, False)
    assert "ZeroDivisionError" in err
    assert "Traceback" in s4m("status", "-c", path, "--verbose")[2]


class OutOfMemoryError(RuntimeError):
    """Stands for torch's, which the command line knows by its name alone."""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.json"), 2, "a.json: No such file"),
        (OSError(28, "No space left on device", "work/a.parquet"), 1, "work/a.parquet: No space"),
        (OutOfMemoryError("CUDA out of memory. Tried"), 1, "Lower batch_size"),
        (MemoryError(), 1, "Lower batch_size"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), 1, "Lower batch_size"),
    ],
)
def test_what_the_system_refuses_is_told_as_wrong_use_or_failure(
    s4m, tmp_path, monkeypatch, error, code, message
):
    from s4m_pipeline.workflow import pipeline

    def fails(_):
        raise error

    monkeypatch.setattr(pipeline, "status", fails)
    exit_code, _, err = s4m("status", "-c", small_run(tmp_path))
    assert exit_code == code
    assert message in err
    assert "bug in s4m" not in err


@pytest.mark.parametrize("name", ["a" * 300, "b" * 5000, "loop", "loop/photos"])
@pytest.mark.parametrize(
    "command",
    [
        ["status", "-c", "{}"],
        ["data", "check", "--images", "photos", "--annotations", "{}"],
        ["data", "check", "--annotations", "labels.json", "--images", "{}"],
        ["data", "clean", "--annotations", "{}", "--images", "photos", "--out", "out.json"],
        ["data", "clean", "--annotations", "labels.json", "--images", "photos", "--out", "{}"],
        ["structure", "-c", "run.yaml", "work_dir={}"],
        ["structure", "-c", "run.yaml", "data.labelled.images={}"],
        ["structure", "-c", "run.yaml", "data.labelled.annotations={}"],
        ["evaluate", "-c", "run.yaml", "--images", "{}", "--annotations", "labels.json"],
        ["artifacts", "list", "{}"],
        ["report", "-c", "run.yaml", "--out", "{}"],
    ],
    ids=" ".join,
)
def test_a_path_that_no_file_can_have_is_wrong_use(s4m, tmp_path, monkeypatch, command, name):
    small_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    write_images(tmp_path / "photos")
    write_json(tmp_path / "labels.json", coco_content())
    code, _, err = s4m(*(word.replace("{}", name) for word in command))
    assert code == 2
    assert "bug in s4m" not in err


@pytest.mark.parametrize(("target", "told"), [("file", "is a file, not a folder"), ("", "no such")])
@pytest.mark.parametrize("command", ["status", "structure", "run"])
def test_a_work_folder_that_is_a_file_or_leads_nowhere_is_wrong_use(
    s4m, tmp_path, command, target, told
):
    path = small_run(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(target or "nowhere")
    code, _, err = s4m(command, "-c", path, f"work_dir={tmp_path / 'link'}")
    assert code == 2
    assert f"work_dir: {tmp_path / 'link'}" in err
    assert told in err


@pytest.mark.parametrize("command", ["list", "gc"])
def test_a_work_folder_that_is_not_there_is_wrong_use(s4m, tmp_path, command):
    assert s4m("artifacts", command, tmp_path / "nowhere")[0] == 2


@pytest.mark.parametrize(
    ("command", "printed"), [(["list"], ""), (["list", "--json"], "[]\n"), (["gc"], "")]
)
def test_a_folder_without_artifacts_is_told_as_one(s4m, tmp_path, command, printed):
    (tmp_path / "photos").mkdir()
    assert s4m("artifacts", *command, tmp_path) == (0, printed, f"no artifacts in {tmp_path}\n")


def test_a_work_folder_with_nothing_to_remove_is_told_as_one(s4m, tmp_path):
    folder = tmp_path / "refine" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (tmp_path / "refine" / "latest").write_text(folder.name)
    assert s4m("artifacts", "gc", tmp_path) == (0, "", f"nothing to remove in {tmp_path}\n")


def test_a_folder_is_no_checkpoint_to_convert(s4m, tmp_path):
    code, _, err = s4m("convert-checkpoint", tmp_path, tmp_path / "a.pth")
    assert (code, err) == (2, f"error: {tmp_path}: is a folder, not a file\n")


RESUMES = "interrupted; run it again to resume from here\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-teacher", "-c", "a.yaml"], RESUMES),
        (["run", "-c", "a.yaml"], RESUMES),
        (["demo"], RESUMES),
        (["refine", "-c", "a.yaml", "--force"], RESUMES.replace(" to", " without --force to")),
        (["refine", "-c", "a.yaml", "--dry-run"], "interrupted\n"),
        (["evaluate", "-c", "a.yaml"], "interrupted\n"),
        (["data", "check"], "interrupted\n"),
        (["status", "-c", "a.yaml"], "interrupted\n"),
        ([], "interrupted\n"),
    ],
)
def test_an_interrupt_says_that_a_command_goes_on_only_where_it_does(
    s4m, monkeypatch, arguments, message
):
    from s4m_pipeline.commands import app

    def stops(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "call", stops)
    assert s4m(*arguments) == (130, "", message)


@pytest.mark.parametrize("error", [RuntimeError("a worker was killed"), S4MError("a worker ended")])
def test_what_fails_because_of_an_interrupt_is_told_as_one(s4m, monkeypatch, error):
    from s4m_pipeline.commands import app

    def stops(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)  # as to a group: a worker gets it too
            time.sleep(60)
        finally:
            raise error

    monkeypatch.setattr(app, "call", stops)
    assert s4m("refine", "-c", "a.yaml") == (130, "", RESUMES)
    code, _, err = s4m("refine", "-c", "a.yaml", "--verbose")
    assert (code, "Traceback" in err) == (130, True)


def test_an_interrupt_while_the_commands_are_imported_is_told_without_a_traceback():
    program = (
        "import sys\n"
        "class Stops:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stops())\n"
        "from s4m_pipeline.cli import main\n"
        "main(['status', '-c', 'run.yaml'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_a_message(tmp_path):
    path = small_run(tmp_path)
    command = [sys.executable, "-m", "s4m_pipeline.cli", "train-teacher", "-c", str(path)]
    command += ["teacher.structure_weight=0", "teacher.workers=0", "teacher.batch_size=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # a shell's background job, as CI may be, hands down that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "work" / "train-teacher"
    for _ in range(600):
        if list(log.glob("*/log.jsonl")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not list(log.glob("*/manifest.json"))
