import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops_core.evaluation import EvaluationPolicy, Evidence, chart_rows, comparison_table, judge
from llmops_core.evaluation_report import marked, row_id
from llmops_core.verdict import Verdict, overall

POLICY = EvaluationPolicy(minimums={"new_facts": 0.95})


def suite(correct, total, **changed):
    figures = {"name": "new_facts", "metric": "exact_match", "correct": correct, "total": total}
    return {**figures, "errors": 0, "minimum": 0.95, **changed}


def predicted(wrong, total, name="new_facts"):
    """One prediction a row; `wrong` are the numbers of the rows that were answered wrongly."""
    return [{"suite": name, "row": f"row-{row}", "correct": row not in wrong} for row in range(total)]


def evidence(wrong, total, **changed):
    wrong = set(wrong)
    return Evidence.read({"suites": [suite(total - len(wrong), total, **changed)]}, predicted(wrong, total))


def only(findings):
    (finding,) = findings
    return finding


@pytest.mark.parametrize("total", [220, 440, 880])
@pytest.mark.parametrize("share", [0.96, 0.975, 0.99])
def test_a_good_model_passes_on_several_hundred_rows(total, share):
    finding = only(judge(evidence(range(round(total * (1 - share))), total), None, POLICY))
    assert finding.verdict is Verdict.PASSED, finding.reason


@given(st.integers(1, 3000), st.floats(0, 1))
def test_a_share_below_the_minimum_never_passes(total, part):
    correct = round(total * part)
    finding = only(judge(evidence(range(total - correct), total), None, POLICY))
    if correct / total < 0.95:
        assert finding.verdict is Verdict.FAILED
    assert (finding.verdict is Verdict.FAILED) == (correct / total < 0.95)


def test_a_perfect_score_on_a_handful_of_rows_is_not_enough():
    assert only(judge(evidence([], 35), None, POLICY)).verdict is Verdict.INCONCLUSIVE
    assert only(judge(evidence([], 36), None, POLICY)).verdict is Verdict.PASSED


def test_the_documented_table_of_right_answers_holds():
    for total, correct in ((36, 36), (50, 50), (100, 97), (200, 191), (400, 380), (1000, 950)):
        assert only(judge(evidence(range(total - correct), total), None, POLICY)).verdict is Verdict.PASSED
        fewer = only(judge(evidence(range(total - correct + 1), total), None, POLICY))
        assert fewer.verdict is not Verdict.PASSED


def test_a_request_that_failed_is_an_error_although_the_rest_is_right():
    finding = only(judge(evidence([0], 400, errors=1), None, POLICY))
    assert finding.verdict is Verdict.ERROR
    assert "1 of 400 rows got no answer" in finding.reason


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"correct": math.nan}, "correct"),
        ({"correct": True}, "correct"),
        ({"correct": None}, "correct"),
        ({"correct": 401}, "more than 400 rows"),
        ({"correct": 399, "errors": 2}, "more than 400 rows"),
        ({"total": 0, "correct": 0}, "no rows"),
        ({"total": "400"}, "total"),
        ({"minimum": math.nan}, "minimum"),
        ({"minimum": 1.5}, "minimum"),
        ({"metric": "vibes"}, "the metric 'vibes' is not known"),
        ({"errors": -1}, "errors"),
    ],
)
def test_figures_that_mean_nothing_are_an_error_never_a_pass(changed, reason):
    finding = only(judge(Evidence.read({"suites": [{**suite(400, 400), **changed}]}, predicted([], 400)), None, POLICY))
    assert finding.verdict is Verdict.ERROR
    assert finding.value is None
    assert reason in finding.reason


@pytest.mark.parametrize("field", ["metric", "correct", "total", "errors", "minimum"])
def test_a_missing_figure_is_an_error(field):
    figures = suite(400, 400)
    del figures[field]
    finding = only(judge(Evidence.read({"suites": [figures]}, predicted([], 400)), None, POLICY))
    assert finding.verdict is Verdict.ERROR
    assert field in finding.reason


