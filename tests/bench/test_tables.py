import csv
import io

from restore_cli.bench.tables import to_csv, to_latex, to_markdown

TABLE = (["set", "weights"], [["a|b", "my_net, 50 %"], ["", "\\x^2"]])


def test_csv_is_read_back_as_it_was():
    assert list(csv.reader(io.StringIO(to_csv(TABLE)))) == [TABLE[0], *TABLE[1]]


def test_a_bar_in_a_cell_does_not_end_it_in_markdown():
    assert to_markdown(TABLE).splitlines() == [
        "| set | weights |",
        "| --- | --- |",
        r"| a\|b | my_net, 50 % |",
        r"|  | \x^2 |",
    ]


def test_special_signs_are_escaped_in_latex():
    lines = to_latex(TABLE).splitlines()
    assert lines[0] == r"\begin{tabular}{ll}"
    assert r"a|b & my\_net, 50 \% \\" in lines
    assert r" & \textbackslash{}x\textasciicircum{}2 \\" in lines
