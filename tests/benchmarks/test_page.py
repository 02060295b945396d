from page import markdown_table


def test_a_table_is_aligned_and_its_bars_are_escaped():
    seconds = dict.fromkeys(["load", "prepare", "predict", "export"], 1.0)
    empty = dict.fromkeys(["over_idle_mb", "first_final_seconds", "ratio", "stage_ratio", "memory_ratio"])
    row = {"way": "exact", "failure": None, "seconds": 4.0, "stages": seconds, "equal": 0.5, **empty}
    worst = {"worst_dice": 0.25, "worst_label": "7 left|kidney"}
    lost = {"way": "nnU-Net", "failure": "a|b", "seconds": None, "stages": dict.fromkeys(seconds), "equal": None}
    lines = markdown_table([row | worst, lost | empty | dict.fromkeys(worst)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.2500 (7 left\\|kidney)" in lines[2]
    assert lines[3].startswith("| nnU-Net, failed: a\\|b |")
