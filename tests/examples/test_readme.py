"""The README's table is the one that the recorded runs give."""

import table


def test_table_is_up_to_date():
    assert table.BEGIN + table.table() + table.END in table.README.read_text()


def test_every_script_has_a_run():
    for script in table.HERE.glob("*_*.py"):
        if script.stem != "prepare_data":
            assert f"`{script.name}" in table.table()