@pytest.mark.parametrize("report", [{}, {"suites": []}, {"suites": None}, [], None, {"suites": [3]}, {"suites": [{}]}])
def test_a_report_of_nothing_is_an_error(report):
    findings = judge(Evidence.read(report, []), None, POLICY)
    assert overall(findings) is Verdict.ERROR
    assert {"new_facts"} <= {finding.name for finding in findings}


def test_a_demanded_suite_that_was_left_out_is_an_error():
    policy = EvaluationPolicy(minimums={"new_facts": 0.95, "base_facts": 0.95})
    findings = {finding.name: finding for finding in judge(evidence([], 400), None, policy)}
    assert findings["new_facts"].verdict is Verdict.PASSED
    assert findings["base_facts"].verdict is Verdict.ERROR
    assert findings["base_facts"].reason == "the suite was not run"


def test_a_report_that_lowered_its_own_bar_is_an_error():
    finding = only(judge(evidence(range(40), 400, minimum=0.5), None, POLICY))
    assert finding.verdict is Verdict.ERROR
    assert "made for a minimum of 0.5, demanded is 0.95" in finding.reason


def test_a_suite_beyond_those_demanded_is_judged_by_its_own_minimum():
    report = {"suites": [suite(400, 400), suite(100, 200, name="extra", minimum=0.9)]}
    rows = predicted([], 400) + predicted(range(100), 200, "extra")
    verdicts = {finding.name: finding.verdict for finding in judge(Evidence.read(report, rows), None, POLICY)}
    assert verdicts == {"new_facts": Verdict.PASSED, "extra": Verdict.FAILED}


@pytest.mark.parametrize(
    "rows, reason",
    [
        (predicted([], 399), "400 of 400 right, its predictions 399 of 399"),
        (predicted([1], 400), "400 of 400 right, its predictions 399 of 400"),
        (predicted([], 400) + predicted([], 1), "predicted twice"),
        ([], "its predictions 0 of 0"),
    ],
)
def test_figures_that_the_predictions_do_not_bear_out_are_an_error(rows, reason):
    finding = only(judge(Evidence.read({"suites": [suite(400, 400)]}, rows), None, POLICY))
    assert finding.verdict is Verdict.ERROR
    assert reason in finding.reason


@pytest.mark.parametrize("row", [None, {}, {"suite": "new_facts", "row": "x", "correct": 1}, {"suite": "new_facts"}])
def test_a_prediction_of_the_wrong_shape_is_named_by_its_line(row):
    findings = judge(Evidence.read({"suites": [suite(400, 400)]}, [*predicted([], 400), row]), None, POLICY)
    bad = next(finding for finding in findings if finding.name == "predictions")
    assert bad.verdict is Verdict.ERROR
    assert bad.reason.startswith("line 401: ")


def test_predictions_without_figures_and_suites_named_twice_are_errors():
    report = {"suites": [suite(400, 400), suite(400, 400)]}
    finding = only(judge(Evidence.read(report, predicted([], 400)), None, POLICY))
    assert (finding.verdict, finding.reason) == (Verdict.ERROR, "two suites of the report have this name")
    rows = predicted([], 400) + predicted([], 5, "stray")
    verdicts = {f.name: f.verdict for f in judge(Evidence.read({"suites": [suite(400, 400)]}, rows), None, POLICY)}
    assert verdicts == {"new_facts": Verdict.PASSED, "stray": Verdict.ERROR}


@pytest.mark.parametrize(
    "wrong, production_wrong, verdict, said",
    [
        (range(10), range(10), Verdict.PASSED, "0 rows newly right, 0 newly wrong of 600"),
        (range(4), range(4, 12), Verdict.PASSED, "8 rows newly right, 4 newly wrong of 600"),
        (range(8), range(8, 14), Verdict.PASSED, "not worse by more than 0.02"),
        (range(12), range(12, 20), Verdict.INCONCLUSIVE, "too few rows to rule out a loss of 0.02"),
        (range(20), range(3), Verdict.FAILED, "worse by more than 0.02"),
    ],
)
def test_the_production_model_on_the_same_rows_decides(wrong, production_wrong, verdict, said):
    findings = judge(evidence(wrong, 600), evidence(production_wrong, 600), POLICY)
    compared = findings[1]
    assert compared.name == "new_facts_against_production"
    assert compared.verdict is verdict, compared.reason
    assert said in compared.reason


