from wood_nb.base.table import Table


def test_numbers_stand_on_the_right_and_text_is_escaped():
    shown = Table(['class', 'p'], [['<b>', .98765], ['sea', None]])._repr_html_()
    assert '<b>' not in shown and '&lt;b&gt;' in shown
    assert 'text-align:right' in shown.split('0.988')[0].rsplit('<', 1)[1], 'three digits, on the right'
    assert shown.count('text-align:right') == 3, 'the name of the column, the number, and the gap below it'


def test_the_same_as_text():
    assert repr(Table(['class', 'pixels'], [['boat', 1234.5], ['train', None]])) == 'class  pixels\nboat   1,234\ntrain'
