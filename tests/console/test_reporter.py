from s4m_pipeline.console import reporter
from s4m_pipeline.console.reporter import Reporter


def test_without_a_terminal_progress_is_lines_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(reporter, "LOG_SECONDS", 0.0)
    with Reporter().progress("refine", total=4, done=1) as advance:
        advance(2, "loss 1.5")
        advance(0, "")
        advance(1, "")
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert [line.split(" images")[0] for line in lines] == ["refine: 3/4", "refine: 4/4"]
    assert "loss 1.5" in lines[0]
    assert "s left" in lines[0]
    assert "\x1b" not in captured.err


def test_a_quiet_reporter_says_only_warnings(capsys):
    quiet = Reporter(quiet=True)
    quiet.say("done")
    quiet.warn("few labels")
    err = capsys.readouterr().err
    assert "done" not in err
    assert "few labels" in err
