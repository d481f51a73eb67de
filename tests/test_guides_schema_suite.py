"""The JSON-Schema-Test-Suite: without a warning, no text is allowed that a schema refuses."""

import pytest
from guided_texts import tiny_tokenizer
from schema_suite import DRAFTS, SUITE, cases, outcomes

pytest.importorskip("llguidance", reason="llguidance is not installed")


@pytest.mark.skipif(not SUITE, reason="JSON_SCHEMA_TEST_SUITE does not name the suite's folder of tests")
@pytest.mark.parametrize("draft", DRAFTS)
def test_no_text_is_allowed_that_a_schema_refuses(draft):
    tokenizer = tiny_tokenizer()
    results = [(case.name, *outcome) for case in cases(draft) for outcome in outcomes(case, tokenizer)]

    wrong = [result for result in results if result[5] == "exact" and result[4] and not result[3]]
    good = [result for result in results if result[3]]
    exact = [result for result in good if result[4] and result[5] == "exact"]

    assert not wrong
    assert len(exact) > 0.75 * len(good)
