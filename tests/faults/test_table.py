"""The table of docs/reliability.md: counts of the same kind are added up."""


def test_counts_are_added_up_by_kind_and_stage(tool):
    lines = [("refine", "b", 2), ("structure", "a", 1), ("refine", "b", 3), ("refine", "a", 4)]
    _, _, *rows = tool("reliability_table").table(lines).splitlines()
    assert rows == [
        "| what happens | `structure` | `refine` | all |",
        "| --- | --- | --- | --- |",
        "| a | 1 | 4 | 5 |",
        "| b |  | 5 | 5 |",
        "| all | 1 | 9 | 10 |",
    ]