def test_other_rows_cannot_be_compared():
    rows = [{**row, "row": f"new-{row['row']}" if row["row"] == "row-0" else row["row"]} for row in predicted([], 400)]
    findings = judge(Evidence.read({"suites": [suite(400, 400)]}, rows), evidence([], 400), POLICY)
    assert findings[0].verdict is Verdict.PASSED
    assert findings[1].verdict is Verdict.ERROR
    assert findings[1].reason == "the rows differ: 1 new, 1 gone"


@pytest.mark.parametrize(
    "production, reason",
    [
        (Evidence.read({"suites": []}, []), "it has no suites"),
        (evidence([0], 400, errors=1), "1 of the production model's answers never came"),
        (evidence([], 400, metric="vibes"), "not known"),
    ],
)
def test_a_production_model_that_was_not_measured_is_an_error_not_zero(production, reason):
    compared = judge(evidence([], 400), production, POLICY)[1]
    assert compared.verdict is Verdict.ERROR
    assert compared.value is None
    assert reason in compared.reason


def test_the_table_shows_figures_where_there_are_any():
    policy = EvaluationPolicy(minimums={"new_facts": 0.95, "base_facts": 0.9})
    new, base = comparison_table(evidence(range(4), 400), evidence(range(4, 12), 400), policy)[::-1]
    assert base == {
        "suite": "base_facts",
        "rows": 0,
        "candidate": "–",
        "minimum": "0.900",
        "baseline": "–",
        "difference": "–",
        "mcnemar_p": "–",
        "verdict": "error",
    }
    assert new["candidate"].startswith("0.990 (")
    assert new["difference"].startswith("0.010 (")
    assert (new["mcnemar_p"], new["verdict"]) == ("0.388", "passed")
    assert comparison_table(evidence([], 400), None, POLICY)[0]["baseline"] == "–"


def test_the_chart_has_numbers_for_what_was_measured_and_nothing_else():
    policy = EvaluationPolicy(minimums={"new_facts": 0.95, "base_facts": 0.9})
    (row,) = chart_rows(evidence(range(4), 400), evidence(range(8), 400), policy)
    assert (row["suite"], row["value"], row["minimum"], row["baseline"]) == ("new_facts", 0.99, 0.95, 0.98)
    assert row["low"] < row["value"] < row["high"]
    assert chart_rows(evidence([], 400), None, POLICY)[0]["baseline"] is None


@pytest.mark.parametrize("changed", [{"minimums": {}}, {"minimums": {"a": math.nan}}, {"confidence": 1}])
def test_a_policy_that_demands_nothing_is_refused(changed):
    with pytest.raises(ValidationError):
        EvaluationPolicy(**{"minimums": {"a": 0.9}, **changed})


ROWS = [(f"question {number}", f"answer {number}") for number in range(400)]


def told(count=400, answer=None, correct=True):
    lines = [
        {"suite": "new_facts", "row": row_id(*row), "answer": answer or row[1], "correct": correct} for row in ROWS
    ]
    return lines[:count]


def judged(lines):
    found = Evidence.read({"suites": [suite(400, 400)]}, marked(lines, {"new_facts": ROWS}))
    return overall(judge(found, None, POLICY))


def test_honest_marks_were_not_believed():
    assert judged(told()) is Verdict.PASSED


@pytest.mark.parametrize(
    "lines",
    [
        told(answer="nonsense"),
        told(count=399),
        [*told(count=399), {"suite": "new_facts", "row": "made up", "answer": "x", "correct": True}],
        [*told(count=399), told()[0]],
        [*told(count=399), {**told()[399], "row": ["a list"]}],
        [*told(count=399), ["no object"]],
        [*told(count=399), {**told()[399], "answer": None}],
    ],
)
def test_marks_that_the_dataset_does_not_confirm_passed(lines):
    assert judged(lines) is not Verdict.PASSED
