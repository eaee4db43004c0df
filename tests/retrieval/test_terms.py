from __future__ import annotations

from sizewise.retrieval.terms import terms_of


def test_numbers_are_compared_by_value_however_they_are_written() -> None:
    assert terms_of("1,200 1.200 1'200 1 200 1200")[:2] == ["1200", "1200"]
    assert set(terms_of("1,200 or 1.200 or 1\u202f200 or 1200")) == {"1200", "or"}
    assert terms_of("5.0") == terms_of("5,00") == terms_of("5") == ["5"]
    assert terms_of("1.234.567,89") == ["1234567.89"]
    assert terms_of("0.125") == ["0.125"]
    assert terms_of("١٢٣") == ["123"]
    assert terms_of("30天") == ["30", "天"]
    assert terms_of("12,000") != terms_of("12")
