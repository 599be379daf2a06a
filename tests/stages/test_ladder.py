"""The rungs of the ladder: the same caption in other words, for pictures and controls alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.errors import PlanError
from byrote.plan import LadderPlan
from byrote.stages import ladder

CAPTION = "a woman wearing a red hat, near an old house"
EVERY = LadderPlan(rungs=("none", "users", "truncated", "paraphrase", "caption", "adversarial"))


def test_truncated_keeps_the_first_half_of_the_words():
    assert ladder.truncated("one two three four five") == "one two three"
    assert ladder.truncated("a dog, a cat") == "a dog"


def test_a_paraphrase_turns_the_parts_and_replaces_common_words():
    assert ladder.paraphrase(CAPTION) == "close to an elderly home, a lady dressed in a red hat"
    assert ladder.paraphrase("a boat") == "a view of a boat"


def test_the_adversarial_text_says_the_caption_twice():
    assert ladder.adversarial("a boat").count("a boat") == 2


@given(st.text(max_size=60))
def test_no_rung_asks_with_the_caption_itself_or_with_nothing(caption):
    for rung, text in ladder.climb(caption, EVERY, {}):
        assert text, rung
        assert text != caption, rung


def test_rungs_come_in_the_order_of_contrivance_and_only_those_that_are_asked():
    assert [rung for rung, _ in ladder.climb(CAPTION, EVERY, {})] == ["truncated", "paraphrase", "adversarial"]
    assert [rung for rung, _ in ladder.climb(CAPTION, LadderPlan(("truncated", "caption")), {})] == ["truncated"]


def test_texts_of_ones_own_take_the_place_of_the_rules(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text('caption,rung,text\n"a boat, at sea",paraphrase,"at sea: a boat"\n', encoding="utf-8")
    texts = ladder.read_texts(path)
    assert dict(ladder.climb("a boat, at sea", EVERY, texts))["paraphrase"] == "at sea: a boat"
    ladder.check_texts(path, ["a boat, at sea"], texts)


def test_texts_that_hold_some_captions_and_not_others_are_refused(tmp_path):
    texts = {("a boat", "paraphrase"): "boat"}
    with pytest.raises(PlanError, match="no text for 1 of the 2 captions asked, 'a car' first"):
        ladder.check_texts(tmp_path / "texts.csv", ["a boat", "a car"], texts)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("caption,text\n", "its columns are"),
        ("caption,rung,text\na,paraphras,b\n", "line 2: unknown rung 'paraphras' .did you mean 'paraphrase'"),
        ("caption,rung,text\na,caption,b\n", "unknown rung 'caption'"),
    ],
)
def test_a_bad_file_of_texts_is_told_by_line(tmp_path, text, told):
    path = tmp_path / "texts.csv"
    path.write_text(text)
    with pytest.raises(PlanError, match=told):
        ladder.read_texts(path)


def test_users_prompts_are_read_once_each_without_empty_lines(tmp_path):
    path = tmp_path / "users.txt"
    path.write_text("a cat\n\n  a dog \na cat\n")
    assert ladder.read_users(path) == ("a cat", "a dog")
    path.write_text("\n\n")
    with pytest.raises(PlanError, match="holds no prompt"):
        ladder.read_users(path)
    with pytest.raises(PlanError, match="cannot be read"):
        ladder.read_users(tmp_path / "nowhere.txt")
