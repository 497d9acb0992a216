"""Files of tagged sentences: which column is what, what is wrong with a line, and tags written back."""

import gzip

import pytest

from unrolled.data.columns import is_text, layout_of
from unrolled.data.tagged import Tagged, check_column, read_sentences, read_tagged
from unrolled.data.text.sentences import sentences
from unrolled.errors import UnrolledError

CONLLU = (
    "# newdoc id = a\n# text = Dogs can't bark\n"
    "1\tDogs\tdog\tNOUN\tNNS\tNumber=Plur\t4\tnsubj\t_\t_\n"
    "2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "2\tca\tcan\tAUX\tMD\t_\t4\taux\t_\t_\n"
    "3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_\n"
    "3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_\n"
    "4\tbark\tbark\tVERB\tVB\tVerbForm=Inf\t0\troot\t_\tSpaceAfter=No\n"
    "\n"
    "# text = #\n"
    "1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_\n"
)
NER = (
    "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n"
    "-DOCSTART- -X- O O\n\n# # B-NP O\n1 CD I-NP O\n\n"
)


def said(call, *args, **kwargs):
    with pytest.raises(UnrolledError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def file(tmp_path):
    def write(text, name="a.txt"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


def back(path, tag, column=None, **how):
    """The text of a file with its tags replaced by a function of the word and its tag's place."""
    (found,) = read_sentences(path, column, **how)
    return "".join(found.tagged([[tag] * len(words) for words in found.words], column))


@pytest.mark.parametrize(
    ("column", "tags"),
    [
        (None, [["NOUN", "AUX", "PART", "VERB"], ["SYM"]]),
        ("xpos", [["NNS", "MD", "RB", "VB"], ["NN"]]),
        ("feats", [["Number=Plur", "_", "_", "VerbForm=Inf"], ["_"]]),
        ("deprel", [["nsubj", "aux", "advmod", "root"], ["root"]]),
        ("5", [["NNS", "MD", "RB", "VB"], ["NN"]]),
    ],
)
def test_conllu_is_read_by_the_name_of_its_column(file, column, tags):
    assert read_tagged(file(CONLLU), column) == Tagged([["Dogs", "ca", "n't", "bark"], ["#"]], tags)


@pytest.mark.parametrize(
    ("column", "tags"),
    [
        (None, [["B-ORG", "O"], ["O", "O"]]),
        ("ner", [["B-ORG", "O"], ["O", "O"]]),
        ("chunk", [["B-NP", "B-VP"], ["B-NP", "I-NP"]]),
        ("pos", [["NNP", "VBZ"], ["#", "CD"]]),
        ("2", [["NNP", "VBZ"], ["#", "CD"]]),
    ],
)
def test_columns_of_conll_2003_have_their_names(file, column, tags):
    assert read_tagged(file(NER), column) == Tagged([["EU", "rejects"], ["#", "1"]], tags)


def test_columns_of_conll_2000_are_three(file):
    path = file("He PRP B-NP\nsaw VBD B-VP\n")
    assert read_tagged(path).tags == read_tagged(path, "chunk").tags == [["B-NP", "B-VP"]]
    assert read_tagged(path, "pos").tags == [["PRP", "VBD"]]
    assert "no column of tags is called 'ner'. Known: pos, chunk, numbers from 1 to 3" in said(read_tagged, path, "ner")


def test_with_tabs_a_word_may_hold_blanks(file):
    assert read_tagged(file("the\tD\nNew York\tN\n\n\nit\tV\n")) == Tagged(
        [["the", "New York"], ["it"]], [["D", "N"], ["V"]]
    )


@pytest.mark.parametrize(("column", "tags"), [(None, ["N", "V"]), ("pos", ["n", "v"]), ("2", ["n", "v"])])
def test_a_first_line_may_name_the_columns(file, column, tags):
    path = file("Word\tpos\ttag\ndogs\tn\tN\nbark\tv\tV\n")
    assert read_tagged(path, column) == Tagged([["dogs", "bark"]], [tags])
    assert "no column of tags is called 'tags'; did you mean 'tag'?" in said(read_tagged, path, "tags")


def test_named_columns_may_come_in_any_order(file):
    assert read_tagged(file("mood\ttoken\n+\tgood\n-\tbad\n"), "mood") == Tagged([["good", "bad"]], [["+", "-"]])


def test_a_first_line_that_names_nothing_known_is_a_word(file):
    assert read_tagged(file("Word\tNOUN\nis\tAUX\n")).words == [["Word", "is"]]


@pytest.mark.parametrize("text", [CONLLU, NER], ids=["conllu", "columns"])
def test_marks_line_ends_and_packing_change_nothing(file, text):
    plain = read_tagged(file(text))
    assert read_tagged(file("\ufeff" + text.replace("\n", "\r\n"), "b.txt")) == plain
    assert read_tagged(file(text.replace("\n", "\r"), "c.txt")) == plain
    assert read_tagged(file(gzip.compress(text.encode()), "d.gz")) == plain


def test_a_files_end_ends_a_sentence_and_a_number_sign_is_a_word(file):
    paths = [file("x\tN\n#\tSYM", "a"), file("# a comment of its own\nz\tN", "b")]
    assert read_tagged(paths).words == [["x", "#"], ["z"]]


LINE = "1\tthe\t_\tDET\t_\t_\t_\t_\t_\t_\n"


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("the\tD\nword\n", None, "a.txt, line 2, is 'word'; expected a word and its tag, with a tab between"),
        ("the D\nword\n", None, "a.txt, line 2, is 'word'; expected a word and its tag, with a blank between"),
        ("the\tD\ncat\tN\tV\n", None, "a.txt, line 2, is 'cat\\tN\\tV', 3 columns; expected a word and one tag"),
        ("the\tD\tx\nthe\tD\n", None, "a.txt, line 2, is 'the\\tD', 2 columns; expected 3, as the lines before"),
        ("word\n", None, "a.txt has one column, words; expected a word and its tag, with a tab between"),
        ("\n\n", None, "a.txt has no sentences; expected words, one a line"),
        ("the\t\n", None, "a.txt, line 1, is 'the\\t': no tag in column 2; expected one"),
        ("\tD\n", None, "a.txt, line 1, is '\\tD': no word; expected a word and its tag"),
        (
            "# a\n" + LINE + "2\tcat\tNOUN\n",
            None,
            "line 3, is '2\\tcat\\tNOUN', 3 columns; expected the ten",
        ),
        (LINE.replace("the", ""), None, "a.txt, line 1, is '1\\t\\t_"),
        (LINE.replace("DET", ""), None, "no tag in column 4; expected one"),
        (LINE, "xpos", "no tag in column 5; expected one"),
        (
            LINE,
            "upso",
            "no column of tags is called 'upso'; did you mean 'upos'? Known: upos, xpos, feats,",
        ),
        (LINE, "lemma", "is CoNLL-U: no column of tags is called 'lemma'"),
        (LINE, "11", "has no tags in column 11: its words are in 2 of numbers from 1 to 10"),
        (LINE, "1", "has no tags in column 1"),
        ("a\tD\n", "1", "has no tags in column 1: its words are in 1 of numbers from 1 to 2"),
        ("a\tD\n", "9" * 5000, "a.txt is a file of 2 columns: no column of tags is called '999"),
        ("the\t \n", None, "a.txt, line 1, is 'the\\t ': no tag in column 2; expected one"),
        (LINE + LINE.replace("1", "x"), None, "a.txt, line 2, is 'x\\tthe\\t"),
        (LINE + LINE.replace("1", "x"), None, "its id is no number, no 1-2, no 1.1"),
        (LINE + "\n1-2" + LINE[1:] + "\n" + LINE, None, "a.txt, line 3: the sentence has no words; leave it out"),
        ("# sent_id = 1\n\n" + LINE, None, "a.txt, line 1: the sentence has no words; leave it out"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(file, text, column, expected):
    assert expected in said(read_tagged, file(text), column)


def test_what_is_called_conllu_is(file):
    said_of_it = "a.conllu is a file of 9 columns, and no CoNLL-U: it has ten, with tabs between, the first a number"
    assert said_of_it in said(read_tagged, file(LINE.replace("\t_\n", "\n"), "a.conllu"))


def test_a_tag_that_is_not_known_is_named_by_its_line(file):
    (found,) = read_sentences(file("the\tDET\ncat\tNOUM\n\nthe\tDET\n"))
    assert "a.txt, line 2: no tag of the model is called 'NOUM'; did you mean 'NOUN'?" in said(
        found.tags, known=["DET", "NOUN"]
    )
    assert found.tags(known=["DET", "NOUM"]) == found.tags()
    (found,) = read_sentences(file("the\tDET\ncat\t\n"))
    assert "line 2, is 'cat\\t': no tag in column 2" in said(found.tags, known=["DET"])


def test_files_of_more_than_one_kind_are_refused(file):
    two, three, conllu = file("a\tB\n", "two"), file("a b C\n", "three"), file(CONLLU, "conllu")
    assert "two is a file of 2 columns, " in said(read_tagged, [two, three])
    assert said(read_tagged, [two, conllu]).endswith("conllu CoNLL-U; give files of one kind together")


@pytest.mark.parametrize(
    ("words", "tags", "expected"),
    [
        ([["a", "b"]], [["A"]], "sentence 0 has 2 words and 1 tag; expected a tag a word"),
        ([["a"], []], [["A"], []], "sentence 1 is empty; leave it out"),
        ([["a"]], [["A"], ["B"]], "there are 1 sentence, and tags of 2"),
        ([], [], "there are 0 sentences"),
        (["ab"], [["A", "B"]], "the words of sentence 0 are 'ab'; expected a list of words"),
        (None, [["A"]], "the words of sentences are None; expected a list of lists of words"),
        ([None], [["A"]], "the words of sentence 0 are None; expected a list of words"),
        ([["a"]], [[""]], "the tags of sentence 0 are ['']; expected a list of tags"),
    ],
)
def test_sentences_in_memory_are_looked_at(words, tags, expected):
    assert expected in said(Tagged(words, tags).checked)


@pytest.mark.parametrize(("given", "column"), [("xpos", "xpos"), (3, "3"), ("3", "3")])
def test_a_column_is_a_name_or_a_number(given, column):
    assert check_column("column", given) == column


@pytest.mark.parametrize("odd", ["", " ", 0, True, None, 1.5, ["upos"]])
def test_what_is_no_column_is_said(odd):
    said(check_column, "column", odd)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_conllu_comes_back_with_one_column_replaced(file, end):
    text = "\ufeff" + CONLLU.replace("\n", end)
    path = file(text, "a.conllu")
    gold = read_tagged(path)
    (found,) = read_sentences(path)
    assert "".join(found.tagged(gold.tags)) == text
    expected = text
    for tag in ("NOUN", "AUX", "PART", "SYM"):
        expected = expected.replace(f"\t{tag}\t", "\tX\t")
    assert back(path, "X") == expected.replace("bark\tVERB\tVB\tVerb", "bark\tX\tVB\tVerb")  # not the empty node's
    assert back(path, "X", "deprel").count("\tX\t") == 5


def test_columns_come_back_with_a_column_more_or_replaced(file):
    path = file("-DOCSTART- -X-\n\nEU  NNP \nit PRP\n")
    (found,) = read_sentences(path)
    assert "".join(found.tagged([["A", "B"]])) == "-DOCSTART- -X- O\n\nEU  NNP A\nit PRP B\n"
    assert "".join(found.tagged([["A", "B"]], columns=2)) == "-DOCSTART- -X-\n\nEU  A \nit B\n"
    assert back(file("token\tpos\n1 2\tx\n", "b"), "T", "pos") == "token\tpos\n1 2\tT\n"
    assert back(file("token\tpos\n1 2\tx\n", "c"), "T", "ner") == "token\tpos\ttag\n1 2\tx\tT\n"
    assert back(file("one\ntwo\n\n\nthree", "d"), "T") == "one\tT\ntwo\tT\n\n\nthree\tT"


def test_plain_text_comes_back_as_words_and_tags(file):
    assert back(file("Dogs bark. Cats too."), "T", text=True) == "Dogs\tT\nbark\tT\n.\tT\n\nCats\tT\ntoo\tT\n.\tT\n\n"


@pytest.mark.parametrize(
    ("text", "columns", "plain"),
    [
        (CONLLU, 10, False),
        (NER, 4, False),
        (NER.replace("-DOCSTART-", "x"), 10, False),  # for its last column are tags
        ("Dogs bark\nCats meow\n", 2, True),
        ("Dogs bark.\n", 10, True),
        ("one two three four five six seven eight nine ten\n", 10, True),
        ("EU NNP\n" * 10, 3, False),
        ("EU NNP\n" * 10, 7, True),
        ("word\nword\n\nword\n", 2, False),
        ("word\n", 2, True),
        ("", 2, True),
        ("a\tb\n", 0, False),
    ],
)
def test_plain_text_is_told_from_columns(text, columns, plain):
    assert is_text(text.splitlines(keepends=True), columns, {"O", "B-ORG"}) is plain


def test_a_layout_knows_its_word():
    assert layout_of(["id\tForm\tNER", "1\ta\tO"]).word == 1
    assert layout_of(["x y z"]).names == ("word", "pos", "chunk")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See https://a.b/c?d=1, or mail x.y@z.org.", "See https://a.b/c?d=1 , or mail x.y@z.org ."),
        ("It's 10:30 -- well... 3.5%!!", "It's 10:30 -- well ...|3.5 % !!"),
        ("M. Anderson left. (He had to.) So?", "M . Anderson left .|( He had to . )|So ?"),
        ("Mr. Lee came. Dr. No left.", "Mr . Lee came .|Dr . No left ."),
        (". a", ". a"),
        ("one\n\ntwo", "one|two"),
        ("he said. but no", "he said . but no"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
    ],
)
def test_plain_text_is_cut_by_a_small_rule(text, expected):
    assert "|".join(" ".join(words) for words in sentences(text)) == expected
